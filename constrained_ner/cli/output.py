"""What `cner predict` writes: records as they come, and in the end what is made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from constrained_ner.atomic import check_writable
from constrained_ner.cli.options import check_apart, check_replaceable
from constrained_ner.corpora import (
    OUTPUT_FORMATS,
    ConversionLosses,
    check_output,
    detect_output_format,
    write,
)
from constrained_ner.corpora.jsonl import document_from_json
from constrained_ner.documents import Document
from constrained_ner.errors import InputError
from constrained_ner.evaluation.records import record_of
from constrained_ner.pages import write_page
from constrained_ner.pipeline.runs import GO_ON, RECORDS, check_unfinished, predictions_in
from constrained_ner.pipeline.segments import sentences

PAGE = "html"
KINDS = (RECORDS, PAGE, *(name for name in OUTPUT_FORMATS if name != "jsonl"))
_PAGE_SUFFIXES = (".html", ".htm")


@dataclass(frozen=True)
class Output:
    """A file or folder, and what is to be in it.

    Attributes
    ----------
    kind: one of `KINDS`.
    from_columns: looks whether the documents come from columns; see `column_options`.
    """

    path: Path
    kind: str
    from_columns: Callable[[], bool]

    @classmethod
    def of(cls, path: Path, kind: str | None, from_columns: Callable[[], bool]) -> Output:
        """With the kind that its suffix asks for, where none is given.

        Raises
        ------
        InputError: no kind has the suffix.
        """
        if kind is not None:
            return cls(path, kind, from_columns)
        if path.suffix.lower() in _PAGE_SUFFIXES:
            return cls(path, PAGE, from_columns)
        try:
            found = detect_output_format(path)
        except InputError as error:
            reason = f"{error.reason}; {PAGE}: {' '.join(_PAGE_SUFFIXES)}"
            raise InputError(reason, path) from None
        return cls(path, RECORDS if found == "jsonl" else found, from_columns)

    @property
    def records(self) -> Path:
        """The file of records, of which the output is made in the end if it is something else."""
        if self.kind == RECORDS:
            return self.path
        path = self.path if self.path.name else self.path.absolute()  # the working folder
        return path.with_name(f".{path.name}.records")

    def check(self, input: Path | None, *, resume: bool | None, overwrite: bool) -> None:
        """See what is wrong with it before a model is loaded.

        Parameters
        ----------
        resume: None of a command that goes on with no run.

        Raises
        ------
        InputError: it cannot be written; it, or an unfinished run for it, is there, and is neither
            to be replaced nor to be gone on with; it is finished where it should be gone on with;
            or it would become part of the input.
        MissingExtraError: its format needs a package that is not installed.
        """
        # A page may lie in the folder of what it shows: it is not read.
        if input is not None and (self.kind != PAGE or input.is_file()):
            check_apart(self.path, input)
        if resume is None:
            unfinished, finished, unmade = "--overwrite begins anew", "", "remove them"
        else:
            unfinished, unmade = GO_ON, "--resume makes it, or remove them"
            # The records of what was made of them are gone.
            grows = self.kind == RECORDS
            finished = "; --resume goes on with a run that is the same" if grows else ""
        check_unfinished(self.records, unfinished, resume=bool(resume) or overwrite)
        if not resume:
            check_replaceable(self.path, overwrite=overwrite, else_=finished)
        if self.records != self.path and self.records.exists() and not (resume or overwrite):
            raise InputError(
                f"holds answers, of which {str(self.path)!r} was not made: {unmade}", self.records
            )
        if self.kind in (RECORDS, PAGE):
            check_writable(self.path)
        else:
            check_output(self.path, self.kind)
        if resume and _holds_something(self.path) and not self.records.exists():
            raise InputError(
                "is finished, and its records are gone: expected a run to resume; --overwrite "
                "makes it anew",
                self.path,
            )

    def finish(self, documents: Iterable[Document | InputError]) -> ConversionLosses:
        """Make it of the records, which are removed then; where it is the records, it is done.

        Parameters
        ----------
        documents: read once more, for the gold entities of a page.

        Returns
        -------
        What its kind cannot hold.
        """
        losses = ConversionLosses()
        if self.kind == RECORDS:
            return losses
        if self.kind == PAGE:
            beside = chain(documents, repeat(None))  # in the order of the records
            shown = map(record_of, predictions_in(self.records))
            gold = (
                (record, one if isinstance(one, Document) and one.id == record.id else None)
                for record, one in zip(shown, beside, strict=False)
            )
            write_page(gold, self.path, title=self.path.stem)
        else:
            answered = (
                document_from_json(record)
                for record in _read(self.records)
                if "error" not in record
            )
            columns = "words" in OUTPUT_FORMATS[self.kind].options and self.from_columns()
            losses = write(answered, self.path, self.kind, **column_options(self.kind, columns))
        self.records.unlink()
        return losses


def column_options(
    output_format: str, from_columns: bool, words: str | None = None
) -> dict[str, Any]:
    """How `write` cuts texts into tokens and sentences; nothing for what is no columns.

    Parameters
    ----------
    from_columns: whether the texts come from columns: their tokens are the runs of non-space, and
        each is one block, as it was read.
    words: kind of tokens; by default these, or else `fine` ones.
    """
    if "words" not in OUTPUT_FORMATS[output_format].options:
        return {}
    if from_columns:
        return {"words": words or "space"}
    return {"words": words or "fine", "sentences": sentences}


def _holds_something(path: Path) -> bool:
    if path.is_dir():
        return any(path.iterdir())
    return path.is_file() and path.stat().st_size > 0


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
