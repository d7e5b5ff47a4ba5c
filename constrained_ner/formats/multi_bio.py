"""multi_bio: one BIO tag a word, in as many layers as nesting needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate

from lark import Token, Tree

from constrained_ner.documents import Document, Entity, text_order
from constrained_ner.formats.answers import ProblemKind, Reader
from constrained_ner.formats.base import Feature, Format
from constrained_ner.formats.fillings import bio_layer, bio_run, item_bound, numbered
from constrained_ner.formats.grammar import (
    Completions,
    Grammar,
    Level,
    RepetitionGuard,
    load_structure,
)
from constrained_ner.formats.repetition import bounding_guard
from constrained_ner.labels import slug, unslug
from constrained_ner.words import covering, mention_tags, tokens

# An answer has as many layers as entities share one word; in the corpora at most five do.
MAX_LAYERS = 60


class MultiBio(Format):
    name = "multi_bio"
    by_place = True
    whole_items = r"(?=\n| [BO])"  # a mention may go on with the next word
    expresses = frozenset(
        {Feature.NESTED, Feature.SAME_SPAN, Feature.CROSSING, Feature.OFFSETS, Feature.ALL_LABELS}
    )

    def instruction(self, labels: Sequence[str]) -> str:
        return (
            f"Tag each word of the text for mentions of {', '.join(map(slug, labels))} with B-, "
            "I- or O (beginning, inside, outside). Use one layer, and one more for each level of "
            "nesting."
        )

    def obstacle(self, entity: Entity, document: Document, level: Level) -> str | None:
        cause = super().obstacle(entity, document, level)
        if cause is None and not covering(self.tokens(document.text), entity.start, entity.end):
            return "begins or ends inside a word"
        return cause

    def excess(
        self, entity: Entity, kept: Sequence[Entity], document: Document, labels: Sequence[str]
    ) -> str | None:
        # The entities are in text order: those before it that end later have the layers in use.
        layers = sum(other.end > entity.start for other in kept)
        most = self.bound(document.text, labels)
        return f"needs more than {most} layers" if layers >= most else None

    def bound(self, text: str, labels: Sequence[str]) -> int:
        return min(MAX_LAYERS, item_bound(len(self.tokens(text)), len(labels)))

    def indexed(self, text: str) -> str:
        """Every word with its number, which is that of its tag."""
        words = enumerate(self.tokens(text), 1)
        return " ".join(f"{i}:{text[start:end]}" for i, (start, end) in words)

    def tokens(self, text: str) -> Sequence[tuple[int, int]]:
        return tokens(text, self.options.words)

    def write(self, text: str, entities: Sequence[Entity], labels: Sequence[str]) -> str:
        words = self.tokens(text)
        layers: list[list[str]] = [["O"] * len(words)]
        for entity in text_order(entities):
            place = covering(words, entity.start, entity.end)
            assert place is not None  # `expressible` lets no other entity through
            first, last = place
            free = (layer for layer in layers if set(layer[first:last]) == {"O"})
            layer = next(free, None)
            if layer is None:
                layers.append(layer := ["O"] * len(words))
            layer[first:last] = mention_tags(slug(entity.label), last - first)
        return "\n".join(f"Layer {i}: {' '.join(layer)}" for i, layer in enumerate(layers, 1))

    def read(self, tree: Tree[Token], reader: Reader, labels: Sequence[str]) -> None:
        for token in tree.scan_values(lambda v: isinstance(v, Token) and v.type == "LAYER"):
            tags = token.split(" ")
            starts = list(accumulate((len(tag) + 1 for tag in tags), initial=token.start_pos or 0))
            self.place(tags, reader, starts)

    def salvage(self, answer: str, reader: Reader, labels: Sequence[str]) -> None:
        known = {"O"} | {f"{p}-{slug(label)}" for label in labels for p in "BI"}
        for line in filter(None, map(str.strip, answer.splitlines())):
            match = re.fullmatch(r"(?:Answer:\s*)?Layer\s*\d+\s*:\s*(.*)", line)
            if not match:
                reader.problem(ProblemKind.UNPARSABLE, f"{line!r}: expected 'Layer N: tags'")
                continue
            tags = match[1].split()
            for i, tag in enumerate(tags):
                if tag not in known:
                    shape = re.fullmatch(r"[BI]-\S+", tag)
                    kind = ProblemKind.UNKNOWN_LABEL if shape else ProblemKind.UNPARSABLE
                    reader.problem(kind, f"tag {tag!r} of word {i + 1}")
                    tags[i] = "O"
                elif tag[0] == "I" and (i == 0 or tags[i - 1][1:] != tag[1:]):
                    reader.problem(ProblemKind.UNPARSABLE, f"{tag!r} of word {i + 1} begins")
                    tags[i] = "B" + tag[1:]
            self.place(tags, reader)

    def place(self, tags: Sequence[str], reader: Reader, at: Sequence[int] = ()) -> None:
        """The runs of tags of one layer.

        Parameters
        ----------
        at: where in the answer each tag begins, and where one after the last would.
        """
        words = self.tokens(reader.text)
        if len(tags) != len(words):
            kind = ProblemKind.TRUNCATED if len(tags) < len(words) else ProblemKind.COPY
            reader.problem(kind, f"{len(tags)} tags for {len(words)} words")
        for name, first, last in runs(tags[: len(words)]):
            places = ((at[first], at[last] - 1),) if at else ()
            reader.add(unslug(name), [(words[first][0], words[last - 1][1])], places)

    def label_fillings(self, labels: Sequence[str]) -> dict[str, str]:
        return {"RUN": bio_run([slug(label) for label in labels])}

    def faithful(self, text: str, labels: Sequence[str]) -> dict[str, str]:
        body = load_structure(self.name).body("layer").replace("LAYER", "FULL")
        return {
            "LAYER": bio_layer(len(self.tokens(text)), [slug(label) for label in labels]),
            "layers": numbered("layers", "layer", body, 2, self.bound(text, labels) - 1),
            "layer": "",  # numbered, too
        }

    def repetition_guard(
        self, grammar: Grammar, text: str, labels: Sequence[str]
    ) -> RepetitionGuard:
        """No further layer once one has said nothing that those above it do not say.

        Annotators write none such. The line break behind it has begun one more, which is written.
        """

        def bound(answer: str) -> int | None:
            *whole, _ = answer.split("\n")
            said: set[tuple[str, int, int]] = set()
            for above, layer in enumerate(whole):
                found = set(runs(tags_of(layer)))
                if above and found <= said:
                    return len(whole)  # under the first one
                said |= found
            return None

        return bounding_guard(grammar, b"\n", bound)

    def completions(self, text: str, labels: Sequence[str]) -> Completions:
        words = len(self.tokens(text))

        def completions(partial: str) -> Iterator[str]:
            _, colon, layer = partial.rpartition("\n")[2].partition(":")
            rest = " O" * (words - len(layer.split()))
            yield rest if colon else f":{rest}"
            yield rest.removeprefix(" ")
            yield "O"  # the syntax level: there may be more tags than words

        return completions

    def largest_growth(self, text: str, labels: Sequence[str]) -> int:
        # A new layer has to be filled.
        return super().largest_growth(text, labels) + 2 * len(self.tokens(text))


def tags_of(layer: str) -> list[str]:
    """The tags of a whole layer as a mask lets it through."""
    return layer.partition(": ")[2].split(" ")


def runs(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """The entities of a layer: slug of the label, first word, and the word behind the last."""
    first = 0
    while first < len(tags):
        last = first + 1
        if tags[first] != "O":
            while last < len(tags) and tags[last] == "I" + tags[first][1:]:
                last += 1
            yield tags[first][2:], first, last
        first = last
