"""The main table of the report: what constraints change in each format, over all data sets."""

from __future__ import annotations

from constrained_ner.benchmark.blocks import EMPTY, Column, Entry, Table
from constrained_ner.benchmark.grid import Way
from constrained_ner.benchmark.tables.fields import (
    best,
    count,
    parse_rate,
    pooled_against_free,
    pooled_f1,
)
from constrained_ner.benchmark.view import Group, View, untrue
from constrained_ner.formats.grammar import Level


def main_table(view: View, group: Group) -> Table:
    """A row for each format, columns for each level."""
    ways = set(view.ways(group))
    masked = [level for level in view.masked if Level.FREE in view.levels]
    rows = []
    for variant in view.variants_of(group):
        row = [Entry(str(variant))]
        every = [Way(variant, level) for level in view.levels]
        row += [pooled_f1(view, group, way) if way in ways else EMPTY for way in every]
        row += [pooled_against_free(view, group, Way(variant, level)) for level in masked]
        row += [parse_rate(view.draws(group, way)) for way in every]
        row += [count(view.draws(group, way), untrue) for way in every]
        rows.append(tuple(row))
    return Table(
        "Strict F1, what each level changes, answers that follow their format to the letter, and "
        "surfaces, offsets and copies that are not true to the text. A difference is shown where "
        "its 95 % interval does not include 0 and p, corrected for the number of tests, is below "
        "0.05, and is unclear where only one of them is so.",
        (
            Column("format"),
            *(Column(level, "strict F1") for level in view.levels),
            *(Column(level, "F1 against free") for level in masked),
            *(Column(level, "answers that parse") for level in view.levels),
            *(Column(level, "untrue to the text") for level in view.levels),
        ),
        best(rows, range(1, 1 + len(view.levels))),
    )
