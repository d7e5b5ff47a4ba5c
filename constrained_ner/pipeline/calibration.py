"""What a confidence is worth: from how sure a model is to how often it is right.

A confidence is the probability that the model would write an entity, see `Confidence`, or the score
that several formats come to, see `Agreement`. Neither says how often such entities are right.
`cner calibrate` counts that on dev, and a `Calibration` of each way to ask is kept with the model.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from constrained_ner.errors import InputError

ENOUGH = 20  # entities on dev, of which a precision can be told


class Threshold(NamedTuple):
    """What is left of the entities on dev that are at least so probable.

    Attributes
    ----------
    least: a probability. `entities`: how many are left. `precision`, `recall`: of them.
    """

    least: float
    entities: int
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


@dataclass(frozen=True)
class Calibration:
    """From confidences to probabilities, in one way to ask.

    Attributes
    ----------
    formats: those that are asked together. `level`: of their answers.
    points: confidences with the probability of each, rising; between two of them it is linear.
    thresholds: by their probability, rising.
    error: the expected calibration error of the probabilities, by cross-validation: the mean of
        |probability - share that is right| over ten bins of equal width, weighted by their entities
        (Guo et al. 2017, https://arxiv.org/abs/1706.04599). `raw_error`: that of the confidences.
    documents, entities: how many there are in the sample of dev, and in its gold. `seed`: of it.
    """

    formats: tuple[str, ...]
    level: str
    points: tuple[tuple[float, float], ...]
    thresholds: tuple[Threshold, ...]
    error: float
    raw_error: float
    documents: int
    entities: int
    seed: int

    def probability(self, confidence: float) -> float:
        """How often an entity with this confidence is right, from 0 to 1."""
        return between(self.points, confidence)

    @property
    def best(self) -> Threshold:
        """The threshold with the highest F1 on dev; of several the lowest."""
        return max(self.thresholds, key=lambda one: (one.f1, -one.least))


def between(points: Sequence[tuple[float, float]], x: float) -> float:
    """The value at x of the line through points, which rise in x; level beyond its ends."""
    after = bisect_right(points, x, key=itemgetter(0))
    if after == 0:
        return points[0][1]
    if after == len(points):
        return points[-1][1]
    (x0, y0), (x1, y1) = points[after - 1 : after + 1]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def calibration_of(
    known: Sequence[Calibration], formats: Sequence[str], level: str
) -> Calibration | None:
    """The one of these formats, in any order, at this level; None where it was not measured."""
    same = (c for c in known if set(c.formats) == set(formats) and c.level == level)
    return next(same, None)


def least_for(calibration: Calibration | None, precision: float, formats: str, level: str) -> float:
    """The lowest threshold with a precision on dev, of those that keep `ENOUGH` entities there.

    Parameters
    ----------
    formats, level: what was asked for, for messages.

    Raises
    ------
    InputError: there is none; or there is no calibration, so that none is known.
    """
    if calibration is None:
        raise InputError(
            f"the model does not know its precision in {formats}, {level}: `cner calibrate` "
            "measures it"
        )
    known = [one for one in calibration.thresholds if one.entities >= ENOUGH]
    for one in known:
        if one.precision >= precision:
            return one.least
    most = max(known, key=lambda one: one.precision, default=None)
    told = f"{most.precision:.2f}, with a recall of {most.recall:.2f}" if most else "of too few"
    raise InputError(
        f"a precision of {precision:g} cannot be had in {formats}: the most that was measured on "
        f"dev is {told}"
    )
