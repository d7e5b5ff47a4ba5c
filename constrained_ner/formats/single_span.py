"""single_span: the offsets of one label's entities, as a JSON list of pairs."""

from __future__ import annotations

from collections.abc import Sequence

from constrained_ner.formats.families.spans import SPAN_FEATURES, SpanFormat


class SingleSpan(SpanFormat):
    name = "single_span"
    term_counterpart = "single_term"
    expresses = SPAN_FEATURES
    opening, middle, closing = "[", "", "]"

    def instruction(self, labels: Sequence[str]) -> str:
        return (
            f"List the {labels[0]} mentions in the text, in the order in which they occur, as a "
            "JSON list of pairs of character offsets: start and end."
        )
