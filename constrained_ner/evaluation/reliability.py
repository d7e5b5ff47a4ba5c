"""From scored entities and gold to what a score is worth: see `Calibration`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constrained_ner.documents import Entity
from constrained_ner.errors import InputError, require
from constrained_ner.pipeline.calibration import ENOUGH, Calibration, Threshold, between

BINS = 20  # of as many entities each, of which a point is the mean
ERROR_BINS = 10  # of the expected calibration error, of equal width
FOLDS = 5
DIGITS = 4  # of what is kept with a model
_THRESHOLDS = 50

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """What was found in a document: the score of each entity, and the gold ones."""

    scores: Mapping[Entity, float]
    gold: frozenset[Entity]


def check_installed() -> None:
    """Raises `MissingExtraError` without scikit-learn."""
    require("sklearn", "calibration", "calibrate")


def calibrate(
    judged: Sequence[Judged], formats: Sequence[str], level: str, seed: int = 0
) -> Calibration:
    """What scores are worth, by isotonic regression.

    The scores are put into bins of as many entities each, and a probability is the share of a bin
    that is right, with one right and one wrong entity added to it, so that none is 0 or 1.

    Parameters
    ----------
    judged: documents of dev. `seed`: of their division into folds.

    Raises
    ------
    InputError: there are fewer entities than `ENOUGH`, of which nothing can be told.
    MissingExtraError: see `check_installed`.
    """
    scores, right, document = _columns(judged)
    if len(scores) < ENOUGH:
        raise InputError(
            f"{', '.join(formats)}: {len(scores)} entities were found, expected at least {ENOUGH}"
        )
    points = _points(scores, right)
    gold = sum(len(one.gold) for one in judged)
    return Calibration(
        tuple(formats),
        level,
        points,
        _thresholds(_applied(points, scores), right, gold),
        round(_error(_held_out(scores, right, document, seed), right), DIGITS),
        round(_error(scores, right), DIGITS),
        len(judged),
        gold,
        seed,
    )


def calibration_error(judged: Sequence[Judged]) -> float | None:
    """The expected calibration error of scores that are meant as probabilities; see `Calibration`.

    None where nothing was found.
    """
    scores, right, _ = _columns(judged)
    return _error(scores, right) if len(scores) else None


def thresholds(judged: Sequence[Judged]) -> tuple[Threshold, ...]:
    """What is left above each threshold, see `Calibration.thresholds`."""
    scores, right, _ = _columns(judged)
    gold = sum(len(one.gold) for one in judged)
    return _thresholds(scores, right, gold) if len(scores) else ()


def _columns(judged: Sequence[Judged]) -> tuple[Array, Array, Array]:
    """Of each entity that was found: its score, whether it is right, its document's number."""
    found = [
        (score, e in one.gold, n) for n, one in enumerate(judged) for e, score in one.scores.items()
    ]
    scores, right, document = np.array(found, dtype=np.float64).reshape(-1, 3).T
    return scores, right, document


def _points(scores: Array, right: Array) -> tuple[tuple[float, float], ...]:
    check_installed()
    from sklearn.isotonic import IsotonicRegression

    order = np.argsort(scores, kind="stable")
    bins = np.array_split(order, max(1, min(BINS, len(order) // ENOUGH)))
    at = np.array([scores[each].mean() for each in bins])
    sizes = np.array([len(each) for each in bins])
    share = np.array([(right[each].sum() + 1) / (len(each) + 2) for each in bins])
    rising = IsotonicRegression().fit_transform(at, share, sample_weight=sizes)
    points: dict[float, float] = {}
    for x, y in zip(at, rising, strict=True):
        points[round(float(x), DIGITS + 2)] = round(float(y), DIGITS)
    return tuple(points.items())


def _applied(points: tuple[tuple[float, float], ...], scores: Array) -> Array:
    """See `Calibration.probability`."""
    return np.array([between(points, score) for score in scores.tolist()])


def _held_out(scores: Array, right: Array, document: Array, seed: int) -> Array:
    """The probabilities of entities as the other folds of documents tell them."""
    names = sorted(set(document.tolist()))
    random.Random(seed).shuffle(names)
    fold_of = {name: i % FOLDS for i, name in enumerate(names)}
    folds = np.array([fold_of[name] for name in document.tolist()])
    found = scores.copy()
    for fold in sorted(set(folds.tolist())):
        others, here = folds != fold, folds == fold
        if others.any():
            found[here] = _applied(_points(scores[others], right[others]), scores[here])
    return found


def _error(probabilities: Array, right: Array) -> float:
    """The expected calibration error."""
    bins = np.minimum((probabilities * ERROR_BINS).astype(int), ERROR_BINS - 1)
    gaps = np.zeros(ERROR_BINS)
    np.add.at(gaps, bins, probabilities - right)
    return float(np.abs(gaps).sum() / len(right))


def _thresholds(probabilities: Array, right: Array, gold: int) -> tuple[Threshold, ...]:
    """What is left above up to so many probabilities that were found; the first leaves all."""
    quantiles = np.quantile(probabilities, np.linspace(0, 1, _THRESHOLDS), method="lower")
    # Rounded down, so that the entities whose probability it is stay.
    scale = 10**DIGITS
    found = []
    for least in sorted({0.0, *(np.floor(quantiles * scale) / scale).tolist()}):
        kept: Any = probabilities >= least
        correct, number = int(right[kept].sum()), int(kept.sum())
        recall = correct / gold if gold else 0.0
        precision = correct / number if number else 0.0
        found.append(
            Threshold(round(least, DIGITS), number, round(precision, DIGITS), round(recall, DIGITS))
        )
    return tuple(found)
