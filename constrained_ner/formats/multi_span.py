"""multi_span: offsets and labels, as a JSON list of objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from constrained_ner.formats.answers import Reader
from constrained_ner.formats.base import Feature
from constrained_ner.formats.families.spans import SPAN_FEATURES, SpanFormat
from constrained_ner.formats.families.terms import checked_label, label_strings


class MultiSpan(SpanFormat):
    name = "multi_span"
    term_counterpart = "multi_term"
    expresses = SPAN_FEATURES | {Feature.ALL_LABELS}
    opening, middle, closing = '{"span": [', '], "type": ', "}"

    def instruction(self, labels: Sequence[str]) -> str:
        return (
            f"List the mentions of {', '.join(labels)} in the text, in the order in which they "
            'occur, as a JSON list of objects with the keys "span" (start and end as character '
            'offsets) and "type".'
        )

    def written(self, label: str) -> str:
        return json.dumps(label, ensure_ascii=False)

    def salvage_item(
        self, value: Any, reader: Reader, labels: Sequence[str]
    ) -> tuple[str | None, Any]:
        if not isinstance(value, dict):
            return None, None
        return checked_label(value.get("type"), reader, labels), value.get("span")

    def label_fillings(self, labels: Sequence[str]) -> dict[str, str]:
        return {"LABEL": label_strings(labels)}
