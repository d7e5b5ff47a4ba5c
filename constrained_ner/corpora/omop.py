"""Rows of OMOP's table NOTE_NLP (CDM v5.4) as CSV, one an entity; written only.

What documents do not say is left empty: concepts, dates, whether a term is negated. Label and
confidence stand in `term_modifiers`, as `label=Disease,confidence=0.97`; so do the fragments of a
discontinuous entity, `fragments=0-4;15-24`. `note_nlp_id` counts from 1, and `nlp_date`, which the
table requires, has to be filled in where the rows are loaded.

Source: https://ohdsi.github.io/CommonDataModel/cdm54.html#note_nlp
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import TextIO

from constrained_ner.corpora.conversion_losses import ConversionLosses, Names
from constrained_ner.corpora.entity_table import EntityRow, counting, rows_of, write_cells
from constrained_ner.documents import Document

COLUMNS = (
    "note_nlp_id",
    "note_id",
    "section_concept_id",
    "snippet",
    "offset",
    "lexical_variant",
    "note_nlp_concept_id",
    "note_nlp_source_concept_id",
    "nlp_system",
    "nlp_date",
    "nlp_datetime",
    "term_exists",
    "term_temporal",
    "term_modifiers",
)
_LONGEST = 250  # characters of `snippet` and `lexical_variant`
_LONGEST_MODIFIERS = 2000
_INTEGER = re.compile("-?[0-9]+")


def write(documents: Iterable[Document], file: TextIO, losses: ConversionLosses) -> None:
    """A row for each entity; `note_id` is the id of its document."""
    write_cells(file, COLUMNS, _rows(documents, losses))


def _rows(documents: Iterable[Document], losses: ConversionLosses) -> Iterator[list[object]]:
    number = 0
    labels = Names("labels", losses)
    system = f"constrained_ner {version('constrained_ner')}"
    for document in counting(documents, losses):
        if not _INTEGER.fullmatch(document.id):
            losses.add("ids that are no integers, as note_id has to be", document)
        for row in rows_of(document):
            number += 1
            if len(row.surface) > _LONGEST:
                losses.add(f"surfaces of over {_LONGEST} characters, cut", document, row.surface)
            label = labels.name(row.label, re.sub("[,=]", "_", row.label), document)
            cells: dict[str, object] = {
                "note_nlp_id": number,
                "note_id": row.document,
                "snippet": _snippet(document.text, row),
                "offset": row.start,
                "lexical_variant": row.surface[:_LONGEST],
                "nlp_system": system,
                "term_modifiers": _modifiers(row, label),
            }
            if len(str(cells["term_modifiers"])) > _LONGEST_MODIFIERS:
                kind = f"modifiers of over {_LONGEST_MODIFIERS} characters, without fragments"
                losses.add(kind, document, row.surface)
                cells["term_modifiers"] = _modifiers(row._replace(fragments=""), label)
            yield [cells.get(column) for column in COLUMNS]


def _modifiers(row: EntityRow, label: str) -> str:
    parts = [f"label={label}"]
    if row.confidence is not None:
        parts.append(f"confidence={row.confidence}")
    if ";" in row.fragments:
        parts.append(f"fragments={row.fragments}")
    return ",".join(parts)


def _snippet(text: str, row: EntityRow) -> str:
    """The entity and about as much text before it as after it, from word to word."""
    around = max(0, _LONGEST - (row.end - row.start)) // 2
    start, end = max(0, row.start - around), min(len(text), row.end + around)
    while 0 < start < row.start and not text[start - 1].isspace():
        start += 1
    while row.end < end < len(text) and not text[end].isspace():
        end -= 1
    return text[start:end][:_LONGEST]
