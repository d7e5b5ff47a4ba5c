"""multi_tag: the text, with a pair of tags around each entity."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from constrained_ner.fillings import choice, quote
from constrained_ner.formats._tags import Marker, TagFormat
from constrained_ner.formats.base import Feature
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
        slugs = sorted(map(slug, labels), key=lambda name: (-len(name), name))
        tags = [tag for pair in self.markers(labels) for tag in pair]
        # Neither engine backtracks in its lexer, so that each beginning of a tag is a text, too.
        beginnings = {name[:i] for name in slugs for i in range(1, len(name) + 1)}
        some, unfinished = optional(beginnings), optional(beginnings - set(slugs))
        near = rf"\\(<\/?{some})?|<{some}|<\/{unfinished}"
        elements = [f"{quote(f'<{name}>')} marked {quote(f'</{name}>')}" for name in slugs]
        return {
            "element": "element: " + " | ".join(elements),
            "literal": choice("literal", ["\\" + tag for tag in tags]),
            "half": choice("half", [f"</{name}" for name in slugs]),
            "TEXT": rf"TEXT: /[^<>\\]+|{near}/",
        }


def optional(words: Iterable[str]) -> str:
    """A regular expression for one of the words or none, the longest first."""
    ordered = sorted(words, key=lambda word: (-len(word), word))
    return f"({'|'.join(map(re.escape, ordered))})?" if ordered else ""
