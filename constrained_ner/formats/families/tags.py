"""Shared by single_tag and multi_tag: a copy of the text with markers in it.

The text is copied verbatim, but for a backslash before what would read as a marker. A marker
therefore cannot stand right after a backslash, nor inside a marker of the text, nor (`@@`, `##`)
right after the character that it is made of: such an entity is reported as inexpressible.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from lark import Token, Tree

from constrained_ner.documents import Document, Entity, text_order
from constrained_ner.formats.alignment import Aligner
from constrained_ner.formats.answers import Places, ProblemKind, Reader, body_of, span_of
from constrained_ner.formats.base import Format, TextObstacle, too_long
from constrained_ner.formats.fillings import MAX_TAGGED_UNITS, tag_depth, tagged_text
from constrained_ner.formats.grammar import Completions, Level
from constrained_ner.words import Span, shared_prefix, trimmed, units

Marker = tuple[str, str]  # opening, closing


@dataclass(frozen=True)
class MarkedText:
    """A text as a tag format copies it.

    Attributes
    ----------
    pieces: its units, a marker that the text holds being one of them.
    written: each piece as the answer writes it.
    may_open, may_close: whether a marker may stand right before, right after the piece.
    """

    pieces: list[Span]
    written: list[str]
    may_open: list[bool]
    may_close: list[bool]


@lru_cache(maxsize=8)  # of a long text it takes ten megabytes
def mark(text: str, markers: tuple[Marker, ...], boundaries: str) -> MarkedText:
    held = [m.span() for m in re.finditer(pattern_of(markers), text)]
    pieces: list[Span] = []
    at = 0
    for start, end in [*held, (len(text), len(text))]:
        pieces += [(s + at, e + at) for s, e in units(text[at:start], boundaries)]
        if start < end:
            pieces.append((start, end))
        at = end
    inside = set(held)
    written = [("\\" if piece in inside else "") + text[slice(*piece)] for piece in pieces]
    # What must not stand before a marker: a backslash; for `@@`, an `@`, since `@@@` begins with
    # a marker. A tag such as <x> begins with a character that cannot go on a tag.
    before_opening = {"\\"} | {o[0] for o, _ in markers if o[0] == o[-1]}
    before_closing = {"\\"} | {c[0] for _, c in markers if c[0] == c[-1]}
    return MarkedText(
        pieces,
        written,
        [start == 0 or text[start - 1] not in before_opening for start, _ in pieces],
        [text[end - 1] not in before_closing for _, end in pieces],
    )


def pattern_of(markers: Sequence[Marker]) -> str:
    return "|".join(re.escape(marker) for pair in markers for marker in pair)


def unescaped(answer: str, markers: Sequence[Marker]) -> Iterator[re.Match[str]]:
    """The markers in an answer, without those that are its text."""
    for match in re.finditer(rf"\\?({pattern_of(markers)})", answer):
        if match[0] == match[1]:
            yield match


class Marked(NamedTuple):
    """What stands between two markers: a span of the copy, and the markers in the answer."""

    label: str
    start: int
    end: int
    places: Places = ()


class _End(NamedTuple):
    """Where an element of the tree ends."""

    marker: Token


class TagFormat(Format):
    # What stands between the markers is no item, wherever it was cut.
    whole_items = r"(?=[<@#\\])|(?<=[>#])|\Z"

    @abstractmethod
    def marker(self, label: str) -> Marker:
        """What stands before and after an entity."""

    def markers(self, labels: Sequence[str]) -> tuple[Marker, ...]:
        return tuple(self.marker(label) for label in labels)

    # ---- what can be written

    def text_obstacle(self, text: str) -> TextObstacle | None:
        long = too_long(text, "tags", len(self.units(text)), MAX_TAGGED_UNITS)
        return super().text_obstacle(text) or long

    def expressible(
        self, document: Document, labels: Sequence[str], level: Level = Level.FREE
    ) -> tuple[tuple[Entity, ...], list[tuple[Entity, str]]]:
        kept, dropped = super().expressible(document, labels, level)
        # Where markers may stand depends on the labels asked for, not on the entity's alone.
        marked = mark(document.text, self.markers(labels), "character")
        opens = {p[0] for p, ok in zip(marked.pieces, marked.may_open, strict=True) if ok}
        closes = {p[1] for p, ok in zip(marked.pieces, marked.may_close, strict=True) if ok}
        most = tag_depth(len(self.units(document.text)), len(labels))
        good: list[Entity] = []
        around: list[Entity] = []  # those that are open where an entity begins, the innermost last
        for entity in kept:  # in text order, as all of a document's
            while around and around[-1].end <= entity.start:
                around.pop()
            if entity.start not in opens or entity.end not in closes:
                dropped.append((entity, "its marker would run into a character of the text"))
            elif around and around[-1].end < entity.end:
                dropped.append((entity, "crosses another entity"))
            elif level == Level.FAITHFUL and len(around) >= most:
                dropped.append((entity, f"nested more than {most} deep"))
            else:
                good.append(entity)
                around.append(entity)
        return tuple(good), dropped

    # ---- writing and reading

    def write(self, text: str, entities: Sequence[Entity], labels: Sequence[str]) -> str:
        # Opening markers in text order; each is closed after all that were opened later.
        opening: dict[int, str] = {}
        closing: dict[int, str] = {}
        for entity in text_order(entities):
            before, after = self.marker(entity.label)
            opening[entity.start] = opening.get(entity.start, "") + before
            closing[entity.end] = after + closing.get(entity.end, "")
        marked = mark(text, self.markers(labels), "character")
        return "Answer: " + "".join(
            opening.get(start, "") + written + closing.get(end, "")
            for (start, end), written in zip(marked.pieces, marked.written, strict=True)
        )

    def read(self, tree: Tree[Token], reader: Reader, labels: Sequence[str]) -> None:
        copied: list[str] = []
        found: list[Marked] = []
        by_opening = {self.marker(label)[0]: label for label in labels}
        length = 0
        stack: list[tuple[Token, int]] = []
        # In document order, with an explicit stack: nesting may be deep.
        todo: list[Tree[Token] | Token | _End] = [tree]
        while todo:
            node = todo.pop()
            if isinstance(node, _End):  # the end of an element
                before, start = stack.pop()
                places = span_of(before), span_of(node.marker)
                found.append(Marked(by_opening[str(before)], start, length, places))
            elif isinstance(node, Token):
                copied.append(str(node))
                length += len(node)
            elif node.data == "element":
                opening, closing = node.children[0], node.children[-1]
                assert isinstance(opening, Token)
                assert isinstance(closing, Token)
                stack.append((opening, length))
                todo += [_End(closing), *reversed(node.children[1:-1])]
            elif node.data == "literal":
                copied.append(str(node.children[0])[1:])
                length += len(copied[-1])
            elif node.data == "start":
                todo += reversed(node.children[1:])  # without `Answer: `
            else:
                todo += reversed(node.children)
        self.place("".join(copied), found, reader)

    def salvage(self, answer: str, reader: Reader, labels: Sequence[str]) -> None:
        by_opening = {self.marker(label)[0]: label for label in labels}
        by_closing = {self.marker(label)[1]: label for label in labels}
        body = body_of(answer)
        copied: list[str] = []
        length = at = 0
        stack: list[tuple[str, int]] = []
        found: list[Marked] = []
        for match in re.finditer(rf"\\?({pattern_of(self.markers(labels))})", body):
            copied.append(body[at : match.start()])
            length += match.start() - at
            at = match.end()
            if match[0] != match[1]:  # escaped: text
                copied.append(match[1])
                length += len(match[1])
            elif match[1] in by_opening:
                stack.append((by_opening[match[1]], length))
            else:
                label = by_closing[match[1]]
                places = [i for i, (open_label, _) in enumerate(stack) if open_label == label]
                if places:
                    for lost, _ in stack[places[-1] + 1 :]:
                        reader.problem(ProblemKind.UNPARSABLE, f"{lost}: opened and never closed")
                    found.append(Marked(label, stack[places[-1]][1], length))
                    del stack[places[-1] :]
                else:
                    reader.problem(ProblemKind.UNPARSABLE, f"{match[1]}: closes nothing")
        copied.append(body[at:])
        for label, _ in stack:
            reader.problem(ProblemKind.TRUNCATED, f"{label}: opened and never closed")
        self.place("".join(copied), found, reader)

    def place(self, copied: str, found: list[Marked], reader: Reader) -> None:
        """Spans in the copy become spans in the text; where it differs they are aligned."""
        found.sort(key=lambda item: (item.start, -item.end))
        aligner = Aligner(reader.text, boundaries=self.options.boundaries)
        alike = shared_prefix(copied, reader.text)
        if copied != reader.text:
            reader.problem(ProblemKind.COPY, difference_at(alike, copied, reader.text))
        for label, start, end, places in found:
            # A free model may mark white space, too; it is no part of an entity.
            span = trimmed(copied, start, end)
            if span is None:
                reader.problem(ProblemKind.OFFSET, f"{label}: nothing but white space is marked")
                continue
            surface = copied[slice(*span)]
            if span[1] <= alike:
                aligner.take(label, (span,))
                reader.add(label, [span], places)
            elif len(fragments := aligner.leftmost(surface, label) or ()) == 1:
                reader.add(label, fragments, places)
            else:
                taken = not fragments and aligner.in_text(surface)
                kind = ProblemKind.DUPLICATE if taken else ProblemKind.NOT_IN_TEXT
                reader.problem(kind, f"{label} {surface!r}")

    # ---- grammars

    def faithful(self, text: str, labels: Sequence[str]) -> dict[str, str]:
        markers = self.markers(labels)
        marked = mark(text, markers, self.options.boundaries)
        solid = [i for i, (s, e) in enumerate(marked.pieces) if not text[s:e].isspace()]
        gaps = [
            "".join(marked.written[a + 1 : b]) for a, b in zip([-1, *solid], solid, strict=False)
        ]

        def spelled(marker: str) -> list[str]:
            return [marker[s:e] for s, e in units(marker, self.options.boundaries)]

        copy = tagged_text(
            [(gap, marked.written[i]) for gap, i in zip(gaps, solid, strict=True)],
            "".join(marked.written[solid[-1] + 1 :]),
            [marked.may_open[i] for i in solid],
            [marked.may_close[i] for i in solid],
            [(spelled(opening), spelled(closing)) for opening, closing in markers],
        )
        return {"copy": copy}

    def completions(self, text: str, labels: Sequence[str]) -> Completions:
        """The rest of the text, the open markers being closed as soon as they may be."""
        markers = self.markers(labels)
        marked = mark(text, markers, self.options.boundaries)
        # Where markers may be closed, which is not behind white space.
        ends: list[int] = []
        at = 0
        for (s, e), written, ok in zip(
            marked.pieces, marked.written, marked.may_close, strict=True
        ):
            at += len(written)
            if ok and not text[s:e].isspace():
                ends.append(at)
        whole = "".join(marked.written)
        closing = dict(markers)
        scan = re.compile(rf"\\?({pattern_of(markers)})")

        def completions(partial: str) -> Iterator[str]:
            body = partial.removeprefix("Answer: ")
            stack: list[str] = []
            copied = len(body)
            for match in unescaped(body, markers):
                copied -= len(match[0])
                if match[0] in closing:
                    stack.append(closing[match[0]])
                elif stack:
                    stack.pop()
            close = "".join(reversed(stack))
            if not whole.startswith(scan.sub(lambda m: m[0] * (m[0] != m[1]), body)):
                yield close  # the syntax level: any text is a copy
                yield f"x{close}"  # what was only just opened must not be empty
                # Where a marker can be told from text in more than one way.
                yield from dict.fromkeys(closing.values())
            nearest = bisect_left(ends, copied)
            for end in [copied, *ends[nearest : nearest + 4]] if stack else [copied]:
                yield whole[copied:end] + close + whole[end:]

        return completions

    def largest_growth(self, text: str, labels: Sequence[str]) -> int:
        # A marker that has begun will have to be closed; those that are open: `Grammar.markers`.
        longest = max(len(closing.encode()) for _, closing in self.markers(labels))
        return super().largest_growth(text, labels) + longest


def difference_at(at: int, copied: str, text: str) -> str:
    return f"at offset {at}: {copied[at : at + 20]!r}, expected {text[at : at + 20]!r}"
