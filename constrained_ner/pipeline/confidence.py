"""How sure a model is of what it wrote, from the probabilities of its tokens."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from constrained_ner.engines.base import Answer
from constrained_ner.engines.vocabulary import Vocabulary


class Confidence:
    """The probabilities of parts of an answer.

    A token's probability is the model's, given everything before the token, renormalised over the
    tokens that the grammar allowed; it is 1 where the grammar allowed a single token. The
    probability of a part is the product over its tokens: how likely the model, sampling under the
    mask, would write this part at this place.
    """

    def __init__(self, answer: Answer, vocabulary: Vocabulary):
        self._steps = answer.steps
        # The byte offset of each character, and the end.
        self._bytes = list(accumulate((len(c.encode()) for c in answer.text), initial=0))
        # The byte offset in the answer at which each token begins, and the last one ends.
        sizes = [int(vocabulary.lengths[token]) for token in answer.tokens]
        self._starts = list(accumulate(sizes, initial=-vocabulary.prefix(answer.tokens)))

    def of(self, places: Sequence[tuple[int, int]]) -> float:
        """The probability of a part of the answer, from 0 to 1.

        Parameters
        ----------
        places: the spans that make up the part, in code points of the answer.
        """
        tokens: set[int] = set()
        for start, end in places:
            first = bisect_right(self._starts, self._bytes[start]) - 1
            tokens.update(range(max(0, first), bisect_left(self._starts, self._bytes[end])))
        total = sum(self._steps[i].masked for i in sorted(tokens) if i < len(self._steps))
        return min(1.0, math.exp(total))
