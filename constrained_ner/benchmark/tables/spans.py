"""The formats with offsets: how far they are from the formats with terms, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import fmean

from constrained_ner.benchmark.blocks import EMPTY, Column, Entry, Table, entry, number, percent
from constrained_ner.benchmark.grid import TERMS, Way
from constrained_ner.benchmark.results import Shifts
from constrained_ner.benchmark.tables.fields import (
    WAY,
    count,
    lost_by_strict_reading,
    minus,
    of_sum,
    parse_rate,
    pooled_against_free,
    pooled_f1,
    way_entries,
)
from constrained_ner.benchmark.view import Group, Pick, View, f1_of, metric, problems, strict
from constrained_ner.formats import ProblemKind
from constrained_ner.formats.grammar import Level

overlap = metric("overlap")


def as_terms(way: Way) -> Way | None:
    """The format with terms at the same level; None for a format that has no offsets."""
    term = way.variant.terms
    return way._replace(variant=term) if term else None


def span_ways(view: View, group: Group) -> list[Way]:
    """The formats with offsets that were asked for, each followed by its variants."""
    order = list(TERMS)
    ways = [way for way in view.ways(group) if as_terms(way)]
    return sorted(ways, key=lambda way: order.index(way.variant.format))


def distance_of(view: View, group: Group, way: Way, pick: Pick = strict) -> list[float | None]:
    """F1 of the format with terms minus that of this way, for each draw."""
    term = as_terms(way)
    pairs = view.paired_draws(group, way, term) if term else []
    return [minus(f1_of(of_term, pick), f1_of(own, pick)) for own, of_term in pairs]


def distances(view: View, group: Group) -> Table:
    """The distance to the format with terms: how much of it is due to wrong boundaries."""
    rows = []
    for way in span_ways(view, group):
        term = as_terms(way) or way
        all_of_it = distance_of(view, group, way)
        elsewhere = distance_of(view, group, way, overlap)
        boundary = [minus(a, b) for a, b in zip(all_of_it, elsewhere, strict=True)]
        rows.append(
            (
                *way_entries(way),
                pooled_f1(view, group, way),
                of_sum(view.draws(group, way), overlap),
                Entry(str(term.variant)),
                pooled_f1(view, group, term),
                _in_all(view, group, way, all_of_it),
                entry(boundary),
                entry(elsewhere),
            )
        )
    return Table(
        "The distance to the format with terms at the same level; below 0 it is the format with "
        "offsets that is ahead. What is left of it where any overlap counts as right is elsewhere; "
        "the rest is of wrong boundaries.",
        (
            *WAY,
            Column("strict F1", "format with offsets"),
            Column("overlap F1", "format with offsets"),
            Column("format", "format with terms"),
            Column("strict F1", "format with terms"),
            Column("in all", "distance"),
            Column("boundaries", "distance"),
            Column("elsewhere", "distance"),
        ),
        tuple(rows),
        2,
    )


def _in_all(view: View, group: Group, way: Way, values: list[float | None]) -> Entry:
    """A distance with the interval of its paired test, where there is one."""
    pooled = view.pooled(group, way)
    differences = pooled[0].against_terms if len(pooled) == 1 else None
    if differences is None:
        return entry(values)
    low, high = differences.f1.interval
    return entry(values, (-high, -low))


def validity(view: View, group: Group) -> Table:
    """Answers that are not valid, what they cost, and what each level changes."""
    rows = []
    for way in span_ways(view, group):
        draws = view.draws(group, way)
        free = way.level == Level.FREE
        rows.append(
            (
                *way_entries(way),
                parse_rate(draws),
                count(draws, lambda cells: problems(cells, ProblemKind.OFFSET)),
                count(draws, lambda cells: problems(cells, ProblemKind.NOT_IN_TEXT)),
                entry(lost_by_strict_reading(draws)) if free else EMPTY,
                EMPTY if free else pooled_against_free(view, group, way),
            )
        )
    return Table(
        "Validity: answers that parse, offsets and surfaces that are not the text's, the F1 that "
        "free answers lose where they are read strictly, and what a level changes.",
        (
            *WAY,
            Column("answers that parse"),
            Column("offsets out of range"),
            Column("surfaces not in the text"),
            Column("lost by a strict reading"),
            Column("F1 against free"),
        ),
        tuple(rows),
        2,
    )


def shifts_of(view: View, group: Group, way: Way) -> Shifts:
    """The shifts of all data sets and draws together."""
    known = [c.shifts for cells in view.draws(group, way) for c in cells if c.shifts]
    return Shifts(
        sum(shifts.exact for shifts in known),
        sum(shifts.unrelated for shifts in known),
        _together(shifts.start for shifts in known),
        _together(shifts.end for shifts in known),
    )


def _together(counts: Iterable[dict[int, int]]) -> dict[int, int]:
    found: Counter[int] = Counter()
    for each in counts:
        found.update(each)
    return dict(sorted(found.items()))


def outcomes(view: View, group: Group) -> Table:
    """Predicted spans: right, near a gold entity of their label, or near none."""
    rows = []
    for way in span_ways(view, group):
        shifts = shifts_of(view, group, way)
        near = sum(shifts.start.values())
        total = shifts.exact + near + shifts.unrelated
        row = [*way_entries(way), Entry(str(total))]
        row += [Entry(percent(n, total)) for n in (shifts.exact, near, shifts.unrelated)]
        for side in (shifts.start, shifts.end):
            early = sum(n for shift, n in side.items() if shift < 0)
            late = sum(n for shift, n in side.items() if shift > 0)
            row += [Entry(percent(n, near)) for n in (early, near - early - late, late)]
        close = sum(n for shift, n in shifts.start.items() if 1 <= abs(shift) <= 5)
        moved = near - shifts.start.get(0, 0)
        rows.append((*row, Entry(percent(close, moved)), Entry(middle(shifts.start))))
    return Table(
        "Predicted spans, all data sets and draws: right; near, that is at most 50 characters from "
        "a gold entity of their label that was not found; or near none. Of those that are near, "
        "where they begin and end.",
        (
            *WAY,
            Column("spans"),
            *(Column(name, "spans are") for name in ("right", "near", "near none")),
            *(Column(name, "beginnings") for name in ("early", "right", "late")),
            *(Column(name, "ends") for name in ("early", "right", "late")),
            Column("by 1 to 5", "wrong beginnings"),
            Column("mean shift", "wrong beginnings"),
        ),
        tuple(rows),
        2,
    )


def middle(shifts: dict[int, int]) -> str:
    """The mean of the shifts that are not 0."""
    values = [shift for shift, n in shifts.items() if shift for _ in range(n)]
    return number(fmean(values), 1) if values else EMPTY.text
