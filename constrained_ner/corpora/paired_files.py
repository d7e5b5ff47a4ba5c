"""Corpora in two files: texts, one a line, and beside them rows of mentions, by the texts' ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from constrained_ner.corpora.annotations import Annotation, entities_of, log_repairs
from constrained_ner.corpora.files import LOGGER, File
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

Row = TypeVar("Row")
# From a row to label, start, end and surface in one text.
Place = Callable[[Row], tuple[str, int, int, str]]


@dataclass(frozen=True)
class PairedFiles(Generic[Row]):
    """How the lines of the two files are made.

    Attributes
    ----------
    text: from a line of texts to a document without entities, and to what places a row in it.
        Raises `ValueError`, as `row` does, for any other line.
    row: from a line of mentions to the text's id and what the line says.
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
        repairs: Counter[str] = Counter()
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
                annotations = []
                for row_number, row in rows.pop(document.id, []):
                    label, start, end, surface = placed(row)
                    annotations.append(
                        Annotation(place, row_number, label, ((start, end),), surface)
                    )
                entities = entities_of(annotations, document.text, repairs)
                yield replace(document, entities=tuple(entities))
        log_repairs(repairs, place)
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
