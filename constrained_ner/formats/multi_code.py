"""multi_code: a Python function that collects surfaces and labels."""

from __future__ import annotations

from collections.abc import Sequence

from constrained_ner.formats.base import Feature
from constrained_ner.formats.families.code import CodeFormat
from constrained_ner.formats.families.terms import TERM_FEATURES


class MultiCode(CodeFormat):
    name = "multi_code"
    expresses = TERM_FEATURES | {Feature.ALL_LABELS}
    with_type = True
    noun = "types"

    def instruction(self, labels: Sequence[str]) -> str:
        return (
            "Write a Python function that repeats the text as input_text and appends each mention "
            f"of {', '.join(labels)} in it to entity_list, with its text and type, in the order "
            "in which they occur."
        )
