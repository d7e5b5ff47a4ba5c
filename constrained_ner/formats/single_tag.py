"""single_tag: the text, with `@@` and `##` around the entities of one label."""

from __future__ import annotations

from collections.abc import Sequence

from constrained_ner.formats.base import Feature
from constrained_ner.formats.families.tags import Marker, TagFormat


class SingleTag(TagFormat):
    name = "single_tag"
    expresses = frozenset({Feature.NESTED})

    def instruction(self, labels: Sequence[str]) -> str:
        return (
            f"Repeat the text and mark each {labels[0]} mention in it: put @@ before the mention "
            "and ## after it."
        )

    def marker(self, label: str) -> Marker:
        return "@@", "##"
