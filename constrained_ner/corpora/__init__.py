"""Readers of corpora: a path in, documents out.

A reader yields a `Document` for each good record and an `InputError` for each broken one, so that
one bad record never loses the others. Oddities that it can repair or skip go to the logger
`constrained_ner.corpora`, with file and line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from constrained_ner.corpora import brat, iob, jsonl, text
from constrained_ner.corpora.files import numbered_lines
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

__all__ = ["INPUT_FORMATS", "Reader", "detect_format", "read_documents"]

Reader = Callable[[str | Path], Iterator[Document | InputError]]

INPUT_FORMATS: dict[str, Reader] = {
    "text": text.read,
    "lines": text.read_lines,
    "jsonl": jsonl.read,
    "iob2": iob.read,
    "nested_iob": iob.read_nested,
    "brat": brat.read,
}

COLUMN_SUFFIXES = (".tsv", ".conll", ".iob", ".iob2", ".bio")
JSONL_SUFFIXES = (".jsonl", ".ndjson", ".json")


def _names() -> str:
    return ", ".join(INPUT_FORMATS)


def _detect_columns(path: Path) -> str | None:
    """`iob2` or `nested_iob`, or None if the tags do not look like either."""
    rows = iob.sample_rows(path)
    # most rows, not all, so that a wrong tag costs its own sentence only
    tagged = sum(all(map(iob.TAG.fullmatch, row[1:])) for row in rows)
    if rows and (len(rows[0]) < 2 or 2 * tagged < len(rows)):
        return None
    return "iob2" if not rows or len(rows[0]) == 2 else "nested_iob"


def _detect_text(path: Path) -> str | None:
    if path.with_suffix(".ann").is_file():
        return "brat"
    lines = list(islice(_good_lines(path), iob.SAMPLE_LINES))
    last = [line.rsplit("\t", 1)[1].strip() for line in lines if "\t" in line]
    # columns that end in tags but are neither format (a part of speech, say) are no plain text
    if 2 * sum(iob.TAG.fullmatch(tag) is not None for tag in last) > len(lines):
        return _detect_columns(path)
    return "text"


def _good_lines(path: Path) -> Iterator[str]:
    return (line for _, line in numbered_lines(path) if isinstance(line, str) and line.strip())


def detect_format(path: str | Path) -> str:
    """The name of the format of a file or folder, from its name and its first lines.

    Raises
    ------
    InputError: the path is missing, or is of no known format.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.exists():
        raise InputError("no such file or folder", path)
    if path.is_dir() or brat.is_archive(path) or suffix == ".ann":
        return "brat"
    found = None
    if suffix == ".txt":
        found = _detect_text(path)
    elif suffix in COLUMN_SUFFIXES:
        found = _detect_columns(path)
    elif suffix in JSONL_SUFFIXES:
        first = next(_good_lines(path), "").strip()
        # a file that is one JSON value over many lines is something else
        found = None if suffix == ".json" and (first == "{" or first[:1] == "[") else "jsonl"
    if found is None:
        raise InputError(f"format not recognised: name one of {_names()}", path)
    return found


def read_documents(
    path: str | Path, input_format: str | None = None
) -> Iterator[Document | InputError]:
    """The documents of a file, folder or archive; an `InputError` in place of a broken record.

    Parameters
    ----------
    input_format: a key of `INPUT_FORMATS`; by default it is recognised.

    Raises
    ------
    InputError: with the first document: the path is missing, the whole file cannot be read, or
        the format is unknown.
    """
    if input_format is None:
        input_format = detect_format(path)
    if input_format not in INPUT_FORMATS:
        raise InputError(f"unknown input format {input_format!r}: there are {_names()}", path)
    yield from INPUT_FORMATS[input_format](path)
