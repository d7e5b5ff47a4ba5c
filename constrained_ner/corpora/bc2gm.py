"""BC2GM as it is distributed: `NAME.in` with sentences, and `GENE.eval` beside it with mentions.

`NAME.in` has an id, a space and a sentence a line; `GENE.eval` has `ID|first last|surface`, where
the offsets count characters without white space and the last one is inclusive. A sentence without
mentions has no row. `ALTGENE.eval`, the alternative boundaries, is not read.
"""

from __future__ import annotations

from collections.abc import Iterator

from constrained_ner.corpora.beside import Layout, Place
from constrained_ner.corpora.files import File, Source
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

LABEL = "GENE"
MENTIONS = "GENE.eval"

Row = tuple[int, int, str]  # first and last character, surface


def _texts(source: Source) -> list[File]:
    """The `.in` files; of a single `.eval` file the one beside it."""
    given = [file for file in source.files.values() if file.suffix == ".in"]
    if not given and any(file.suffix == ".eval" for file in source.files.values()):
        given = [file for file in source.beside.values() if file.suffix == ".in"]
    return given


def recognises(source: Source) -> bool:
    return bool(_texts(source))


def read(source: Source) -> Iterator[Document | InputError]:
    """A document for each sentence, its id the one of the file.

    Raises
    ------
    InputError: there is no `.in` file.
    """
    texts = _texts(source)
    if not texts:
        raise InputError("holds no .in file", source.path)
    for file in texts:
        yield from _LAYOUT.read(file, source.find(str(file.path.with_name(MENTIONS))))


def _sentence(line: str) -> tuple[Document, Place[Row]]:
    id, _, text = line.partition(" ")
    if not text.strip():
        raise ValueError
    solid = [index for index, character in enumerate(text) if not character.isspace()]

    def at(index: int) -> int:
        # past the end it is far, and so outside the text
        return solid[index] if index < len(solid) else 2**31 + index

    def place(row: Row) -> tuple[str, int, int, str]:
        first, last, surface = row
        return LABEL, at(first), at(last) + 1, surface

    return Document(id, text), place


def _row(line: str) -> tuple[str, Row]:
    id, offsets, surface = line.split("|", 2)
    first, last = map(int, offsets.split())
    if not 0 <= first <= last:
        raise ValueError
    return id, (first, last, surface)


_LAYOUT = Layout(_sentence, _row, "an id, a space and a sentence", "ID|first last|surface")
