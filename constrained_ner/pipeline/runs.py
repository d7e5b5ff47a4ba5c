"""Runs over many documents: records in a file as they come, and runs that go on where they stopped.

The documents are answered in chunks, each with an engine of its own, so that what a record says
depends on nothing before its chunk. A run that was killed goes on with the chunk that it was in,
and ends with the file that an uninterrupted run writes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from constrained_ner.atomic import whole
from constrained_ner.documents import Document
from constrained_ner.errors import InputError
from constrained_ner.pipeline.prediction import Prediction, Summary
from constrained_ner.pipeline.predictor import Predictor

CHUNK = 64  # documents


def run(
    predictor: Predictor,
    documents: Iterable[Document | InputError],
    path: Path,
    *,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    summary: Summary | None = None,
) -> Iterator[Prediction]:
    """Answer documents and write a line of JSON for each to a file, in their order.

    Parameters
    ----------
    resume: go on with what the file holds; without such a file the run begins.
    settings: what makes a run this one; they stand in a file beside `path` until the run is done.
    summary: is told of the documents that were done before.

    Yields
    ------
    Each prediction once its record is written; not those whose records were there before.

    Raises
    ------
    InputError: the file cannot be written; or it holds an unfinished run that is not to be gone on
        with, one with other settings, or records of other documents.
    """
    mark = path.with_name(f".{path.name}.run")
    source = iter(documents)
    try:
        _claim(path, mark, settings or {}, resume)
        with path.open("r+b" if resume and path.exists() else "w+b") as file:
            chunk = _pass_over(source, file, path, summary or Summary())
            while chunk:
                for prediction in predictor.predict(chunk):
                    file.write(line_of(prediction).encode())
                    file.flush()
                    yield prediction
                chunk = list(islice(source, CHUNK))
            os.fsync(file.fileno())
        mark.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot be written: {reason}", error.filename or path) from None


def line_of(prediction: Prediction) -> str:
    """The record of a prediction, a line of JSON."""
    return json.dumps(prediction.to_json(), ensure_ascii=False) + "\n"


def _claim(path: Path, mark: Path, settings: Mapping[str, Any], resume: bool) -> None:
    """Have the settings beside the file, and see that they are those of the run that it holds."""
    text = json.dumps(settings, ensure_ascii=False, indent=1, sort_keys=True, default=str)
    if path.exists() and mark.exists():
        if not resume:
            raise InputError("holds an unfinished run: --resume it, or remove it", path)
        before, now = _settings_of(mark), json.loads(text)
        if other := [key for key in now if now[key] != before.get(key)]:
            raise InputError(
                f"holds a run with another {' and another '.join(other)}: expected the options of "
                "that run, or another file",
                path,
            )
        return
    with whole(mark) as part:
        part.write_text(text + "\n", encoding="utf-8")


def _settings_of(mark: Path) -> dict[str, Any]:
    try:
        settings = json.loads(mark.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise InputError(
            "damaged: expected the options of the run beside it; remove this file to go on with "
            "that run by the options given",
            mark,
        )
    return settings


def _pass_over(
    source: Iterator[Document | InputError], file: BinaryIO, path: Path, summary: Summary
) -> list[Document | InputError]:
    """Pass over the chunks whose records are all there; cut off the rest of the file.

    Returns
    -------
    The first chunk that is to be answered; empty where there is none.
    """
    number = at = 0
    while chunk := list(islice(source, CHUNK)):
        lines = [line for line in islice(file, len(chunk)) if line.endswith(b"\n")]
        for document, line in zip(chunk, lines, strict=False):
            number += 1
            record = _record(line, path, number)
            expected = document.id if isinstance(document, Document) else ""
            if record["id"] != expected:
                raise InputError(
                    f"the record of {record['id']!r}, where {expected!r} was expected: the run was "
                    "over other documents",
                    path,
                    number,
                )
            if len(lines) == len(chunk):
                summary.pass_over(record)
        if len(lines) < len(chunk):
            break
        at += sum(map(len, lines))
    file.seek(at)
    file.truncate()
    return chunk


def _record(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if (
        not isinstance(record, dict)
        or not isinstance(record.get("id"), str)
        or not isinstance(record.get("error", ""), str)
        or not _left_out(record.get("left_out", []))
    ):
        raise InputError("not a record of a run: expected what `cner predict` writes", path, number)
    return record


def _left_out(value: object) -> bool:
    """Whether it is a list of segments and why they were left out."""
    return isinstance(value, list) and all(isinstance(one, list) and len(one) == 3 for one in value)
