"""The recall ceiling: which gold entities a format can write at all."""

from __future__ import annotations

from collections import Counter

from constrained_ner.benchmark.blocks import EMPTY, Column, Entry, Table, entry
from constrained_ner.benchmark.grid import Way
from constrained_ner.benchmark.tables.fields import WAY, way_entries
from constrained_ner.benchmark.view import Group, View


def recall_ceiling(view: View, group: Group) -> Table:
    """The share of gold entities that gold answers give back. Equal levels share a row."""
    rows: list[tuple[Entry, ...]] = []
    for variant in view.variants_of(group):
        grouped: dict[tuple[Entry, ...], list[str]] = {}
        for way in view.ways(group):
            if way.variant == variant:
                grouped.setdefault(_shares(view, group, way), []).append(way.level)
        rows += [
            (Entry(str(variant)), Entry(", ".join(levels)), *found)
            for found, levels in grouped.items()
        ]
    return Table(
        "The highest recall that a format allows: the share of gold entities that reading the gold "
        "answer gives back.",
        (*WAY, *(Column(name) for name in view.names)),
        tuple(rows),
        2,
    )


def _shares(view: View, group: Group, way: Way) -> tuple[Entry, ...]:
    """The shares for each data set."""
    found = []
    for name in view.names:
        draws = view.draws(group, way, [name])
        known = [cell.ceiling for cells in draws for cell in cells if cell.ceiling]
        values = [c.returned / c.entities if c.entities else None for c in known]
        found.append(entry(values) if known or not draws else EMPTY)
    return tuple(found)


def unwritable(view: View, group: Group) -> Table:
    """How many gold entities cannot be written, and why; all draws together."""
    rows = []
    for way in view.ways(group):
        causes: Counter[tuple[str, str]] = Counter()
        for result in view.cells(group):
            if result.cell.way == way and result.ceiling:
                for cause, times in result.ceiling.dropped.items():
                    causes[result.cell.data, cause] += times
        rows += [
            (*way_entries(way), Entry(name), Entry(cause), Entry(str(times)))
            for (name, cause), times in sorted(causes.items())
        ]
    return Table(
        "Gold entities that cannot be written, and why.",
        (*WAY, Column("data set"), Column("cause"), Column("entities")),
        tuple(rows),
        4,
    )
