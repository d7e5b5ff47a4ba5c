"""conv_term: a conversation that asks for one label a turn; the answers are lists of surfaces."""

from __future__ import annotations

from collections.abc import Sequence

from constrained_ner.formats.families.terms import StringListFormat


class ConvTerm(StringListFormat):
    name = "conv_term"
    conversational = True

    def instruction(self, labels: Sequence[str]) -> str:
        return (
            "For each type that I name, list the mentions of that type in the text, in the order "
            "in which they occur, as a JSON list of strings."
        )
