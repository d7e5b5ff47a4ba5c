"""single_term: the surfaces of one label, as a JSON list of strings."""

from __future__ import annotations

from collections.abc import Sequence

from constrained_ner.formats.families.terms import StringListFormat


class SingleTerm(StringListFormat):
    name = "single_term"

    def instruction(self, labels: Sequence[str]) -> str:
        return (
            f"List the {labels[0]} mentions in the text, in the order in which they occur, as a "
            "JSON list of strings."
        )
