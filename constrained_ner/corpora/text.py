"""Plain text: one document a file, or one document a line."""

from __future__ import annotations

from collections.abc import Iterator

from constrained_ner.corpora.files import BOM, File, decode
from constrained_ner.documents import Document
from constrained_ner.errors import InputError


def text_and_mark(file: File) -> tuple[str, bool]:
    r"""A whole file as a document's text, and whether a byte order mark stood before it.

    `\r\n` stays.

    Raises
    ------
    InputError: not UTF-8, or nothing but white space.
    """
    text = decode(file.read(), file.place)
    if not text.removeprefix(BOM).strip():
        raise InputError("empty text", file.place)
    return text.removeprefix(BOM), text.startswith(BOM)


def read(file: File) -> Iterator[Document | InputError]:
    r"""One document, its id the file's name; `\r\n` stays, a byte order mark is dropped.

    A file of white space only is a broken record.

    Raises
    ------
    InputError: the file is missing or is not UTF-8.
    """
    text = file.text()
    yield Document(file.id, text) if text.strip() else InputError("empty text", file.place)


def read_lines(file: File) -> Iterator[Document | InputError]:
    """One document for each line that is not blank, its id `NAME:LINE`.

    The text is the line without its line end; a byte order mark is dropped.

    Raises
    ------
    InputError: the file is missing.
    """
    for number, line in file.lines():
        if isinstance(line, InputError):
            yield line
        elif line.strip():
            yield Document(f"{file.id}:{number}", line)
