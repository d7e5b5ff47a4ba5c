"""The rows of the report's tables, whatever it is written as."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from constrained_ner.benchmark.blocks import (
    ABSENT,
    EMPTY,
    Column,
    Entry,
    Table,
    Tone,
    bounds,
    entry,
    number,
    p_value,
    percent,
    signed,
    spread,
)
from constrained_ner.benchmark.view import (
    FREE,
    UNTRUE,
    Cell,
    Group,
    View,
    Way,
    cost,
    health_sum,
    metric,
    row_of,
    scores_of,
    tenths,
    untrue,
)

PROBLEMS = ("unparsable", "unknown label", *UNTRUE, "duplicate", "truncated", "dropped")
WAY = (Column("format"), Column("level"))

Pick = Callable[[Cell], dict[str, Any] | None]


def way_entries(way: Way) -> tuple[Entry, Entry]:
    return Entry(way[0]), Entry(way[1])


# ---- differences --------------------------------------------------------------------------------


def verdict(difference: dict[str, Any]) -> Tone:
    """Better or worse where the interval does not include 0."""
    low, high = difference["interval"]
    return Tone.BETTER if low > 0 else Tone.WORSE if high < 0 else Tone.PLAIN


WORDS = {Tone.BETTER: "better", Tone.WORSE: "worse", Tone.PLAIN: "none shown"}


def difference(cells: Sequence[Cell]) -> Entry:
    """F1 against free decoding: of one draw with its test, of several their mean."""
    if not cells:
        return ABSENT
    found = [cell["against_free"]["f1"] for cell in cells if cell.get("against_free")]
    if not found:
        return EMPTY
    if len(cells) == 1:
        (one,) = found
        tone = verdict(one)
        note = f"{bounds(one['interval'], signed)}, {p_value(one['p'])}"
        return Entry(signed(one["difference"]), note, tone, WORDS[tone])
    values = [each["difference"] for each in found]
    higher = sum(value > 0 for value in values)
    note = f"{spread(values)}, higher in {higher} of {len(values)} draws".removeprefix(", ")
    return Entry(signed(fmean(values)), note)


# ---- the main table -----------------------------------------------------------------------------


def pooled_f1(view: View, group: Group, way: Way) -> Entry:
    cells = view.pooled(group, way)
    one = cells[0]["strict"] if len(cells) == 1 else {}
    interval = (one.get("intervals") or {}).get("f1")
    return entry([cell["strict"]["f1"] for cell in cells], interval)


def main_table(view: View, group: Group) -> Table:
    """Format by level: what constraints buy, all data sets pooled."""
    variants, ways = view.variants_of(group), set(view.ways(group))
    masked = [level for level in view.masked if FREE in view.levels]
    rows = []
    for variant in variants:
        row = [Entry(variant)]
        every = [(variant, level) for level in view.levels]
        row += [pooled_f1(view, group, way) if way in ways else EMPTY for way in every]
        row += [difference(view.pooled(group, (variant, level))) for level in masked]
        row += [parse_rate(view.draws(group, way)) for way in every]
        row += [untrue_entry(view.draws(group, way)) for way in every]
        rows.append(tuple(row))
    return Table(
        "Strict F1, what each level changes, answers that follow their format to the letter, and "
        "surfaces, offsets and copies that are not true to the text. A difference is shown where "
        "its 95 % interval does not include 0.",
        (
            Column("format"),
            *(Column(level, "strict F1") for level in view.levels),
            *(Column(level, "F1 against free") for level in masked),
            *(Column(level, "answers that parse") for level in view.levels),
            *(Column(level, "untrue to the text") for level in view.levels),
        ),
        best(rows, range(1, 1 + len(view.levels))),
    )


def parse_rate(draws: Sequence[Sequence[Cell]]) -> Entry:
    if not draws:
        return ABSENT
    cells = [cell for draw in draws for cell in draw]
    parsed, answers = health_sum(cells, "parsed"), health_sum(cells, "answers")
    return Entry(percent(parsed, answers)) if answers else EMPTY


def untrue_entry(draws: Sequence[Sequence[Cell]]) -> Entry:
    return count(draws, untrue)


def count(draws: Sequence[Sequence[Cell]], of: Callable[[Sequence[Cell]], int]) -> Entry:
    """A count; of several draws their mean."""
    values = [float(of(cells)) for cells in draws]
    return entry(values, digits=0 if len(values) == 1 else 1)


def best(rows: Sequence[Sequence[Entry]], columns: Sequence[int]) -> tuple[tuple[Entry, ...], ...]:
    """The rows, with the highest number of each column marked."""
    marked = [list(row) for row in rows]
    for i in columns:
        numbers = [row[i].text for row in rows if row[i].text[:1].isdigit()]
        top = max(numbers, key=float, default=None)
        for row in marked:
            if row[i].text == top and float(top) > 0 and not row[i].tone:
                row[i] = Entry(top, row[i].note, Tone.BEST)
    return tuple(tuple(row) for row in marked)


# ---- accuracy -----------------------------------------------------------------------------------


def of_one(draws: Sequence[Sequence[Cell]], pick: Pick, name: str = "f1") -> Entry:
    """A score of one data set, with its interval."""
    rows = [pick(cell) for cells in draws for cell in cells]
    known = [row for row in rows if row is not None]
    interval = (known[0].get("intervals") or {}).get(name) if len(known) == 1 else None
    return entry([row[name] for row in known], interval) if known or not rows else EMPTY


def of_sum(draws: Sequence[Sequence[Cell]], pick: Pick, name: str = "f1") -> Entry:
    """A score over the sums of several data sets."""
    return entry([getattr(scores_of(cells, pick), name) for cells in draws])


def by_data(view: View, group: Group) -> Table:
    """Strict F1, data set by data set."""
    rows = [
        (
            *way_entries(way),
            *(of_one(view.draws(group, way, [name]), metric("strict")) for name in view.names),
        )
        for way in view.ways(group)
    ]
    width = len(view.names)
    return Table(
        "Strict F1 by data set.",
        (*WAY, *(Column(name) for name in view.names)),
        best(rows, range(2, 2 + width)),
        2,
    )


def accuracy(view: View, group: Group, name: str) -> Table:
    """One data set: strict precision, recall and F1, what levels change, and other counts."""
    rows = []
    for way in view.ways(group):
        draws = view.draws(group, way, [name])
        cells = [cell for cells in draws for cell in cells]
        strict = metric("strict")
        rows.append(
            (
                *way_entries(way),
                *(of_one(draws, strict, key) for key in ("precision", "recall", "f1")),
                EMPTY if way[1] == FREE and draws else difference(cells),
                of_one(draws, metric("text_set")),
                of_one(draws, metric("overlap")),
                of_one(draws, metric("macro")),
                of_one(draws, lambda cell: cell.get("read_strictly")) if way[1] == FREE else EMPTY,
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
    """All data sets pooled: F1 as other definitions have it."""
    names = ("strict", "text_set", "text_multiset", "overlap", "partial")

    def macro(draws: Sequence[Sequence[Cell]]) -> Entry:
        values = []
        for cells in draws:
            known = [f1 for cell in cells if (f1 := cell["scores"]["macro"]["f1"]) is not None]
            values.append(fmean(known) if known else None)
        return entry(values)

    rows = []
    for way in view.ways(group):
        draws = view.draws(group, way)
        rows.append((*way_entries(way), *(of_sum(draws, metric(n)) for n in names), macro(draws)))
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


def by_label(view: View, group: Group, data: dict[str, Any]) -> Table:
    """Strict F1 of each label of a data set."""
    labels = data["labels"]
    gold: dict[str, float] = {}
    for cell in view.cells(group):
        if cell["data"] == data["name"]:
            gold |= {row["name"]: row["gold"] for row in cell["breakdowns"].get("label", ())}
    rows = [
        (
            *way_entries(way),
            *(
                of_one(view.draws(group, way, [data["name"]]), row_of("label", label))
                for label in labels
            ),
        )
        for way in view.ways(group)
    ]
    return Table(
        f"{data['name']}: strict F1 by label; in the heads, how many gold entities there are.",
        (*WAY, *(Column(f"{label} ({gold.get(label, 0)})") for label in labels)),
        tuple(rows),
        2,
    )


def complex_entities(view: View, group: Group, names: dict[str, list[str]]) -> Table:
    """Nested and discontinuous entities beside plain ones, and the paper's Delta.

    Parameters
    ----------
    names: the data sets to take, for each kind.
    """
    rows = []
    for way in view.ways(group):
        row = [*way_entries(way)]
        for kind, chosen in names.items():
            draws = view.draws(group, way, chosen)
            row += [of_sum(draws, row_of(kind, "plain")), of_sum(draws, row_of(kind, kind))]
            row.append(entry(deltas(draws, kind)))
        rows.append(tuple(row))
    return Table(
        "Strict F1 of plain and of "
        + " and ".join(f"{kind} entities ({', '.join(names[kind])})" for kind in names)
        + "; Delta is the difference, and lower is better.",
        (
            *WAY,
            *(Column(name, kind) for kind in names for name in ("plain", kind, "Delta")),
        ),
        tuple(rows),
        2,
    )


def deltas(draws: Sequence[Sequence[Cell]], kind: str) -> list[float | None]:
    """F1 of plain entities minus F1 of nested or discontinuous ones, draw by draw."""
    found: list[float | None] = []
    for cells in draws:
        plain = scores_of(cells, row_of(kind, "plain")).f1
        other = scores_of(cells, row_of(kind, kind)).f1
        found.append(None if plain is None or other is None else plain - other)
    return found


def read_strictly(view: View, group: Group) -> Table:
    """Free answers: all that can be read, beside those that follow their format to the letter."""
    rows = []
    for variant in view.variants_of(group):
        draws = view.draws(group, (variant, FREE))

        def strictly(cell: Cell) -> dict[str, Any] | None:
            found: dict[str, Any] | None = cell.get("read_strictly")
            return found

        lenient = [scores_of(cells, metric("strict")).f1 for cells in draws]
        literal = [scores_of(cells, strictly).f1 for cells in draws]
        lost = [
            None if a is None or b is None else a - b for a, b in zip(lenient, literal, strict=True)
        ]
        row = (parse_rate(draws), entry(lenient), entry(literal), entry(lost))
        rows.append((Entry(variant), *row))
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


def recall_ceiling(view: View, group: Group) -> Table:
    """The share of gold entities that come back from gold answers."""

    def shares(way: Way) -> tuple[Entry, ...]:
        found = []
        for name in view.names:
            draws = view.draws(group, way, [name])
            known = [cell["ceiling"] for cells in draws for cell in cells if cell["ceiling"]]
            values = [c["returned"] / c["entities"] if c["entities"] else None for c in known]
            found.append(entry(values) if known or not draws else EMPTY)
        return tuple(found)

    rows: list[tuple[Entry, ...]] = []
    for variant in view.variants_of(group):
        by_level = {way[1]: shares(way) for way in view.ways(group) if way[0] == variant}
        grouped: dict[tuple[Entry, ...], list[str]] = {}
        for level, found in by_level.items():
            grouped.setdefault(found, []).append(level)
        rows += [
            (Entry(variant), Entry(", ".join(levels)), *found) for found, levels in grouped.items()
        ]
    return Table(
        "The highest recall that a format allows: the share of gold entities that reading the gold "
        "answer gives back.",
        (*WAY, *(Column(name) for name in view.names)),
        tuple(rows),
        2,
    )


def unwritable(view: View, group: Group) -> Table:
    """How many gold entities cannot be written, and why; all draws together."""
    rows = []
    for way in view.ways(group):
        causes: Counter[tuple[str, str]] = Counter()
        for cell in view.cells(group):
            if (cell["variant"], cell["level"]) == way and cell["ceiling"]:
                for cause, times in cell["ceiling"]["dropped"].items():
                    causes[cell["data"], cause] += times
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


# ---- health and cost ----------------------------------------------------------------------------


def health(view: View, group: Group, names: Sequence[str] | None = None) -> Table:
    """How well answers were formed; of all data sets, or of some."""
    rows = []
    for way in view.ways(group):
        draws = view.draws(group, way, names)
        row = [*way_entries(way), count(draws, _of_health("answers")), parse_rate(draws)]
        row += [count(draws, _of_health(kind)) for kind in PROBLEMS]
        row += [count(draws, _of_health(key)) for key in ("cut_off", "forced", "beyond")]
        row.append(count(draws, lambda cells: sum(cell.get("failed", 0) for cell in cells)))
        row += [entry([_kept(cells, key) for cells in draws]) for key in ("mean", "least")]
        rows.append(tuple(row))
    of = "All data sets" if names is None else ", ".join(names)
    return Table(
        f"{of}: answers, and how often reading them met each problem.",
        (
            *WAY,
            Column("answers"),
            Column("parse"),
            *(Column(kind, "problems") for kind in PROBLEMS),
            Column("cut off", "budget"),
            Column("closed", "budget"),
            Column("over 128 tokens", "budget"),
            Column("documents failed"),
            Column("mean", "allowed mass"),
            Column("mean of the least", "allowed mass"),
        ),
        tuple(rows),
        2,
    )


def _of_health(key: str) -> Callable[[Sequence[Cell]], int]:
    return lambda cells: health_sum(cells, key)


def _kept(cells: Sequence[Cell], key: str) -> float | None:
    """Over data sets, each weighing as much as it has answers."""
    known = [
        (cell["allowed_mass"][key], health_sum([cell], "answers"))
        for cell in cells
        if cell["allowed_mass"]
    ]
    weight = sum(answers for _, answers in known)
    return sum(value * answers for value, answers in known) / weight if weight else None


SURE = ((0, 5, "below 0.5"), (5, 9, "0.5 to 0.9"), (9, 10, "0.9 and more"))


def confidence(view: View, group: Group) -> Table:
    """How often entities are right, by how sure the model was of them; all draws together."""
    rows: list[tuple[Entry, ...]] = []
    for way in view.ways(group):
        if way[1] == FREE:
            continue
        found = tenths([cell for draw in view.draws(group, way) for cell in draw])
        if not found:
            rows.append((*way_entries(way), *[EMPTY] * (3 + 2 * len(SURE))))
            continue
        number, right, total = (sum(tenth[i] for tenth in found) for i in range(3))
        row = [Entry(str(number)), Entry(percent(right, number)), entry([total / number])]
        for low, high, _ in SURE:
            of, good = (sum(tenth[i] for tenth in found[low:high]) for i in range(2))
            row += [Entry(str(of)), Entry(percent(good, of))]
        rows.append((*way_entries(way), *row))
    return Table(
        "Entities of masked answers by confidence, over all data sets: how many there are, and how "
        "many of them are right.",
        (
            *WAY,
            Column("entities", "all"),
            Column("right", "all"),
            Column("mean confidence", "all"),
            *(Column(name, part) for *_, part in SURE for name in ("entities", "right")),
        ),
        tuple(rows),
        2,
    )


def per_document(view: View, cells: Sequence[Cell], key: str) -> float | None:
    documents = sum(cell.get("documents", view.documents[cell["data"]]) for cell in cells)
    total = cost(cells, key)
    return None if total is None or not documents else total / documents


def costs(view: View, group: Group, names: Sequence[str] | None = None) -> Table:
    """What answers took, by document."""
    keys = {"tokens": 1, "calls": 2, "seconds": 3}
    with_energy = any("kwh" in cell.get("costs", {}) for cell in view.cells(group))
    rows = []
    for way in view.ways(group):
        draws = view.draws(group, way, names)
        row = [*way_entries(way)]
        for key, digits in keys.items():
            row.append(entry([per_document(view, cells, key) for cells in draws], None, digits))
        row.append(entry([_quotient(cells, "tokens", "seconds") for cells in draws], None, 1))
        for key in ("grammar_seconds", "mask_seconds"):
            shares = [_quotient(cells, key, "seconds", 100) for cells in draws]
            row.append(entry(shares, None, 1))
        row.append(entry(slowdowns(view, group, way, names), None, 2))
        row.append(entry([_memory(cells) for cells in draws], None, 2))
        if with_energy:
            kwh = [per_document(view, cells, "kwh") for cells in draws]
            row.append(entry([k if k is None else k * 3.6e6 for k in kwh], None, 1))
        rows.append(tuple(row))
    of = "All data sets" if names is None else ", ".join(names)
    return Table(
        f"{of}: what a document took; a batch is one call of the model.",
        (
            *WAY,
            Column("tokens", "a document"),
            Column("calls", "a document"),
            Column("seconds", "a document"),
            Column("tokens", "a second"),
            Column("for grammars", "% of seconds"),
            Column("for masks", "% of seconds"),
            Column("times free"),
            Column("memory, GB"),
            *([Column("energy, J", "a document")] if with_energy else []),
        ),
        tuple(rows),
        2,
    )


def _quotient(cells: Sequence[Cell], part: str, whole: str, times: float = 1) -> float | None:
    """Of two sums of costs; None where one was not taken."""
    a, b = cost(cells, part), cost(cells, whole)
    return times * a / b if a is not None and b else None


def slowdowns(
    view: View, group: Group, way: Way, names: Sequence[str] | None = None
) -> list[float | None]:
    """Seconds, as multiples of those of free decoding, draw by draw."""
    own, free = (view.draws(group, w, names) for w in (way, (way[0], FREE)))
    if len(own) != len(free):
        return [None] * len(own)
    found: list[float | None] = []
    for cells, others in zip(own, free, strict=True):
        a, b = cost(cells, "seconds"), cost(others, "seconds")
        found.append(a / b if a is not None and b else None)
    return found


def _memory(cells: Sequence[Cell]) -> float | None:
    known = [cell["peak_memory"] for cell in cells if "peak_memory" in cell]
    return max(known) / 1e9 if known else None


def settings(view: View) -> Table:
    """On what it ran; each combination once."""
    keys = ("model", "device", "dtype", "batch_size")
    found: dict[tuple[str, ...], None] = {}
    for cell in view.cells():
        versions = cell.get("versions", {})
        names = ", ".join(f"{name} {version}" for name, version in versions.items())
        found[*(str(cell.get(key, "")) for key in keys), names] = None
    return Table(
        "On what the answers were made.",
        tuple(map(Column, ("model", "device", "dtype", "batch", "versions"))),
        tuple(tuple(map(Entry, row)) for row in found),
        5,
    )


# ---- labels -------------------------------------------------------------------------------------


def labels_given(view: View, group: Group, variant: str, name: str) -> Table | None:
    """Which labels the spans of gold entities were given, as in the paper's section 5.3.

    All draws together. None where nothing is known of it.
    """
    own = next((set(data["labels"]) for data in view.data if data["name"] == name), set())
    given: dict[str, Counter[tuple[str, str]]] = {}
    for cell in view.cells(group):
        if (cell["variant"], cell["data"]) == (variant, name) and "labels_given" in cell:
            counts = given.setdefault(cell["level"], Counter())
            for gold, label, times in cell["labels_given"]:
                counts[gold, label] += times
    pairs = sorted({pair for counts in given.values() for pair in counts})
    if not given:
        return None
    levels = [level for level in view.levels if level in given]
    rows = [
        (
            Entry(gold),
            Entry(label),
            Entry("right" if gold == label else "wrong" if label in own else "not asked for"),
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
    """Of the gold spans that were found, how many had which kind of label; all data sets."""
    asked = {cell["variant"] for cell in view.cells(group) if "labels_given" in cell}
    rows: list[tuple[Entry, ...]] = []
    for way in view.ways(group):
        draws = view.draws(group, way)
        if way[0] not in asked:
            continue
        if not draws:
            rows.append((*way_entries(way), *[ABSENT] * 4))
            continue
        kinds = {"right": 0, "wrong": 0, "other": 0}
        for cell in (cell for cells in draws for cell in cells):
            own = next(data["labels"] for data in view.data if data["name"] == cell["data"])
            for gold, label, times in cell.get("labels_given", ()):
                kinds["right" if gold == label else "wrong" if label in own else "other"] += times
        total = sum(kinds.values())
        rows.append(
            (
                *way_entries(way),
                *(Entry(str(n)) for n in kinds.values()),
                Entry(percent(total - kinds["right"], total)),
            )
        )
    return Table(
        "Spans of gold entities, by the label that they were given, over all data sets: the right "
        "one, another one of those asked for, or one that only another data set has.",
        (
            *WAY,
            *map(Column, ("right", "wrong", "not asked for", "not right")),
        ),
        tuple(rows),
        2,
    )


def not_run(view: View) -> Table:
    return Table(
        "What was not run.",
        tuple(map(Column, ("model", "data set", "format", "level"))),
        tuple(
            tuple(Entry(cell[key]) for key in ("model", "data", "variant", "level"))
            for cell in view.missing
        ),
        4,
    )


def data_sets(view: View) -> Table:
    rows = tuple(
        (
            Entry(data["name"]),
            Entry(str(data["documents"])),
            Entry(str(data["entities"])),
            Entry(", ".join(data["labels"])),
        )
        for data in view.data
    )
    columns = tuple(map(Column, ("data set", "documents", "gold entities", "labels")))
    return Table("The data sets.", columns, rows)


def mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def shown(value: float | None, digits: int = 3) -> str:
    return "not measured" if value is None else number(value, digits)
