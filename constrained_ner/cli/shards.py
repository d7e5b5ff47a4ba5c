"""A folder of files with so many documents each, in place of one large file.

Each shard is a run of its own. `.shards.jsonl` in the folder names those that are finished, with a
fingerprint of their documents and of all settings: going on passes over them without reading them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from constrained_ner.cli.output import RECORDS, Output
from constrained_ner.corpora import OUTPUT_FORMATS, check_output
from constrained_ner.corpora.json_records import json_line
from constrained_ner.documents import Document
from constrained_ner.errors import InputError
from constrained_ner.pipeline.prediction import Prediction, Summary
from constrained_ner.pipeline.runs import Answers, Run, fingerprint_of, settings_text

_JOURNAL = ".shards.jsonl"
_SHARD = re.compile(r"\.?part-\d{5,}\.")  # not those of other programs, which go on otherwise
KINDS = (
    RECORDS,
    *(
        name
        for name, format in OUTPUT_FORMATS.items()
        if name != "jsonl" and not format.folder and format.suffixes
    ),
)


@dataclass
class Shards:
    """A folder of outputs; see `of`."""

    folder: Path
    kind: str
    size: int
    settings: Mapping[str, Any]
    resume: bool = False
    overwrite: bool = False
    _finished: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        folder: Path,
        kind: str,
        size: int,
        settings: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool,
    ) -> Shards:
        """A folder that can be written.

        Parameters
        ----------
        kind: one of `KINDS`, of each file. `size`: how many documents each is of.
        settings, resume, overwrite: see `Run`.

        Raises
        ------
        InputError: it is a file, or the one above it is not there; it holds shards, and is neither
            to be gone on with nor to be replaced; or shards cannot be of this kind.
        MissingExtraError: they need a package that is not installed.
        """
        if kind not in KINDS:
            raise InputError(f"--shard-size is for files of {', '.join(KINDS)}, not for {kind}")
        made = cls(folder, kind, size, settings, resume, overwrite)
        made._check()
        return made

    def _check(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError("is a file: expected a folder for --shard-size", self.folder)
        if not self.folder.parent.is_dir():
            raise InputError(
                f"cannot be written: there is no folder {str(self.folder.parent)!r}", self.folder
            )
        there = self._there()
        if there and not (self.resume or self.overwrite):
            raise InputError(
                f"holds shards, {there[0].name} the first: --resume goes on with a run that is the "
                "same, --overwrite makes them anew",
                self.folder,
            )
        if self.kind != RECORDS and self.folder.is_dir():
            check_output(self._output(0).path, self.kind)
        if self.resume and (self.folder / _JOURNAL).exists():
            self._read_journal(self.folder / _JOURNAL)

    def _there(self) -> list[Path]:
        """The shards in the folder, and the files beside those that are not finished."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _SHARD.match(path.name))

    def _read_journal(self, journal: Path) -> None:
        text = journal.read_text(encoding="utf-8")
        kept = text[: text.rfind("\n") + 1]
        if kept != text:  # a run that was killed may have left half a line at the end
            journal.write_text(kept, encoding="utf-8")
        for number, line in enumerate(kept.splitlines(), 1):
            try:
                record = json.loads(line)
                self._finished[record["shard"]] = record
            except (ValueError, TypeError, KeyError):
                raise InputError("names no finished shard", journal, number) from None

    def answer(
        self,
        documents: Iterable[Document | InputError],
        answers: Callable[[], Answers],
        summary: Summary,
    ) -> Iterator[Prediction]:
        """Answer all documents, and finish shard after shard; see `Run.answer`.

        Raises
        ------
        InputError: a finished shard is of other documents or settings, or gone.
        """
        self.folder.mkdir(exist_ok=True)
        if self.overwrite:
            for path in (*self._there(), self.folder / _JOURNAL):
                path.unlink(missing_ok=True)
        source, number = iter(documents), 0
        while of_shard := list(islice(source, self.size)):
            output = self._output(number)
            if (before := self._finished.get(output.path.name)) is not None:
                self._check_finished(output.path, before, of_shard)
                _pass_over(summary, before, of_shard)
            else:
                yield from self._answer_shard(output, of_shard, answers, summary)
            number += 1
        if self._output(number).path.exists():
            raise InputError(
                f"holds more than the {number} shards of these documents: expected those of that "
                "run, or another folder",
                self.folder,
            )

    def _answer_shard(
        self,
        output: Output,
        documents: list[Document | InputError],
        answers: Callable[[], Answers],
        summary: Summary,
    ) -> Iterator[Prediction]:
        failed, partly = len(summary.failed), len(summary.partly)
        run = Run(documents, output.records, self.settings, resume=self.resume, summary=summary)
        yield from run.answer(answers)
        output.finish(documents)
        record = {
            "shard": output.path.name,
            "documents": len(documents),
            "fingerprint": self._fingerprint(documents),
            "failed": summary.failed[failed:],
            "partly": summary.partly[partly:],
        }
        with (self.folder / _JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json_line(record))

    def _output(self, number: int) -> Output:
        suffix = ".jsonl" if self.kind == RECORDS else OUTPUT_FORMATS[self.kind].suffixes[0]
        return Output(self.folder / f"part-{number:05}{suffix}", self.kind)

    def _fingerprint(self, documents: Iterable[Document | InputError]) -> str:
        settings = settings_text(self.settings)
        digest = sha256()
        for document in documents:
            digest.update(fingerprint_of(document, settings).encode())
        return digest.hexdigest()[:16]

    def _check_finished(
        self, path: Path, before: Mapping[str, Any], documents: list[Document | InputError]
    ) -> None:
        if not path.exists():
            raise InputError("is finished, and it is gone: expected it in its folder", path)
        if before["fingerprint"] != self._fingerprint(documents):
            raise InputError(
                "is of other documents or settings: expected those of that run, or another folder",
                path,
            )


def _pass_over(
    summary: Summary, before: Mapping[str, Any], documents: list[Document | InputError]
) -> None:
    summary.before += len(documents)
    summary.characters += sum(len(one.text) for one in documents if isinstance(one, Document))
    summary.failed += before["failed"]
    summary.partly += before["partly"]
