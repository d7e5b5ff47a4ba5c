"""Counts, and the scores that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

from constrained_ner.documents import Entity


class Scores(NamedTuple):
    """Fractions from 0 to 1; None where there is nothing to measure."""

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Counts:
    """What a metric counts in one document, or in the sum of several.

    Parameters
    ----------
    gold, found: gold entities, and those of them that were predicted.
    predicted, correct: predicted entities, and those of them that are right. `found` and
        `correct` differ only for subsets, which gold and predictions draw each for themselves;
        both hold halves where there is partial credit.
    """

    gold: int = 0
    found: float = 0
    predicted: int = 0
    correct: float = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def scores(self) -> Scores:
        """Precision, recall and F1.

        All are None where there are neither gold nor predicted entities; otherwise a fraction
        with the denominator 0 is 0.
        """
        if not self.gold and not self.predicted:
            return Scores(None, None, None)
        precision = self.correct / self.predicted if self.predicted else 0.0
        recall = self.found / self.gold if self.gold else 0.0
        both = precision + recall
        return Scores(precision, recall, 2 * precision * recall / both if both else 0.0)


# Text, gold entities, predicted entities.
Metric = Callable[[str, Sequence[Entity], Sequence[Entity]], Counts]


def average(scores: Iterable[Scores]) -> Scores:
    """Means of precision, recall and F1, each for itself; those that are None are left out.

    Over labels this is the macro average. Its F1 is the mean of the F1s, not the F1 of the means
    (Opitz and Burst 2019, https://arxiv.org/abs/1911.03347).
    """
    kept = list(scores)
    return Scores(
        _mean(score.precision for score in kept),
        _mean(score.recall for score in kept),
        _mean(score.f1 for score in kept),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
