"""Fields that occur in several tables: ways, scores, counts, differences to free answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

from constrained_ner.benchmark.blocks import (
    ABSENT,
    DIGITS,
    EMPTY,
    Column,
    Entry,
    Tone,
    bounds,
    entry,
    p_value,
    percent,
    signed,
    spread,
)
from constrained_ner.benchmark.grid import Way
from constrained_ner.benchmark.results import PooledResult
from constrained_ner.benchmark.view import (
    Cells,
    Group,
    Pick,
    View,
    answers,
    f1_of,
    parsed,
    read_strictly,
    strict,
)
from constrained_ner.evaluation.resampling import Difference

WAY = (Column("format"), Column("level"))


def way_entries(way: Way) -> tuple[Entry, Entry]:
    return Entry(str(way.variant)), Entry(str(way.level))


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def minus(a: float | None, b: float | None) -> float | None:
    """a - b; None if one of the two is not known."""
    return None if a is None or b is None else a - b


def count(draws: Sequence[Cells], of: Callable[[Cells], int]) -> Entry:
    """A count; for several draws, the mean of their counts."""
    values = [float(of(cells)) for cells in draws]
    return entry(values, digits=0 if len(values) == 1 else 1)


def best(rows: Sequence[Sequence[Entry]], columns: Sequence[int]) -> tuple[tuple[Entry, ...], ...]:
    """The rows, with the highest number of each of these columns marked."""
    marked = [list(row) for row in rows]
    for i in columns:
        numbers = [row[i].text for row in rows if row[i].text[:1].isdigit()]
        top = max(numbers, key=float, default=None)
        for row in marked:
            if row[i].text == top and float(top) > 0 and not row[i].tone:
                row[i] = replace(row[i], tone=Tone.BEST)
    return tuple(tuple(row) for row in marked)


# ---- scores and answers -------------------------------------------------------------------------


def pooled_f1(view: View, group: Group, way: Way) -> Entry:
    """Strict F1 over all data sets, with its interval if there is only one draw."""
    pooled = view.pooled(group, way)
    return entry([each.strict.scores.f1 for each in pooled], pooled_interval(pooled))


def pooled_interval(pooled: Sequence[PooledResult]) -> tuple[float, float] | None:
    """The interval of F1; None for several draws."""
    intervals = pooled[0].strict.intervals if len(pooled) == 1 else None
    return intervals.f1 if intervals else None


def of_one(draws: Sequence[Cells], pick: Pick, name: str = "f1") -> Entry:
    """A score of one data set, with its interval."""
    picked = [pick(cell) for cells in draws for cell in cells]
    known = [score for score in picked if score is not None]
    intervals = known[0].intervals if len(known) == 1 else None
    interval = getattr(intervals, name) if intervals else None
    values = [getattr(score.scores, name) for score in known]
    return entry(values, interval) if known or not picked else EMPTY


def of_sum(draws: Sequence[Cells], pick: Pick) -> Entry:
    """F1 of several data sets together, from the sums of their counts."""
    return entry([f1_of(cells, pick) for cells in draws])


def parse_rate(draws: Sequence[Cells]) -> Entry:
    if not draws:
        return ABSENT
    cells = [cell for draw in draws for cell in draw]
    return Entry(percent(parsed(cells), answers(cells))) if answers(cells) else EMPTY


def lost_by_strict_reading(draws: Sequence[Cells]) -> list[float | None]:
    """How much F1 free answers lose if only those count that follow their format to the letter."""
    return [minus(f1_of(cells, strict), f1_of(cells, read_strictly)) for cells in draws]


# ---- differences --------------------------------------------------------------------------------

SIGNIFICANT = 0.05


def verdict(difference: Difference) -> Tone:
    """What a difference shows. Only the interval and the p-value that are printed beside it count.

    Better or worse if the interval leaves out 0 and p is below 0.05; nothing if neither holds.
    The two come from different tests (bootstrap, randomisation): if they disagree, it is unclear.
    """
    low, high = (round(end, DIGITS) for end in difference.interval)
    leaves_out_0 = low > 0 or high < 0
    if leaves_out_0 != (round(difference.p, DIGITS) < SIGNIFICANT):
        return Tone.UNCLEAR
    if not leaves_out_0:
        return Tone.PLAIN
    return Tone.BETTER if low > 0 else Tone.WORSE


WORDS = {
    Tone.BETTER: "better",
    Tone.WORSE: "worse",
    Tone.PLAIN: "none shown",
    Tone.UNCLEAR: "unclear",
}


def tested(difference: Difference) -> str:
    """The interval and the p-value, from which the verdict follows."""
    return f"{bounds(difference.interval, signed)}, {p_value(difference.p)}"


def against_free(draws: Sequence[Difference | None]) -> Entry:
    """The difference of F1 to free answers: one draw with its test, several as their mean.

    Parameters
    ----------
    draws: None for one without free answers, or with nothing to measure.
    """
    if not draws:
        return ABSENT
    found = [difference for difference in draws if difference is not None]
    if not found:
        return EMPTY
    if len(draws) == 1:
        (one,) = found
        tone = verdict(one)
        return Entry(signed(one.difference), tested(one), tone, WORDS[tone])
    values = [each.difference for each in found]
    higher = sum(value > 0 for value in values)
    note = f"{spread(values)}, higher in {higher} of {len(values)} draws".removeprefix(", ")
    return Entry(signed(fmean(values)), note)


def pooled_against_free(view: View, group: Group, way: Way) -> Entry:
    """The same over all data sets."""
    pooled = view.pooled(group, way)
    return against_free([each.against_free and each.against_free.f1 for each in pooled])
