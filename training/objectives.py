"""What training minimises: how much each token of an answer weighs, and the loss of one token.

A recipe names its objective (`training.objective`). A new one is another entry of `OBJECTIVES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

USUAL = 30  # tokens of an answer that weighs as much by `answers` as by `tokens`


@dataclass(frozen=True)
class Objective:
    """The weighted sum of the losses of tokens, divided by how many there are in a step.

    Attributes
    ----------
    weights: of an example's tokens, from its loss mask; 0 where there is no loss.
    loss: from logits [n, vocabulary] and the tokens [n] that they are to give to losses [n].
    """

    weights: Callable[[Sequence[bool]], list[float]]
    loss: Callable[[Tensor, Tensor], Tensor]

    def of(self, logits: Tensor, tokens: Tensor, weights: Tensor, number: Tensor | int) -> Tensor:
        """What a batch adds to a step of `number` tokens; `tokens` and `weights` are [n]."""
        return (self.loss(logits, tokens) * weights).sum() / number


def _alike(mask: Sequence[bool]) -> list[float]:
    return [float(on) for on in mask]


def _by_answer(mask: Sequence[bool]) -> list[float]:
    """The tokens of each answer weigh `USUAL` together, however many they are."""
    weights: list[float] = []
    for on, group in groupby(mask):
        length = len(list(group))
        weights += [USUAL / length if on else 0.0] * length
    return weights


def _cross_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits.float(), tokens, reduction="none")


OBJECTIVES = {
    "tokens": Objective(_alike, _cross_entropy),
    "answers": Objective(_by_answer, _cross_entropy),
}
