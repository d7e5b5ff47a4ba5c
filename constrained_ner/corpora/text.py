"""Plain text: one document a file, or one document a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from constrained_ner.corpora.files import BOM, clean_name, decode, numbered_lines, read_bytes
from constrained_ner.documents import Document
from constrained_ner.errors import InputError


def text_of(data: bytes, path: str | Path) -> str:
    r"""A whole file as a document's text: `\r\n` stays, a byte order mark is dropped.

    Raises
    ------
    InputError: not UTF-8, or nothing but white space.
    """
    text = decode(data, path).removeprefix(BOM)
    if not text.strip():
        raise InputError("empty text", path)
    return text


def read(path: str | Path) -> Iterator[Document | InputError]:
    r"""One document, its id the file's stem; `\r\n` stays, a byte order mark is dropped.

    A file of white space only is a broken record.

    Raises
    ------
    InputError: the file is missing or is not UTF-8.
    """
    data = read_bytes(path)
    decode(data, path)  # not UTF-8 is the whole file's failure: raise it, do not yield it
    try:
        yield Document(clean_name(Path(path).stem), text_of(data, path))
    except InputError as error:
        yield error


def read_lines(path: str | Path) -> Iterator[Document | InputError]:
    """One document for each line that is not blank, its id `STEM:LINE`.

    The text is the line without its line end; a byte order mark is dropped.

    Raises
    ------
    InputError: the file is missing.
    """
    stem = clean_name(Path(path).stem)
    for number, line in numbered_lines(path):
        if isinstance(line, InputError):
            yield line
        elif line.strip():
            yield Document(f"{stem}:{number}", line)
