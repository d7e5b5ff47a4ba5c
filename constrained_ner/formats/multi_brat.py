"""multi_brat: one line an entity, `T1 label start end surface`.

Which of the two decides where an entity lies is an option. By `surface` (the default), the digits
only say which occurrence is meant: they come before the surface, and a small model cannot count
characters. By `offsets`, they are bound to the text's boundaries and the surface follows them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import itemgetter

from lark import Token, Tree

from constrained_ner.documents import Document, Entity
from constrained_ner.formats.alignment import Aligner, most_mentions
from constrained_ner.formats.answers import (
    Places,
    ProblemKind,
    Reader,
    body_of,
    offset,
    values,
)
from constrained_ner.formats.base import (
    Feature,
    Format,
    TextObstacle,
    too_long,
    too_long_for_fragments,
)
from constrained_ner.formats.families.offsets import propose_offsets
from constrained_ner.formats.families.terms import checked_label
from constrained_ner.formats.fillings import (
    choice,
    item_bound,
    mention_by_offsets,
    mention_by_surface,
    most_units_of_offsets,
    numbered,
)
from constrained_ner.formats.grammar import (
    Completions,
    Grammar,
    Level,
    RepetitionGuard,
    load_structure,
)
from constrained_ner.formats.repetition import REPEATS, bounding_guard, written_items
from constrained_ner.labels import slug, unslug
from constrained_ner.words import Span, one_line

_LINE = re.compile(
    r"(?:T\d*\s+)?(?P<label>\S+)\s+(?P<offsets>\d+\s+\d+(?:;\s*\d+\s+\d+)*)\s+(?P<surface>.+)"
)
# A whole line as a mask lets it through: it may go on until it ends.
_MASKED_LINE = re.compile(
    r"\nT\d+ (?P<label>\S+) (?P<offsets>\d+ \d+(?:;\d+ \d+)*) (?P<surface>[^\n]+)(?=\n)"
)
_UNDER_WAY = re.compile(r"^T\d+ \S+ (?P<start>\d{1,9})(?: (?P<end>\d{0,9}))?\Z", re.MULTILINE)


class MultiBrat(Format):
    name = "multi_brat"
    anchored = True
    term_counterpart = "multi_term"
    expresses = frozenset(Feature)
    whole_items = r"(?=\n)"

    def instruction(self, labels: Sequence[str]) -> str:
        return (
            f"Write one line for each mention of {', '.join(map(slug, labels))} in the text, in "
            "brat's standoff format: T and a running number, type, start, end, mention."
        )

    def write(self, text: str, entities: Sequence[Entity], labels: Sequence[str]) -> str:
        return "Answer:" + "".join(
            f"\nT{i} {slug(entity.label)} "
            + ";".join(f"{start} {end}" for start, end in entity.fragments)
            + f" {one_line(entity.surface(text))}"
            for i, entity in enumerate(entities, 1)
        )

    def read(self, tree: Tree[Token], reader: Reader, labels: Sequence[str]) -> None:
        items = values(tree, "line")
        found = [(unslug(i["LABEL"]), i["OFFSETS"], i["SURFACE"]) for i in items]
        # Digits that do not decide say nothing of how sure the model is.
        by_surface = self.options.anchor == "surface"
        places: list[Places] = [
            (item.spans["LABEL"], item.spans["SURFACE"]) if by_surface else (item.span,)
            for item in items
        ]
        self.place(found, reader, places)

    def salvage(self, answer: str, reader: Reader, labels: Sequence[str]) -> None:
        items = []
        for line in filter(None, map(str.strip, body_of(answer).splitlines())):
            match = _LINE.fullmatch(line)
            if not match:
                reader.problem(
                    ProblemKind.UNPARSABLE, f"{line!r}: expected 'T1 type start end mention'"
                )
            elif label := checked_label(unslug(match["label"]), reader, labels):
                items.append((label, match["offsets"], match["surface"]))
        self.place(items, reader)

    def place(
        self,
        items: Sequence[tuple[str, str, str]],
        reader: Reader,
        places: Sequence[Places] = (),
    ) -> None:
        """Add lines, at the offsets as written or where their surface is nearest to these."""
        options = self.options
        aligner = Aligner(one_line(reader.text), options.max_fragments, options.boundaries)
        for (label, offsets, surface), place in zip(
            items, places or [()] * len(items), strict=True
        ):
            spans: list[Span] = []
            for pair in offsets.split(";"):
                start, end = pair.split()
                spans.append((offset(start), offset(end)))
            described = f"{label} {offsets} {surface!r}"
            if self.options.anchor == "surface":
                fragments = aligner.nearest(
                    surface, label, tuple(spans), masked=reader.level == Level.FAITHFUL
                )
                if fragments is not None:
                    reader.add(label, fragments, place)
                else:
                    known = aligner.in_text(surface)
                    kind = ProblemKind.DUPLICATE if known else ProblemKind.NOT_IN_TEXT
                    reader.problem(kind, described)
            elif reader.add(label, spans, place):
                there = " ".join(aligner.text[start:end] for start, end in spans)
                if there != surface:
                    reader.problem(ProblemKind.NOT_IN_TEXT, f"{described}: there is {there!r}")

    def label_fillings(self, labels: Sequence[str]) -> dict[str, str]:
        return {"LABEL": choice("LABEL", [slug(label) for label in labels])}

    def excess(
        self, entity: Entity, kept: Sequence[Entity], document: Document, labels: Sequence[str]
    ) -> str | None:
        most = self.bound(document.text, labels)
        return f"more than {most} lines" if len(kept) >= most else None

    def bound(self, text: str, labels: Sequence[str]) -> int:
        return item_bound(len(self.units(text)), len(labels), self.options.max_fragments)

    def text_obstacle(self, text: str) -> TextObstacle | None:
        units, fragments = len(self.units(text)), self.options.max_fragments
        if self.options.anchor == "surface":
            long = too_long_for_fragments(text, units, fragments)
        else:
            what = f"offsets of {fragments} fragments that decide the surface"
            most = most_units_of_offsets(fragments)
            long = too_long(text, what, units, most, ", or allow fewer fragments")
        return super().text_obstacle(text) or long

    def faithful(self, text: str, labels: Sequence[str]) -> dict[str, str]:
        pieces, fragments = self.units(text), self.options.max_fragments
        mention = mention_by_surface if self.options.anchor == "surface" else mention_by_offsets
        body = load_structure(self.name).body("line")
        return {
            "lines": numbered("lines", "line", body, 1, self.bound(text, labels)),
            "line": "",  # numbered, too
            "mention": mention(text, pieces, fragments),
        }

    def repetition_guard(
        self, grammar: Grammar, text: str, labels: Sequence[str]
    ) -> RepetitionGuard:
        """No further line once `REPEATS` said what was said before, whatever their numbers.

        Where the surface decides, each line takes an occurrence of it; where the offsets decide,
        they are said once.
        """
        by_surface = self.options.anchor == "surface"
        said = itemgetter("label", "surface" if by_surface else "offsets")
        spelt, fragments = one_line(text), self.options.max_fragments

        def most(said: tuple[str, str]) -> int:
            return most_mentions(said[1], spelt, fragments) if by_surface else 1

        def bound(answer: str) -> int | None:
            lines = written_items(answer, len(grammar.empty), _MASKED_LINE, said, most)
            return None if lines.repeats < REPEATS else lines.begun

        return bounding_guard(grammar, b"\n", bound)

    def completions(self, text: str, labels: Sequence[str]) -> Completions:
        """What is missing of a surface: the text's last pieces, behind whatever is written.

        Every state but the middle of a piece is near an end, and a piece goes on by itself.
        """
        pieces = [text[start:end] for start, end in self.units(text)]
        solid = [one_line(piece) for piece in pieces if not piece.isspace()]
        missing = range(1, min(self.options.max_fragments, len(solid)) + 1)
        tails = [" ".join(solid[-k:]) for k in missing]
        tails = [written for tail in tails for written in (f" {tail}", tail)]
        return lambda partial: tails

    def largest_growth(self, text: str, labels: Sequence[str]) -> int:
        # Offsets that come first may ask for a surface as long as the text.
        bound = len(text.encode()) if self.options.anchor == "offsets" else 0
        return super().largest_growth(text, labels) + bound

    def propose_draft(self, written: str, text: str) -> str:
        found = propose_offsets(_UNDER_WAY, " ", written, text)
        return f"{found[0]} {one_line(text[slice(*found[1])])}" if found else ""
