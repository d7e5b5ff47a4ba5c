"""CHEMDNER (BC4CHEMD) as it is distributed: abstracts, and annotations in a second file.

Each line of `NAME.abstracts.txt` has id, title and abstract. Each line of `NAME.annotations.txt`
has id, `T` or `A`, start, end, surface and class; its offsets count from the beginning of the title
or the abstract. Columns are separated by TABs.

Source: Krallinger et al., The CHEMDNER corpus of chemicals and drugs, 2015.
"""

from __future__ import annotations

from collections.abc import Iterator

from constrained_ner.corpora.files import File, FileSet
from constrained_ner.corpora.paired_files import PairedFiles, Place
from constrained_ner.corpora.passages import title_and_abstract
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

TEXTS, MENTIONS = "abstracts", "annotations"

Row = tuple[str, int, int, str, str]  # T or A, start, end, surface, class


def _pairs(file_set: FileSet) -> list[tuple[File, File | None]]:
    pairs = []
    for file in file_set.files.values():
        name = file.path.name
        if TEXTS in name and file.suffix in (".txt", ".tsv"):
            other = file_set.find(str(file.path.with_name(name.replace(TEXTS, MENTIONS))))
            pairs.append((file, other))
    if not pairs:  # the file of annotations is given, and its texts stand beside it
        for file in file_set.files.values():
            name = file.path.name
            texts = file_set.find(str(file.path.with_name(name.replace(MENTIONS, TEXTS))))
            if MENTIONS in name and texts:
                pairs.append((texts, file))
    return pairs


def recognises(file_set: FileSet) -> bool:
    return any(
        lines and lines[0].count("\t") == 2 and lines[0].split("\t")[0].isdecimal()
        for lines in (texts.head_lines for texts, _ in _pairs(file_set))
    )


def read(file_set: FileSet) -> Iterator[Document | InputError]:
    """A document for each abstract; passages are `title` and `abstract`.

    Raises
    ------
    InputError: there is no file of abstracts.
    """
    pairs = _pairs(file_set)
    if not pairs:
        raise InputError(f"holds no *.{TEXTS}.txt", file_set.path)
    for texts, mentions in pairs:
        yield from _FILES.read(texts, mentions)


def _abstract(line: str) -> tuple[Document, Place[Row]]:
    id, title, abstract = line.split("\t")
    text, passages = title_and_abstract(title, abstract)
    shift = {"T": 0, "A": len(title) + 1}

    def place(row: Row) -> tuple[str, int, int, str]:
        part, start, end, surface, label = row
        return label, shift[part] + start, shift[part] + end, surface

    return Document(id, text, (), passages), place


def _row(line: str) -> tuple[str, Row]:
    id, part, start, end, surface, label = line.split("\t")
    if part not in ("T", "A"):
        raise ValueError
    return id, (part, int(start), int(end), surface, label)


_FILES = PairedFiles(
    _abstract,
    _row,
    "id, title and abstract, separated by TABs",
    "id, T or A, start, end, surface and class",
)
