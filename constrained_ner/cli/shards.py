"""A folder of files with so many documents each, in place of one large file.

Each shard is a run of its own. `.shards.jsonl` in the folder says what kind of files they are, and
names those that are finished, with a fingerprint of their documents and of all settings: going on
passes over them without reading them. A folder without it is somebody else's, and nothing but what
it is about is ever replaced. From the beginning to the end the folder is locked.
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

from filelock import FileLock

from constrained_ner.atomic import whole_lines
from constrained_ner.cli.messages import report_losses
from constrained_ner.cli.output import Output
from constrained_ner.corpora import OUTPUT_FORMATS, ConversionLosses, check_output
from constrained_ner.corpora.json_records import json_line
from constrained_ner.documents import Document
from constrained_ner.errors import InputError
from constrained_ner.locks import locked_in, unlock
from constrained_ner.pipeline.prediction import Prediction, Summary
from constrained_ner.pipeline.runs import (
    RECORDS,
    SHARDS,
    Answers,
    Run,
    fingerprint_of,
    kind_of_shards,
    settings_text,
)

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
    resume: bool
    overwrite: bool
    from_columns: Callable[[], bool]
    _lock: FileLock
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
        from_columns: Callable[[], bool],
    ) -> Shards:
        """A folder that can be written; it is made.

        Parameters
        ----------
        kind: one of `KINDS`, of each file. `size`: how many documents each is of.
        settings, resume, overwrite: see `Run`. `from_columns`: see `Output`.

        Raises
        ------
        InputError: it is a file, or the one above it is not there; another run is writing it; it
            holds something else than shards, or shards that are neither to be gone on with nor to
            be replaced, or of another kind or size; or shards cannot be of this kind.
        MissingExtraError: they need a package that is not installed.
        """
        if kind not in KINDS:
            raise InputError(f"--shard-size is for files of {', '.join(KINDS)}, not for {kind}")
        if folder.exists() and not folder.is_dir():
            raise InputError("is a file: expected a folder for --shard-size", folder)
        if not folder.parent.is_dir():
            raise InputError(
                f"cannot be written: there is no folder {str(folder.parent)!r}", folder
            )
        made = not folder.exists()
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", folder) from None
        lock = locked_in(folder, "shards")
        shards = cls(folder, kind, size, settings, resume, overwrite, from_columns, lock)
        try:
            shards._check()
        except BaseException:
            unlock(shards._lock)
            if made:
                folder.rmdir()
            raise
        return shards

    def _check(self) -> None:
        if self.kind != RECORDS:
            check_output(self._output(0).path, self.kind)
        if not whole_lines(self._journal):  # no run has begun
            ours = {self._journal, Path(self._lock.lock_file)}
            if other := sorted(set(self.folder.iterdir()) - ours):
                raise InputError(
                    f"holds {other[0].name!r}, and no shards: expected a new or an empty folder",
                    self.folder,
                )
            return
        if not (self.resume or self.overwrite):
            raise InputError(
                "holds shards: --resume goes on with a run that is the same, --overwrite makes "
                "them anew",
                self.folder,
            )
        if kind_of_shards(self.folder) not in KINDS:
            raise InputError("does not say what shards these are", self._journal, 1)
        if self.resume:
            self._read_journal()

    @property
    def _journal(self) -> Path:
        return self.folder / SHARDS

    @property
    def _head(self) -> dict[str, Any]:
        return {"kind": self.kind, "shard size": self.size}

    @property
    def finished_documents(self) -> int:
        """How many documents are in shards that are finished."""
        return sum(record["documents"] for record in self._finished.values())

    def _read_journal(self) -> None:
        for number, line in enumerate(whole_lines(self._journal), 1):
            try:
                record = json.loads(line)
                if number > 1:
                    documents = int(record["documents"])
                    self._finished[record["shard"]] = {**record, "documents": documents}
            except (ValueError, TypeError, KeyError):
                raise InputError("names no finished shard", self._journal, number) from None
            if number == 1 and record != self._head:
                raise InputError(
                    f"holds shards of {record}, and {self._head} was asked for: expected those of "
                    "that run, or another folder",
                    self.folder,
                )

    def _begin(self) -> None:
        """Take the folder for these shards, in place of those that are there."""
        if whole_lines(self._journal):
            name = r"part-\d{5,}" + re.escape(_suffix(kind_of_shards(self.folder)))
            # With what a run leaves beside a file that is not finished.
            ours = re.compile(rf"{name}|\.{{1,3}}{name}(\.(records|run|lock|part|[0-9a-f]{{8}}))*")
            for path in list(self.folder.iterdir()):
                if ours.fullmatch(path.name):
                    path.unlink()
        self._journal.write_text(json_line(self._head), encoding="utf-8")

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
        losses = ConversionLosses()
        try:
            source, number = iter(documents), 0
            of_shard = list(islice(source, self.size))
            if not (self.resume and whole_lines(self._journal)):
                if of_shard:
                    answers()  # what is there stays until there is something to replace it
                self._begin()
            while of_shard:
                output = self._output(number)
                if (before := self._finished.get(output.path.name)) is not None:
                    self._check_finished(output.path, before, of_shard)
                    _pass_over(summary, before, of_shard)
                else:
                    yield from self._answer_shard(output, of_shard, answers, summary, losses)
                number += 1
                of_shard = list(islice(source, self.size))
            if self._output(number).path.exists():
                raise InputError(
                    f"holds more than the {number} shards of these documents: expected those of "
                    "that run, or another folder",
                    self.folder,
                )
            report_losses(losses)
        finally:
            unlock(self._lock)

    def _answer_shard(
        self,
        output: Output,
        documents: list[Document | InputError],
        answers: Callable[[], Answers],
        summary: Summary,
        losses: ConversionLosses,
    ) -> Iterator[Prediction]:
        failed, partly = len(summary.failed), len(summary.partly)
        run = Run(documents, output.records, self.settings, resume=self.resume, summary=summary)
        yield from run.answer(answers)
        losses.merge(output.finish(documents))
        record = {
            "shard": output.path.name,
            "documents": len(documents),
            "fingerprint": self._fingerprint(documents),
            "failed": summary.failed[failed:],
            "partly": summary.partly[partly:],
        }
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write(json_line(record))

    def _output(self, number: int) -> Output:
        path = self.folder / f"part-{number:05}{_suffix(self.kind)}"
        return Output(path, self.kind, self.from_columns)

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
                "is of other documents or settings: expected those of that run, or another folder "
                "(the last shard does not grow)",
                path,
            )


def _suffix(kind: str) -> str:
    return ".jsonl" if kind == RECORDS else OUTPUT_FORMATS[kind].suffixes[0]


def _pass_over(
    summary: Summary, before: Mapping[str, Any], documents: list[Document | InputError]
) -> None:
    summary.before += len(documents)
    summary.failed += before["failed"]
    summary.partly += before["partly"]
