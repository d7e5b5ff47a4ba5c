"""Bootstrap intervals and paired tests over documents.

Documents with equal counts are interchangeable, so they are drawn as one: how often each kind of
document occurs in a resample is multinomial, and how many of a kind are swapped is binomial.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from constrained_ner.evaluation.counts import Counts

Array = NDArray[np.float64]
Interval = tuple[float, float]

CONFIDENCE = 0.95
_CELLS = 2**21  # of the largest array: 16 MiB


@dataclass(frozen=True)
class Difference:
    """How much better the second of two systems is, for one score.

    Attributes
    ----------
    difference: second minus first. `interval`: of 95 %, from the paired bootstrap.
    p: two-sided, from approximate randomisation.
    """

    difference: float
    interval: Interval
    p: float


class Intervals(NamedTuple):
    """The intervals of the three scores."""

    precision: Interval
    recall: Interval
    f1: Interval


class Differences(NamedTuple):
    """The differences of the three scores."""

    precision: Difference
    recall: Difference
    f1: Difference


def intervals(
    counts: Sequence[Counts], *, resamples: int = 10_000, seed: int = 0
) -> Intervals | None:
    """95 % percentile intervals of precision, recall and F1 (Efron and Tibshirani 1993, ch. 13).

    Parameters
    ----------
    counts: one for each document.
    resamples: how many; each draws as many documents as there are, with replacement. One
        without any entity is left out.

    Returns
    -------
    None where there is nothing to measure.
    """
    kinds, times = _kinds(counts)
    drawn = [_scores(sums) for sums in _bootstrap(kinds, times, resamples, seed)]
    if not drawn:
        return None
    precision, recall, f1 = (_interval(column) for column in np.concatenate(drawn).T)
    if precision is None or recall is None or f1 is None:
        return None
    return Intervals(precision, recall, f1)


def paired_test(
    first: Sequence[Counts], second: Sequence[Counts], *, resamples: int = 10_000, seed: int = 0
) -> Differences | None:
    """Whether the second of two systems differs from the first, in precision, recall and F1.

    The interval is that of the paired bootstrap: both systems are scored on the same resampled
    documents. The p-value is that of approximate randomisation (Noreen 1989, Yeh 2000,
    https://aclanthology.org/C00-2137): each document's two predictions are swapped with
    probability 1/2, and p = (1 + n) / (1 + resamples), n being how many swaps give a difference
    at least as large as the one observed.

    Parameters
    ----------
    first, second: one for each document, in the same order.

    Returns
    -------
    None where there is nothing to measure.
    """
    kinds, times = _kinds(first, second)
    a, b = kinds[:, :4], kinds[:, 4:]
    observed = _scores(times @ b) - _scores(times @ a)
    if np.isnan(observed).any() or not resamples:
        return None
    differences = np.concatenate(
        [
            _scores(sums[:, 4:]) - _scores(sums[:, :4])
            for sums in _bootstrap(kinds, times, resamples, seed)
        ]
    )
    rng = np.random.default_rng(seed)
    reached = np.zeros(3)
    for size in _sizes(resamples, len(times)):
        moved = rng.binomial(times, 0.5, size=(size, len(times))) @ (b - a)
        swapped = _scores(times @ b - moved) - _scores(times @ a + moved)
        # The tolerance takes equal fractions as equal, however they were summed.
        # A swap that leaves nothing to measure is no reason to think better of a system.
        reached += (~(np.abs(swapped) < np.abs(observed) - 1e-12)).sum(axis=0)
    found = []
    for i in range(3):
        interval = _interval(differences[:, i])
        if interval is None:
            return None
        found.append(
            Difference(float(observed[i]), interval, float((1 + reached[i]) / (1 + resamples)))
        )
    return Differences(*found)


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """Differences with p-values that are corrected for how many there are (Holm 1979).

    A verdict at 0.05 on each of them is then wrong about any true null hypothesis with a
    probability of at most 0.05. Intervals stay those of each difference by itself.
    """
    order = sorted(range(len(differences)), key=lambda i: differences[i].p)
    found, highest = list(differences), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * differences[i].p))
        found[i] = replace(differences[i], p=highest)
    return found


def _kinds(*systems: Sequence[Counts]) -> tuple[Array, NDArray[np.int64]]:
    """The different rows of counts, sorted, and how many documents have each."""
    rows = [[x for counts in row for x in astuple(counts)] for row in zip(*systems, strict=True)]
    table = np.array(rows, dtype=np.float64).reshape(-1, 4 * len(systems))
    kinds, times = np.unique(table, axis=0, return_counts=True)
    return kinds, times


def _sizes(resamples: int, width: int) -> Iterator[int]:
    """Resamples in portions that fit into memory."""
    portion = max(1, _CELLS // max(1, width))
    for done in range(0, resamples, portion):
        yield min(portion, resamples - done)


def _bootstrap(
    kinds: Array, times: NDArray[np.int64], resamples: int, seed: int
) -> Iterator[Array]:
    """Sums of counts over resampled documents, some resamples at a time."""
    if not len(times):
        return
    rng = np.random.default_rng(seed)
    documents = int(times.sum())
    for size in _sizes(resamples, len(times)):
        yield rng.multinomial(documents, times / documents, size=size) @ kinds


def _scores(sums: Array) -> Array:
    """`Counts.scores` over arrays, [..., 4] -> [..., 3]; nan in place of None."""
    gold, found, predicted, correct = np.moveaxis(sums, -1, 0)
    precision, recall = correct / np.maximum(predicted, 1), found / np.maximum(gold, 1)
    both = precision + recall
    f1 = 2 * precision * recall / np.where(both > 0, both, 1)
    scores = np.stack([precision, recall, f1], axis=-1)
    scores[gold + predicted == 0] = np.nan
    return scores


def _interval(values: Array) -> Interval | None:
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
