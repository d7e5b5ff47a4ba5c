"""The formats with offsets: how far they are from the formats with terms, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from constrained_ner.benchmark.blocks import EMPTY, Column, Entry, Table, entry, number, percent
from constrained_ner.benchmark.results import TERMS
from constrained_ner.benchmark.tables import (
    WAY,
    count,
    difference,
    parse_rate,
    pooled_f1,
    way_entries,
)
from constrained_ner.benchmark.view import (
    FREE,
    Cell,
    Group,
    View,
    Way,
    health_sum,
    metric,
    scores_of,
)


def term_of(variant: str) -> str | None:
    return TERMS.get(variant.partition("+")[0])


def span_ways(view: View, group: Group) -> list[Way]:
    """Formats with offsets that were asked for, each beside its other ways."""
    order = list(TERMS)
    ways = [way for way in view.ways(group) if term_of(way[0])]
    return sorted(ways, key=lambda way: order.index(way[0].partition("+")[0]))


def distance_of(view: View, group: Group, way: Way, name: str = "strict") -> list[float | None]:
    """F1 of the format with terms minus that of a way, at the same level, draw by draw."""
    term = (term_of(way[0]) or "", way[1])
    own, other = (view.draws(group, each) for each in (way, term))
    if len(own) != len(other):
        return []
    return [
        None if a is None or b is None else b - a
        for a, b in zip(_f1(own, name), _f1(other, name), strict=True)
    ]


def _f1(draws: Sequence[Sequence[Cell]], name: str) -> list[float | None]:
    return [scores_of(cells, metric(name)).f1 for cells in draws]


def distances(view: View, group: Group) -> Table:
    """The distance to the format with terms: what is of the boundaries, what is not."""
    rows = []
    for way in span_ways(view, group):
        draws = view.draws(group, way)
        term = term_of(way[0]) or ""
        all_of_it = distance_of(view, group, way)
        elsewhere = distance_of(view, group, way, "overlap")
        boundary = [
            None if a is None or b is None else a - b
            for a, b in zip(all_of_it, elsewhere, strict=True)
        ]
        rows.append(
            (
                *way_entries(way),
                pooled_f1(view, group, way),
                entry(_f1(draws, "overlap")),
                Entry(term),
                pooled_f1(view, group, (term, way[1])),
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
    cells = view.pooled(group, way)
    tested = cells[0].get("against_terms") if len(cells) == 1 else None
    if not tested:
        return entry(values)
    low, high = tested["f1"]["interval"]
    return entry(values, (-high, -low))


def validity(view: View, group: Group) -> Table:
    """What is of answers that do not hold together, and what each level changes."""
    rows = []
    for way in span_ways(view, group):
        draws = view.draws(group, way)
        lost = EMPTY
        if way[1] == FREE:
            values = []
            for cells in draws:
                read = scores_of(cells, metric("strict")).f1
                strictly = scores_of(cells, lambda cell: cell.get("read_strictly")).f1
                values.append(None if read is None or strictly is None else read - strictly)
            lost = entry(values)
        free = way[1] == FREE
        rows.append(
            (
                *way_entries(way),
                parse_rate(draws),
                count(draws, lambda cells: health_sum(cells, "offset out of range")),
                count(draws, lambda cells: health_sum(cells, "not in the text")),
                lost,
                EMPTY if free else difference(view.pooled(group, way)),
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


def shift_counts(view: View, group: Group, way: Way, side: str) -> dict[int, int]:
    """By how many characters `start` or `end` misses, and how often; all data sets and draws."""
    found: Counter[int] = Counter()
    for cells in view.draws(group, way):
        for cell in cells:
            found.update(dict(cell.get("shifts", {}).get(side, ())))
    return dict(sorted(found.items()))


def outcomes(view: View, group: Group) -> Table:
    """Predicted spans: right, near a gold entity of their label, or near none."""
    rows = []
    for way in span_ways(view, group):
        draws = view.draws(group, way)
        known = [c["shifts"] for cells in draws for c in cells if "shifts" in c]
        exact, unrelated = (sum(s[key] for s in known) for key in ("exact", "unrelated"))
        start, end = (shift_counts(view, group, way, side) for side in ("start", "end"))
        near = sum(start.values())
        total = exact + near + unrelated
        row = [*way_entries(way), Entry(str(total))]
        row += [Entry(percent(n, total)) for n in (exact, near, unrelated)]
        for shifts in (start, end):
            early = sum(n for shift, n in shifts.items() if shift < 0)
            late = sum(n for shift, n in shifts.items() if shift > 0)
            row += [Entry(percent(n, near)) for n in (early, near - early - late, late)]
        close = sum(n for shift, n in start.items() if 1 <= abs(shift) <= 5)
        moved = near - start.get(0, 0)
        rows.append((*row, Entry(percent(close, moved)), Entry(middle(start))))
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
    """The mean shift of those that are not 0."""
    values = [shift for shift, n in shifts.items() if shift for _ in range(n)]
    return number(fmean(values), 1) if values else EMPTY.text
