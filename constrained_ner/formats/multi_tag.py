"""multi_tag: the text, with a pair of tags around each entity."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from lark import Token, Tree

from constrained_ner.errors import AnswerError
from constrained_ner.formats.base import Feature
from constrained_ner.formats.families.tags import Marker, TagFormat, unescaped
from constrained_ner.formats.fillings import choice, longest_first, quote
from constrained_ner.formats.grammar import load_structure
from constrained_ner.formats.parsing import parse
from constrained_ner.labels import slug


class MultiTag(TagFormat):
    name = "multi_tag"
    expresses = frozenset({Feature.NESTED, Feature.SAME_SPAN, Feature.ALL_LABELS})

    def instruction(self, labels: Sequence[str]) -> str:
        tags = ", ".join(self.marker(label)[0] for label in labels)
        return (
            f"Repeat the text and mark the mentions in it with these tags: {tags}. Put the tag "
            f"before the mention and its end tag, such as {self.marker(labels[0])[1]}, after it."
        )

    def marker(self, label: str) -> Marker:
        name = slug(label)
        return f"<{name}>", f"</{name}>"

    def label_fillings(self, labels: Sequence[str]) -> dict[str, str]:
        slugs = longest_first(map(slug, labels))
        tags = [tag for pair in self.markers(labels) for tag in pair]
        # Neither engine's lexer backtracks, so each beginning of a tag has to be text, too.
        beginnings = {name[:i] for name in slugs for i in range(1, len(name) + 1)}
        some, unfinished = optional(beginnings), optional(beginnings - set(slugs))
        near = rf"\\(<\/?{some})?|<{some}|<\/{unfinished}"
        elements = [f"{quote(f'<{name}>')} marked {quote(f'</{name}>')}" for name in slugs]
        return {
            "element": "element: " + " | ".join(elements),
            "literal": choice("literal", escaped(tags)),
            "half": choice("half", halves(tags)),
            "TEXT": rf"TEXT: /[^<>\\]+|{near}/",
        }

    def tree(self, answer: str, labels: tuple[str, ...]) -> Tree[Token]:
        # A parser that tells labels apart needs states for each label inside each other one: for
        # 200 labels it takes minutes to make. So lark only balances the tags, and here it is
        # checked that both tags of a pair have the same label.
        wrong = self.mismatch(answer, labels)
        try:
            tree = parse(self.name, _balanced(labels), answer)
        except AnswerError as error:
            if wrong is None or error.position <= wrong.position:
                raise
            raise wrong from None
        if wrong is not None:
            raise wrong
        return tree

    def mismatch(self, answer: str, labels: Sequence[str]) -> AnswerError | None:
        """The error of the first end tag that is not that of the tag before it."""
        markers = self.markers(labels)
        closing = dict(markers)
        stack: list[str] = []
        for match in unescaped(answer, markers):
            if match[0] in closing:
                stack.append(closing[match[0]])
            elif not stack:
                return None
            elif (expected := stack.pop()) != match[0]:
                return AnswerError(self.name, answer, match.start(), repr(expected))
        return None


@lru_cache(maxsize=64)
def _balanced(labels: tuple[str, ...]) -> str:
    """The syntax-level source, but any end tag closes any tag; so it has few terminals."""
    format = MultiTag()
    opening, closing = zip(*format.markers(labels), strict=True)
    tags = [*opening, *closing]
    # Before TEXT, which goes on, and an end tag before its half.
    alike = [
        choice("START_TAG.2", opening),
        choice("END_TAG.2", closing),
        choice("ESCAPED_TAG.2", escaped(tags)),
        choice("HALF_TAG.1", halves(tags)),
    ]
    fillings = {
        "element": "element: START_TAG marked END_TAG",
        "literal": "literal: ESCAPED_TAG",
        "half": "\n".join(["half: HALF_TAG", *alike]),
        # Lark tries the other terminals first. All beginnings of a label would take the square of
        # its length, and lark minutes for some that are long.
        "TEXT": r"TEXT: /[^<>\\]+|[<\\]/",
    }
    return load_structure(format.name).fill(fillings)


def escaped(tags: Iterable[str]) -> list[str]:
    return ["\\" + tag for tag in tags]


def halves(tags: Iterable[str]) -> list[str]:
    """The end tags without their last character."""
    return [tag[:-1] for tag in tags if tag.startswith("</")]


def optional(words: Iterable[str]) -> str:
    """A regular expression for one of the words or none, the longest first."""
    ordered = longest_first(words)
    return f"({'|'.join(map(re.escape, ordered))})?" if ordered else ""
