"""Runs over many documents: a file of records that grows, and that a later run can go on with.

Documents are answered in chunks, and each chunk has an engine of its own, so that no record depends
on anything before its chunk. A run that was killed goes on with the chunk that it was in, and ends
with the file that an uninterrupted run writes. A long document ends its chunk.

Each record carries a fingerprint of everything that it was made from: the settings of the run, and
the id, text, passages and own keys of its document. A record is kept only if the fingerprint is
still the same, whether the run before was finished or not.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from constrained_ner.atomic import whole
from constrained_ner.corpora.files import File
from constrained_ner.corpora.json_records import json_line, read_records
from constrained_ner.documents import Document
from constrained_ner.errors import CnerError, InputError
from constrained_ner.locks import locked, unlock
from constrained_ner.pipeline.prediction import Prediction, Summary

CHUNK = 64  # documents
CHUNK_SIZE = 16_000  # characters: a chunk has no further document once it has so many
FINGERPRINT = "fingerprint"  # the key of a record
RECORDS = "records"  # what the files of a run are, if they are nothing else
SHARDS = ".shards.jsonl"  # in a folder of outputs: which of them are finished
GO_ON = "--resume it, or begin anew with --overwrite"
Chunk = Sequence[Document | InputError]


class Answers(Protocol):
    """What answers the chunks of a run: a predictor, or workers that have one each."""

    def predict_chunks(self, chunks: Iterable[Chunk]) -> Iterator[Iterable[Prediction]]:
        """A prediction for each document of each chunk, in their order.

        Chunks may be drawn before those in front of them are answered.
        """


class Run:
    """A file that gets one line of JSON for each document, in their order.

    Creating a run only reads: it looks for records that can be kept, so that whatever is wrong with
    them is known before a model is loaded. `answer` does the rest. From then until it is done the
    file is locked (`.NAME.lock`), so that no other run writes it.

    Parameters
    ----------
    documents: read as they are needed, a chunk at a time.
    path: the file of records.
    settings: what the answers depend on besides the documents, as values for JSON. While the run is
        unfinished they stand in a file beside `path`, `.NAME.run`.
    resume: keep the records that the file holds. Where there is no such file, the run begins.
    overwrite: make the file anew, whatever it holds.
    summary: is told of the documents whose records are kept.

    Raises
    ------
    InputError: the file cannot be written, or another run is writing it; it holds an unfinished
        run, and neither is set; or its records are not those of these documents and settings, or
        there are more of them than documents. It is left as it was.
    """

    def __init__(
        self,
        documents: Iterable[Document | InputError],
        path: Path,
        settings: Mapping[str, Any] | None = None,
        *,
        resume: bool = False,
        overwrite: bool = False,
        summary: Summary | None = None,
    ):
        self.path = path
        self._source = iter(documents)
        self._settings = settings_text(settings or {})
        self._mark = path.with_name(f".{path.name}.run")
        self._kept = 0  # bytes of the file
        self._lock = locked(path)
        try:
            check_unfinished(path, resume=resume or overwrite)
            self._goes_on = resume and path.exists()
            if self._goes_on:
                self._chunk = self._keep(summary or Summary())
            else:
                self._chunk = self._next_chunk()
        except BaseException:
            unlock(self._lock)
            raise

    def answer(self, predictor: Callable[[], Answers]) -> Iterator[Prediction]:
        """Answer the documents that have no record yet.

        Parameters
        ----------
        predictor: makes what answers; not called where every document has its record.

        Yields
        ------
        Each new prediction once its record is written, or waits to replace those of its chunk.

        Raises
        ------
        InputError: the file cannot be written.
        """
        try:
            if self._chunk:
                yield from self._answer(predictor())
            elif not self._goes_on:
                self.path.write_bytes(b"")  # there are no documents
            self._mark.unlink(missing_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            place = error.filename or self.path
            raise InputError(f"cannot be written: {reason}", place) from None
        finally:
            unlock(self._lock)

    def _answer(self, predictor: Answers) -> Iterator[Prediction]:
        self._leave_mark()
        drawn: deque[Chunk] = deque()
        with self.path.open("r+b" if self._goes_on else "wb") as file:
            # A chunk that was not full is asked about again, as a whole. Its records stay until
            # there are as many new ones, however the run may end.
            replaced = file.seek(0, os.SEEK_END) - self._kept
            file.seek(self._kept)
            waiting = b""
            for predictions in predictor.predict_chunks(self._chunks(drawn)):
                for document, prediction in zip(drawn.popleft(), predictions, strict=True):
                    waiting += line_of(prediction, self._fingerprint(document)).encode()
                    if len(waiting) >= replaced:
                        file.write(waiting)
                        file.truncate()
                        file.flush()
                        waiting, replaced = b"", 0
                    yield prediction
            file.write(waiting)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

    def _chunks(self, drawn: deque[Chunk]) -> Iterator[Chunk]:
        """Those that have no records yet; `drawn` gets each of them, too."""
        while self._chunk:
            drawn.append(self._chunk)
            yield self._chunk
            self._chunk = self._next_chunk()

    def _next_chunk(self) -> Chunk:
        """Up to `CHUNK` documents: fewer, where they are long.

        What is done of a chunk when a run is killed is done again, so that its bytes are the same.
        """
        chunk: list[Document | InputError] = []
        size = 0
        for document in islice(self._source, CHUNK):
            chunk.append(document)
            size += len(document.text) if isinstance(document, Document) else 0
            if size >= CHUNK_SIZE:
                break
        return chunk

    def _leave_mark(self) -> None:
        """Put the settings beside the file: they mark it as unfinished."""
        text = (self._settings + "\n").encode()
        if not self._mark.exists() or self._mark.read_bytes() != text:
            with whole(self._mark) as part:
                part.write_bytes(text)

    def _fingerprint(self, document: Document | InputError) -> str:
        return fingerprint_of(document, self._settings)

    # ---- records that are there already

    def _keep(self, summary: Summary) -> Chunk:
        """Find the chunks whose records are all there.

        Returns
        -------
        The first chunk that has to be answered; empty where there is none.
        """
        number = 0
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", self.path) from None
        with file:
            while chunk := self._next_chunk():
                # A run that was killed may have left half a line at the end.
                found = list(islice(file, len(chunk)))
                lines = [line for line in found if line.endswith(b"\n")]
                if found and not lines and not number and not _begins(found[0], chunk[0]):
                    raise InputError(
                        "holds no whole line, and no beginning of the first record: expected "
                        "another file",
                        self.path,
                    )
                records = []
                for document, line in zip(chunk, lines, strict=False):
                    number += 1
                    records.append(self._record(line, document, number))
                if len(lines) < len(chunk):
                    return chunk
                self._kept += sum(map(len, lines))
                for record in records:
                    summary.pass_over(record)
            if file.read(1):
                raise InputError(
                    f"holds records of more than the {number} documents that there are now: "
                    "expected the documents of that run, or another file",
                    self.path,
                )
        return []

    def _record(self, line: bytes, document: Document | InputError, number: int) -> dict[str, Any]:
        """The record of a line, which has to be this document's, made with these settings."""
        record = _parsed(line, self.path, number)
        if record.get(FINGERPRINT) != self._fingerprint(document):
            raise InputError(self._difference(record, document), self.path, number)
        return record

    def _difference(self, record: Mapping[str, Any], document: Document | InputError) -> str:
        """Why a record is not this document's, made with these settings."""
        id = document.id if isinstance(document, Document) else ""
        if record["id"] != id:
            return (
                f"the record of {record['id']!r}, where {id!r} was expected: the run was over "
                "other documents"
            )
        if FINGERPRINT not in record:
            return (
                "the record does not say with which settings it was made: expected what "
                f"`cner predict --output` writes, with the key {FINGERPRINT!r}"
            )
        if "text" in record and record["text"] != getattr(document, "text", None):
            return f"the record of {id!r} is of another text: expected that of the run"
        if isinstance(document, Document) and record.get("meta", {}) != document.meta:
            return f"the record of {id!r} has other keys of its own: expected those of the run"
        # Of a document that failed, the record does not hold the text.
        other = "other settings" if "text" in record else "other settings, or of another text"
        names = self._other_settings()
        which = f" ({', '.join(names)})" if names else ""
        return f"made with {other}{which}: expected those of that run, or another file"

    def _other_settings(self) -> list[str]:
        """The names of the settings that differ; empty where the run is finished."""
        try:
            before = json.loads(self._mark.read_bytes())
        except (OSError, ValueError, RecursionError):
            before = None
        now = json.loads(self._settings)
        known = before if isinstance(before, dict) else now
        return [name for name in now if now[name] != known.get(name)]


def settings_text(settings: Mapping[str, Any]) -> str:
    """The settings of a run as they go into fingerprints."""
    return json.dumps(settings, ensure_ascii=False, indent=1, sort_keys=True, default=str)


def fingerprint_of(document: Document | InputError, settings: str) -> str:
    """What a record is made from, as 16 hexadecimal digits."""
    source: Any
    if isinstance(document, Document):
        source = [document.id, document.text, [astuple(one) for one in document.passages]]
        source += [document.meta] if document.meta else []
    else:
        source = document.reason
    return sha256(json.dumps([settings, source]).encode()).hexdigest()[:16]


def check_unfinished(path: Path, ways: str = GO_ON, *, resume: bool) -> None:
    """See that no unfinished run is overwritten.

    Parameters
    ----------
    ways: what can be done, for the message.

    Raises
    ------
    InputError: the file holds one, and `resume` is not set.
    """
    if not resume and path.exists() and path.with_name(f".{path.name}.run").exists():
        raise InputError(f"holds an unfinished run: {ways}", path)


def line_of(prediction: Prediction, fingerprint: str | None = None) -> str:
    """The record of a prediction, as a line of JSON."""
    record: dict[str, Any] = prediction.to_json()
    if fingerprint is not None:
        record[FINGERPRINT] = fingerprint
    return json_line(record)


def predictions_in(path: Path) -> Iterator[Prediction]:
    """The predictions of a file of records.

    Raises
    ------
    InputError: the file is missing, or a line is not one; with its number.
    """
    for record in read_records(File.on_disk(path)):
        if isinstance(record, InputError):
            raise record
        if not isinstance(record.value, dict):
            raise record.error("expected an object")
        try:
            yield Prediction.from_json(record.value)
        except CnerError as error:
            raise record.error(str(error)) from None


def kind_of_shards(folder: Path) -> str:
    """What the files in a folder of shards are: `RECORDS`, or the name of an output format.

    Raises
    ------
    InputError: the folder does not say it.
    """
    journal = folder / SHARDS
    try:
        return str(json.loads(journal.read_bytes().splitlines()[0])["kind"])
    except (ValueError, TypeError, LookupError):
        raise InputError("does not say what shards these are", journal, 1) from None


def _begins(half: bytes, document: Document | InputError) -> bool:
    """Whether half a line may be of the record of a document."""
    id = document.id if isinstance(document, Document) else ""
    head = json_line({"id": id}).encode().rstrip(b"}\n")
    return half.startswith(head) or head.startswith(half)


def _parsed(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if (
        not isinstance(record, dict)
        or not isinstance(record.get("id"), str)
        or not isinstance(record.get("error", ""), str)
        or not _is_left_out(record.get("left_out", []))
    ):
        raise InputError("not a record of a run: expected what `cner predict` writes", path, number)
    return record


def _is_left_out(value: object) -> bool:
    """Whether it is a list of segments and why they were left out."""
    return isinstance(value, list) and all(isinstance(one, list) and len(one) == 3 for one in value)
