"""single_code: a Python function that collects the surfaces of one label."""

from __future__ import annotations

from collections.abc import Sequence

from constrained_ner.formats.families.code import CodeFormat
from constrained_ner.formats.families.terms import TERM_FEATURES


class SingleCode(CodeFormat):
    name = "single_code"
    expresses = TERM_FEATURES
    with_type = False
    noun = "type"

    def instruction(self, labels: Sequence[str]) -> str:
        return (
            "Write a Python function that repeats the text as input_text and appends each "
            f"{labels[0]} mention in it to entity_list, in the order in which they occur."
        )
