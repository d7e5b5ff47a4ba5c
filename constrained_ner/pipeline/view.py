"""A piece of a document as a model is shown it: on one line, with the way back to the text.

Models are trained on sentences that stand on one line each. In a note a sentence may be wrapped,
indented, or set in columns: runs of white space are shown as one space, and what is found is given
at its place in the text as it is stored, whatever its line ends.
"""

from __future__ import annotations

import logging
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from constrained_ner.documents import Document, Entity
from constrained_ner.words import LINE_BREAKS, Span

_log = logging.getLogger(__name__)

_WHITE_SPACE = re.compile(r"\s+")
# A word that is broken behind its hyphen at the end of a line goes on without a space; `pre-` and
# postoperative does not.
_BROKEN_WORD = re.compile(
    rf"(?<=[\w+][-\u2010\u00ad])[^\S{LINE_BREAKS}]*(?:\r\n|[{LINE_BREAKS}])[^\S{LINE_BREAKS}]*"
    r"(?=\w)(?!(?:and|or|to|und|et)\b)"
)


@dataclass(frozen=True)
class View:
    """One line of text, and where it stands in a document.

    Attributes
    ----------
    places: of each character its offset in the document.
    end: the offset behind the last one.
    """

    text: str
    places: Sequence[int]
    end: int

    def span(self, start: int, end: int) -> Span:
        """Where a span of the line stands in the document."""
        return self.at(start), self.at(end - 1) + 1 if end < len(self.text) else self.end

    def at(self, offset: int) -> int:
        """Where a character of the line stands in the document; the end, too."""
        return self.places[offset] if offset < len(self.places) else self.end

    def in_document(self, entity: Entity) -> Entity:
        """An entity of the line, at its place in the document."""
        return replace(entity, fragments=tuple(self.span(*f) for f in entity.fragments))

    def in_line(self, entity: Entity) -> Entity:
        """An entity of the document, at its place in the line, which has to show all of it."""
        fragments = tuple(
            (bisect_left(self.places, start), bisect_left(self.places, end))
            for start, end in entity.fragments
        )
        return replace(entity, fragments=fragments)


def view_of(text: str, span: Span | None = None) -> View:
    """A piece of a text, by default all of it, without white space around it."""
    start, end = span or (0, len(text))
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    piece = piece.strip()
    end = start + len(piece)
    shown: list[str] = []
    places: list[int] = []
    at = start
    for run in _WHITE_SPACE.finditer(text, start, end):
        shown.append(text[at : run.start()])
        places += range(at, run.start())
        if not _BROKEN_WORD.match(text, run.start(), end):
            shown.append(" ")
            places.append(run.start())
        at = run.end()
    if not shown or "".join(shown) == text[start:at]:
        return View(piece, range(start, end), end)
    shown.append(text[at:end])
    places += range(at, end)
    return View("".join(shown), places, end)


def is_blank(entity: Entity, text: str) -> bool:
    """Whether a part of it is white space, of which a line shows no more than one."""
    return any(text[start:end].isspace() for start, end in entity.fragments)


def in_one_line(document: Document) -> Document:
    """A whole document as a model is shown it, with its entities."""
    view = view_of(document.text)
    if view.text == document.text:
        return document
    shown = [entity for entity in document.entities if not is_blank(entity, document.text)]
    if len(shown) < len(document.entities):
        _log.warning("document %r: mentions of white space are left out", document.id)
    entities = tuple(map(view.in_line, shown))
    return replace(document, text=view.text, entities=entities, passages=())
