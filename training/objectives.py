"""What training minimises: how much each token of an answer weighs, and which it is told from.

A recipe names its objective (`training.objective`). A new one is another entry of `OBJECTIVES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Objective:
    """The weighted mean of the losses of the tokens in a step.

    Attributes
    ----------
    weights: of an example's tokens, from its loss mask; 0 where there is no loss.
    masked: take the loss over the tokens that the faithful masks allow, and no others.
    """

    weights: Callable[[Sequence[bool]], list[float]]
    masked: bool = False

    def of(
        self,
        logits: Tensor,
        tokens: Tensor,
        weights: Tensor,
        total: Tensor | float,
        allowed: Tensor | None = None,
    ) -> Tensor:
        """What a batch adds to a step.

        Parameters
        ----------
        logits: [n, vocabulary]. tokens, weights: [n].
        total: of all weights in the step.
        allowed: int32 [n, vocabulary / 32], a bit for each token that the masks let through, the
            lowest first; of objectives that are `masked`.
        """
        if allowed is not None:
            logits = _masked(logits, allowed)
        losses = cross_entropy(logits.float(), tokens, reduction="none")
        return (losses * weights).sum() / total


def _alike(mask: Sequence[bool]) -> list[float]:
    return [float(on) for on in mask]


def _by_answer(mask: Sequence[bool]) -> list[float]:
    """The tokens of each answer weigh 1 together, however many they are."""
    weights: list[float] = []
    for on, group in groupby(mask):
        length = len(list(group))
        weights += [1 / length if on else 0.0] * length
    return weights


def _masked(logits: Tensor, allowed: Tensor) -> Tensor:
    """The logits, those of tokens that are not allowed at minus infinity."""
    bits = allowed[..., None] >> torch.arange(32, device=allowed.device) & 1
    bits = bits.flatten(1)[:, : logits.shape[1]] == 1
    # What is beyond the tokenizer's vocabulary is never allowed.
    return logits[:, : bits.shape[1]].float().masked_fill(~bits, -torch.inf)


OBJECTIVES = {
    "tokens": Objective(_alike),
    "answers": Objective(_by_answer),
    "masked": Objective(_alike, masked=True),
}
