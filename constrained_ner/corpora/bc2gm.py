"""BC2GM as it is distributed: `NAME.in` with sentences, and `GENE.eval` beside it with mentions.

Each line of `NAME.in` has an id, a space and a sentence; each line of `GENE.eval` has
`ID|first last|surface`. The offsets do not count white space, and `last` is the mention's last
character. A sentence without mentions has no row. `ALTGENE.eval`, the alternative boundaries, is
not read.
"""

from __future__ import annotations

from collections.abc import Iterator

from constrained_ner.corpora.files import File, FileSet
from constrained_ner.corpora.paired_files import PairedFiles, Place
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

LABEL = "GENE"
MENTIONS = "GENE.eval"

Row = tuple[int, int, str]  # first and last character, surface


def _texts(file_set: FileSet) -> list[File]:
    """The `.in` files; of a single `.eval` file the one beside it."""
    given = [file for file in file_set.files.values() if file.suffix == ".in"]
    if not given and any(file.suffix == ".eval" for file in file_set.files.values()):
        given = [file for file in file_set.beside.values() if file.suffix == ".in"]
    return given


def recognises(file_set: FileSet) -> bool:
    # In a folder `.in` may be many a file's suffix; those of this format have mentions beside them.
    texts = _texts(file_set)
    return bool(texts) and (
        file_set.is_file or any(_mentions(file_set, text) is not None for text in texts)
    )


def _mentions(file_set: FileSet, text: File) -> File | None:
    return file_set.find(str(text.path.with_name(MENTIONS)))


def read(file_set: FileSet) -> Iterator[Document | InputError]:
    """A document for each sentence, its id the one of the file.

    Raises
    ------
    InputError: there is no `.in` file.
    """
    texts = _texts(file_set)
    if not texts:
        raise InputError("holds no .in file", file_set.path)
    for file in texts:
        yield from _FILES.read(file, _mentions(file_set, file))


def _sentence(line: str) -> tuple[Document, Place[Row]]:
    id, _, text = line.partition(" ")
    if not text.strip():
        raise ValueError
    solid = [index for index, character in enumerate(text) if not character.isspace()]

    def at(index: int) -> int:
        # past the end: far outside the text, so that the row is skipped
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


_FILES = PairedFiles(_sentence, _row, "an id, a space and a sentence", "ID|first last|surface")
