"""How sure a model is of what it wrote, from what was recorded of its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from constrained_ner.engines.base import Answer
from constrained_ner.engines.vocabulary import Vocabulary


class Confidence:
    """The probability of parts of an answer.

    It is the product, over the tokens that lie in the places of a part, each once, of the token's
    probability under the model, given all that stands before it, renormalised over what the grammar
    let through there. A token that the grammar leaves no choice about counts for 1. So it is the
    probability that the model, drawing under the mask, would write this part where it stands.
    """

    def __init__(self, answer: Answer, vocabulary: Vocabulary):
        self._text = answer.text
        self._steps = answer.steps
        # Where in the answer, in bytes, each token begins, and where the last one ends.
        sizes = [int(vocabulary.lengths[token]) for token in answer.tokens]
        self._starts = list(accumulate(sizes, initial=0))

    def of(self, places: Sequence[tuple[int, int]]) -> float:
        """The probability of what stands there, 0 to 1.

        Parameters
        ----------
        places: spans of the answer, in code points.
        """
        spans = [
            (len(self._text[:start].encode()), len(self._text[:end].encode()))
            for start, end in places
        ]
        total = sum(
            step.masked
            for i, step in enumerate(self._steps)
            if any(self._starts[i] < end and start < self._starts[i + 1] for start, end in spans)
        )
        return min(1.0, math.exp(total))
