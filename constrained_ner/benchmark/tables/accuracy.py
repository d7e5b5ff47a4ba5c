"""Accuracy: by data set, by label, and by other definitions of F1."""

from __future__ import annotations

from collections.abc import Sequence

from constrained_ner.benchmark.blocks import EMPTY, Column, Entry, Table, entry
from constrained_ner.benchmark.grid import Way
from constrained_ner.benchmark.results import CorpusSummary
from constrained_ner.benchmark.tables.fields import (
    WAY,
    against_free,
    best,
    lost_by_strict_reading,
    mean_of,
    of_one,
    of_sum,
    parse_rate,
    way_entries,
)
from constrained_ner.benchmark.view import (
    Cells,
    Group,
    View,
    gold_of,
    metric,
    read_strictly,
    row_of,
    strict,
)
from constrained_ner.formats.grammar import Level


def by_data(view: View, group: Group) -> Table:
    """Strict F1 on each data set."""
    rows = [
        (
            *way_entries(way),
            *(of_one(view.draws(group, way, [name]), strict) for name in view.names),
        )
        for way in view.ways(group)
    ]
    return Table(
        "Strict F1 by data set.",
        (*WAY, *(Column(name) for name in view.names)),
        best(rows, range(2, 2 + len(view.names))),
        2,
    )


def of_data(view: View, group: Group, name: str) -> Table:
    """One data set: strict scores, the effect of levels, and F1 by other definitions."""
    rows = []
    for way in view.ways(group):
        draws = view.draws(group, way, [name])
        cells = [cell for cells in draws for cell in cells]
        free = way.level == Level.FREE
        changes = [cell.against_free and cell.against_free.f1 for cell in cells]
        rows.append(
            (
                *way_entries(way),
                *(of_one(draws, strict, score) for score in ("precision", "recall", "f1")),
                EMPTY if free and draws else against_free(changes),
                *(of_one(draws, metric(name)) for name in ("text_set", "overlap", "macro")),
                of_one(draws, read_strictly) if free else EMPTY,
            )
        )
    return Table(
        f"{name}: strict precision, recall and F1, and F1 counted in other ways.",
        (
            *WAY,
            *(Column(column, "strict") for column in ("P", "R", "F1", "F1 against free")),
            Column("(label, text)", "F1 otherwise"),
            Column("overlap", "F1 otherwise"),
            Column("macro", "F1 otherwise"),
            Column("read strictly", "F1 otherwise"),
        ),
        tuple(rows),
        2,
    )


def other_counts(view: View, group: Group) -> Table:
    """F1 over all data sets by other definitions."""
    names = ("strict", "text_set", "text_multiset", "overlap", "partial")
    rows = []
    for way in view.ways(group):
        draws = view.draws(group, way)
        counted = (of_sum(draws, metric(name)) for name in names)
        rows.append((*way_entries(way), *counted, _macro(draws)))
    return Table(
        "F1 over all data sets, counted in other ways: by label and text, each counting once a "
        "document or as often as mentioned; any overlap; half for an overlap; and the mean over "
        "labels, averaged over data sets.",
        (
            *WAY,
            Column("strict"),
            Column("(label, text), once"),
            Column("(label, text), all"),
            Column("overlap"),
            Column("partial"),
            Column("macro"),
        ),
        tuple(rows),
        2,
    )


def _macro(draws: Sequence[Cells]) -> Entry:
    """The mean over labels, averaged over the data sets of a draw that have one."""
    return entry([mean_of([metric("macro")(c).scores.f1 for c in cells]) for cells in draws])


def by_label(view: View, group: Group, data: CorpusSummary) -> Table:
    """Strict F1 of each label of a data set."""
    gold: dict[str, int] = {}
    for result in view.cells(group):
        if result.cell.data == data.name:
            rows_of_label = result.breakdowns.get("label", ())
            for label, score in rows_of_label:
                gold.setdefault(label, gold_of(score))  # of the first draw, as in the setup
    rows = [
        (
            *way_entries(way),
            *(
                of_one(view.draws(group, way, [data.name]), row_of("label", label))
                for label in data.labels
            ),
        )
        for way in view.ways(group)
    ]
    return Table(
        f"{data.name}: strict F1 by label; in the heads, how many gold entities there are.",
        (*WAY, *(Column(f"{label} ({gold.get(label, 0)})") for label in data.labels)),
        tuple(rows),
        2,
    )


def in_two_readings(view: View, group: Group) -> Table:
    """Free answers: F1 of all that can be read, and of those that follow their format exactly."""
    rows = []
    for variant in view.variants_of(group):
        draws = view.draws(group, Way(variant, Level.FREE))
        rows.append(
            (
                Entry(str(variant)),
                parse_rate(draws),
                of_sum(draws, strict),
                of_sum(draws, read_strictly),
                entry(lost_by_strict_reading(draws)),
            )
        )
    return Table(
        "Free answers over all data sets, read in two ways: strict F1 of all that can be read, and "
        "of those answers only that follow their format to the letter.",
        (
            Column("format"),
            Column("answers that parse"),
            Column("F1, read leniently"),
            Column("F1, read strictly"),
            Column("lost by a strict reading"),
        ),
        tuple(rows),
    )
