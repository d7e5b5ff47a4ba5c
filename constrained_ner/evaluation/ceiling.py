"""The recall ceiling: what the gold answers of a format can hold of the gold entities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from constrained_ner.documents import Document, Entity
from constrained_ner.evaluation.records import Setting
from constrained_ner.formats import get_format
from constrained_ner.labels import names_of
from constrained_ner.pipeline.view import is_blank, view_of
from constrained_ner.words import Span


@dataclass(frozen=True)
class Ceiling:
    """The highest recall that a format allows.

    Attributes
    ----------
    entities: gold entities. `expressible`: those that the format can write at this level.
    returned: those of them that reading the gold answer gives back.
    dropped: the entities that cannot be written, by cause.
    """

    setting: Setting
    entities: int
    expressible: int
    returned: int
    dropped: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def ceiling(
    documents: Sequence[Document],
    labels: Sequence[str],
    setting: Setting,
    parts: Sequence[Mapping[str, Collection[Span]]] | None = None,
) -> Ceiling:
    """What the gold answers of a format, or of several together, can hold of the gold entities.

    Parameters
    ----------
    parts: of each document, by format, the parts that were asked about one by one; a format that
        has none was asked about the whole text, as all are by default.

    Raises
    ------
    LabelError: a label cannot be asked for.
    """
    formats = [get_format(name, setting.options) for name in names_of(setting.format)]
    entities = expressible = returned = 0
    causes: Counter[str] = Counter()
    for document, asked in zip(documents, parts or [{}] * len(documents), strict=True):
        held: set[Entity] = set()
        read: set[Entity] = set()
        lacking: dict[Entity, str] = {}
        for format in formats:
            for span in asked.get(format.name) or [(0, len(document.text))]:
                piece, entity_of = _piece(document, span)
                for question in format.questions(labels) if piece.entities else ():
                    kept, dropped = format.expressible(piece, question, setting.level)
                    held.update(entity_of[entity] for entity in kept)
                    for entity, cause in dropped:
                        lacking.setdefault(entity_of[entity], cause)
                    if kept:
                        gold = replace(piece, entities=kept)
                        answer = format.encode(gold, question, setting.level)
                        decoded = format.decode(answer, piece.text, question, level=setting.level)
                        read |= {entity_of[entity] for entity in {*kept} & {*decoded.entities}}
        for entity in document.entities:
            if entity.label in labels and entity not in held:
                lacking.setdefault(entity, _cause(entity, document.text))
        entities += len(held | lacking.keys())
        expressible += len(held)
        returned += len(read)
        causes.update(cause for entity, cause in lacking.items() if entity not in held)
    return Ceiling(setting, entities, expressible, returned, dict(causes))


def _cause(entity: Entity, text: str) -> str:
    """Why an entity could be in no answer."""
    if is_blank(entity, text):
        return "white space"
    pieces = [text[start:end] for start, end in entity.fragments]
    if any(piece != piece.strip() for piece in pieces):
        return "begins or ends with white space"
    return "in no part of the text that was asked about"


def _piece(document: Document, span: Span) -> tuple[Document, dict[Entity, Entity]]:
    """A part of a document as a model is shown it, and of its entities those of the document."""
    view = view_of(document.text, span)
    entity_of = {
        shown: entity
        for entity in document.entities
        if span[0] <= entity.start and entity.end <= span[1]
        if not is_blank(entity, document.text)
        # Else it begins or ends in white space, of which a line shows one space or none.
        if view.in_document(shown := view.in_line(entity)) == entity
    }
    return Document(document.id, view.text, tuple(entity_of)), entity_of
