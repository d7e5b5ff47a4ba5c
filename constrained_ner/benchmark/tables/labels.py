"""Which labels the spans of gold entities were given, as in the paper's section 5.3."""

from __future__ import annotations

from collections import Counter

from constrained_ner.benchmark.blocks import ABSENT, Column, Entry, Table, percent
from constrained_ner.benchmark.grid import Variant
from constrained_ner.benchmark.tables.fields import WAY, way_entries
from constrained_ner.benchmark.view import Group, View
from constrained_ner.formats.grammar import Level

RIGHT, WRONG, NOT_ASKED_FOR = "right", "wrong", "not asked for"


def _kind(gold: str, label: str, asked: tuple[str, ...]) -> str:
    """Whether a label is the gold one, another that was asked for, or none of these."""
    return RIGHT if gold == label else WRONG if label in asked else NOT_ASKED_FOR


def labels_given(view: View, group: Group, variant: Variant, name: str) -> Table | None:
    """One format on one data set, all draws together; None if it was not measured."""
    asked = next((data.labels for data in view.data if data.name == name), ())
    given: dict[Level, Counter[tuple[str, str]]] = {}
    for result in view.cells(group):
        cell = result.cell
        if (cell.variant, cell.data) == (variant, name) and result.labels_given is not None:
            counts = given.setdefault(cell.level, Counter())
            for gold, label, times in result.labels_given:
                counts[gold, label] += times
    if not given:
        return None
    pairs = sorted({pair for counts in given.values() for pair in counts})
    levels = [level for level in view.levels if level in given]
    rows = [
        (
            Entry(gold),
            Entry(label),
            Entry(_kind(gold, label, asked)),
            *(Entry(str(given[level][gold, label])) for level in levels),
        )
        for gold, label in pairs
    ]
    return Table(
        f"{variant} on {name}: spans of gold entities, by the label that they were given.",
        (
            Column("gold label"),
            Column("label given"),
            Column(""),
            *(Column(level, "times") for level in levels),
        ),
        tuple(rows),
        3,
    )


def drift(view: View, group: Group) -> Table:
    """How many of the gold spans that were found have which kind of label; all data sets."""
    known = {r.cell.variant for r in view.cells(group) if r.labels_given is not None}
    labels = {data.name: data.labels for data in view.data}
    rows: list[tuple[Entry, ...]] = []
    for way in view.ways(group):
        draws = view.draws(group, way)
        if way.variant not in known:
            continue
        if not draws:
            rows.append((*way_entries(way), *[ABSENT] * 4))
            continue
        kinds = dict.fromkeys((RIGHT, WRONG, NOT_ASKED_FOR), 0)
        for result in (result for cells in draws for result in cells):
            for gold, label, times in result.labels_given or ():
                kinds[_kind(gold, label, labels[result.cell.data])] += times
        total = sum(kinds.values())
        rows.append(
            (
                *way_entries(way),
                *(Entry(str(n)) for n in kinds.values()),
                Entry(percent(total - kinds[RIGHT], total)),
            )
        )
    return Table(
        "Spans of gold entities, by the label that they were given, over all data sets: the right "
        "one, another one of those asked for, or one that only another data set has.",
        (*WAY, *map(Column, (RIGHT, WRONG, NOT_ASKED_FOR, "not right"))),
        tuple(rows),
        2,
    )
