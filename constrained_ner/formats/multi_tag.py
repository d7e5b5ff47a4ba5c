"""multi_tag: the text, with a pair of tags around each entity."""

from __future__ import annotations

from collections.abc import Sequence

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
        markers = self.markers(labels)
        tags = [tag for pair in markers for tag in pair]
        # Each beginning of a tag is a token of its own: neither engine backtracks in its lexer.
        beginnings = {tag[:i] for tag in tags for i in range(1, len(tag))}
        half = {closing[:-1] for _, closing in markers}
        escaped = {"\\" + beginning for beginning in beginnings} | {"\\"}
        elements = [f"{quote(opening)} marked {quote(closing)}" for opening, closing in markers]
        return {
            "element": "element: " + " | ".join(elements),
            "literal": choice("literal", ["\\" + tag for tag in tags]),
            "near": choice("near", sorted((beginnings | escaped) - half)),
            "half": choice("half", sorted(half)),
        }
