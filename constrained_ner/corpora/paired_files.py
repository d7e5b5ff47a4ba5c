"""Corpora in two files: one has a text a line, the other a mention a line, with its text's id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from constrained_ner.corpora.annotations import Annotation, checked, repairs_of
from constrained_ner.corpora.files import LOGGER, File
from constrained_ner.corpora.offsets import StandoffText
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

Row = TypeVar("Row")
# Gives the label, start, end and surface of a row in one text.
Place = Callable[[Row], tuple[str, int, int, str]]


@dataclass(frozen=True)
class PairedFiles(Generic[Row]):
    """How the lines of the two files are to be read.

    Attributes
    ----------
    text: makes of a line of the texts a document without entities, and a function that says where
        in it a row's mention is. Raises `ValueError` if it is no such line, as `row` does.
    row: makes of a line of the mentions the id of its text, and what else the line says.
    text_expected, row_expected: what such a line looks like, for messages.
    """

    text: Callable[[str], tuple[Document, Place[Row]]]
    row: Callable[[str], tuple[str, Row]]
    text_expected: str
    row_expected: str

    def read(self, texts: File, mentions: File | None) -> Iterator[Document | InputError]:
        """A document for each line of texts; rows that are malformed or of no text are logged."""
        if mentions is None:
            LOGGER.warning("%s: there is no file of mentions beside it", texts.place)
        place = mentions.place if mentions else ""
        rows = self._rows(mentions) if mentions else {}
        with repairs_of(place) as repairs:
            for number, line in texts.lines():
                if isinstance(line, InputError):
                    yield line
                elif line.strip():
                    try:
                        document, placed = self.text(line)
                    except ValueError:
                        reason = f"{line!r:.80}: expected {self.text_expected}"
                        yield InputError(reason, texts.place, number)
                        continue
                    annotations = _annotations(rows.pop(document.id, []), placed, place)
                    # each such layout is that of one corpus: it is known what its offsets count
                    yield checked(document, annotations, StandoffText(document.text), repairs)
        for id, left in rows.items():
            LOGGER.warning("%s:%d: skipped: there is no text %s", place, left[0][0], id)

    def _rows(self, file: File) -> dict[str, list[tuple[int, Row]]]:
        """By id: the numbers of the lines, and what they say."""
        rows: dict[str, list[tuple[int, Row]]] = {}
        for number, line in file.lines():
            if isinstance(line, InputError):
                LOGGER.warning("%s: skipped", line)
            elif line.strip():
                try:
                    id, row = self.row(line)
                except ValueError:
                    expected = self.row_expected
                    LOGGER.warning(
                        "%s:%d: skipped %.80r: expected %s", file.place, number, line, expected
                    )
                else:
                    rows.setdefault(id, []).append((number, row))
        return rows


def _annotations(
    rows: Iterable[tuple[int, Row]], placed: Place[Row], place: str
) -> list[Annotation]:
    """Those of one text."""
    found = []
    for number, row in rows:
        label, start, end, surface = placed(row)
        found.append(Annotation(place, number, label, ((start, end),), surface))
    return found
