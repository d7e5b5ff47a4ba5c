"""The tables of the paper in its own layout, with its numbers beside ours.

Epron, Coulet and Alam, arXiv 2604.25920v1: tables 2 to 7 and 9. The paper's numbers
are means and standard deviations over three draws, of free answers with up to 128 tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from constrained_ner.benchmark.blocks import (
    EMPTY,
    UNMEASURED,
    Column,
    Entry,
    Table,
    entry,
    number,
)
from constrained_ner.benchmark.grid import INDEX, Variant, Way
from constrained_ner.benchmark.results import TrainingCosts
from constrained_ner.benchmark.tables.fields import mean_of
from constrained_ner.benchmark.tables.nesting import deltas
from constrained_ner.benchmark.view import Cells, Group, View, strict, sum_of
from constrained_ner.formats.grammar import Level

MODELS = ("Qwen2.5-0.5B", "Llama-3.2-1B")
AS_IT_IS = "as it is"  # a model that was not trained for the study
ONLY = "only"
# Formats that the paper leaves out where a data set has discontinuous entities.
CONTIGUOUS = ("multi_bio", "multi_tag", "single_tag")

# A row: its name, then for each model mean and standard deviation of P, R, F1.
TABLE_2 = """
all          .65 .01 .52 .01 .58 .01  .67 .01 .54 .01 .60 .01
7best        .81 .01 .75 .01 .78 .01  .82 .00 .74 .01 .78 .00
multi_triple .79 .02 .68 .01 .73 .01  .80 .01 .76 .01 .78 .01
conv_term    .81 .01 .79 .01 .80 .00  .81 .01 .79 .01 .80 .01
term_ner     .81 .01 .71 .02 .76 .01  .81 .01 .73 .01 .77 .01
multi_term   .82 .01 .70 .02 .75 .01  .82 .01 .70 .02 .75 .01
single_term  .78 .01 .76 .02 .77 .01  .80 .02 .75 .01 .77 .01
"""
# For each model the F1 of `all`, `7best` and the format alone.
TABLE_3 = """
conv_term    .78 .00 .78 .01 .80 .00  .79 .01 .79 .01 .80 .01
multi_brat   .13 .01 -   -   -   -    .17 .01 -   -   -   -
multi_code   .56 .01 -   -   -   -    .57 .01 -   -   -   -
multi_span   .10 .01 -   -   -   -    .12 .01 -   -   -   -
multi_term   .74 .01 .75 .01 .75 .01  .74 .01 .74 .01 .75 .01
multi_triple .78 .01 .78 .01 .73 .01  .79 .01 .79 .00 .78 .01
single_code  .73 .01 .73 .01 -   -    .74 .01 .73 .01 -   -
single_span  .11 .01 -   -   -   -    .13 .01 -   -   -   -
single_term  .77 .01 .78 .01 .77 .01  .79 .00 .78 .00 .77 .01
"""
TABLE_4 = """
conv_term  .81 .01  .82 .01
multi_bio  .44 .07  .60 .03
multi_tag  .82 .01  .83 .01
single_tag .83 .01  .83 .01
"""
# Ours (7best, conv_term), supervised (base, InstructUIE, UniNER), zero-shot (UniNER, GLiNER).
TABLE_5 = """
AnatEM   .87 .87 .86 .89 .89 .25 .34
GENIA    .72 .77 .73 .76 .78 .54 .56
bc2gm    .79 .80 .81 .81 .82 .46 .48
bc4chemd .85 .87 .87 .88 .89 .48 .43
bc5cdr   .86 .86 .85 .89 .89 .68 .66
ncbi     .88 .87 .80 .86 .87 .60 .62
CADEC    .70 .76 .74 -   -   -   -
PGX      .62 .71 .59 -   -   -   -
"""
TABLE_6 = """
all   .88 .03 .86 .03 .87 .03  .87 .02 .85 .02 .86 .01
7best .87 .02 .87 .02 .87 .02  .88 .01 .86 .03 .87 .02
only  .80 .06 .03 .03 .06 .06  .84 .06 .78 .03 .81 .04
"""
# Configuration and format; for each model Delta nested and Delta discontinuous.
TABLE_7 = """
all conv_term         .07 .46 .09 .43
all multi_tag         .39 .81 .32 .82
all multi_term        .34 .48 .36 .43
all multi_triple      .10 .54 .08 .51
all single_code       .07 .43 .06 .39
all single_tag        .40 .81 .42 .81
all single_term       .08 .52 .09 .44
7best conv_term       .08 .52 .10 .46
7best multi_tag       .39 .82 .49 .81
7best multi_term      .27 .51 .32 .45
7best multi_triple    .08 .53 .09 .49
7best single_code     .07 .46 .06 .43
7best single_tag      .40 .81 .47 .81
7best single_term     .08 .54 .10 .45
term_ner multi_term   .29 .50 .32 .45
term_ner single_term  .09 .47 .10 .43
only conv_term        .08 .52 .09 .48
only multi_term       .26 .50 .28 .49
only multi_triple     .04 .38 .10 .46
only single_term      .11 .54 .09 .55
"""
# For each model the time of training on four A100, g of CO2 equivalents, kWh.
TABLE_9 = """
all          02:23:46 234.47 4.57  03:57:50 388.6 7.58
7best        02:11:45 214.8 4.19   03:47:43 372.2 7.26
conv_term    01:34:26 154.13 3.01  02:36:45 255.79 4.99
multi_triple 02:07:55 208.24 4.06  03:44:02 367.29 7.16
single_term  01:43:38 168.89 3.29  02:51:37 280.38 5.47
multi_term   02:03:28 201.68 3.93  03:31:07 345.97 6.75
term_ner     01:55:18 188.56 3.68  03:02:57 298.42 5.82
"""
# As the paper's table 5 calls the data sets, and as files are called.
DATA = {
    "AnatEM": ("anatem",),
    "GENIA": ("genia",),
    "bc2gm": ("bc2gm",),
    "bc4chemd": ("bc4chemd",),
    "bc5cdr": ("bc5cdr",),
    "ncbi": ("ncbi-disease", "ncbi"),
    "CADEC": ("cadec",),
    "PGX": ("pgxcorpus", "pgx"),
}


def rows_of(table: str, keys: int = 1) -> dict[tuple[str, ...], list[str]]:
    """The rows of one of the tables above, by their first columns."""
    lines = [line.split() for line in table.strip().splitlines()]
    return {tuple(line[:keys]): line[keys:] for line in lines}


def paper_entry(mean: str, deviation: str = "") -> Entry:
    if mean == "-":
        return EMPTY
    return Entry(_two(mean), f"\N{PLUS-MINUS SIGN} {_two(deviation)}" if deviation else "")


def _two(text: str) -> str:
    return f"0{text}" if text.startswith(".") else text


def with_deviations(values: Sequence[str]) -> list[Entry]:
    return [paper_entry(*pair) for pair in zip(values[::2], values[1::2], strict=True)]


# ---- ours ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TestedModel:
    """One of our models, asked at one level."""

    view: View
    model: str
    level: Level

    @property
    def title(self) -> str:
        return f"{self.model}, {self.level}"

    def group(self, configuration: str) -> Group | None:
        return _trained(self.view, self.model, configuration)

    def draws(
        self,
        configuration: str,
        formats: Sequence[str] | None = None,
        data: Sequence[str] | None = None,
    ) -> list[Cells]:
        """Cells of each draw, over formats and data sets; none where one of them is missing.

        Parameters
        ----------
        formats: by default all that the model was asked in, each in one way; where a data set has
            discontinuous entities, as in the paper, only those that may have them.
        """
        group = self.group(configuration)
        if group is None:
            return []
        names = self.view.names if data is None else data
        broken = self.view.data_with("discontinuous") if formats is None else []
        ways = self._ways(group)
        asked = formats or list(ways)

        def writable(format: str) -> list[str]:
            return [n for n in names if not (n in broken and format in CONTIGUOUS)]

        found: list[Cells] = []
        for name in group.names:
            parts = [
                self.view.draws(
                    replace(group, names=(name,)),
                    Way(ways.get(format) or Variant.parse(format), self.level),
                    writable(format),
                )
                for format in asked
                if writable(format)
            ]
            if parts and all(parts):
                found.append([cell for (cells,) in parts for cell in cells])
        return found

    def _ways(self, group: Group) -> dict[str, Variant]:
        """How each format was asked for: plainly or, where it was not, with the words indexed."""
        variants = self.view.variants_of(group)
        return {
            variant.format: variant
            for suffix in (INDEX, "")
            for variant in variants
            if variant.suffix == suffix
        }

    def scores(self, draws: Sequence[Cells]) -> list[Entry]:
        """Strict precision, recall and F1."""
        if not draws:
            return [UNMEASURED] * 3
        found = [sum_of(cells, strict).scores for cells in draws]
        return [entry([s[i] for s in found], digits=2) for i in range(3)]

    def f1(self, draws: Sequence[Cells]) -> Entry:
        return self.scores(draws)[2]


def _trained(view: View, model: str, configuration: str) -> Group | None:
    """A model as it was trained in a configuration, or, for `AS_IT_IS`, not trained at all."""
    wanted = "" if configuration == AS_IT_IS else configuration
    groups = (group for group in view.groups if group.model == model)
    return next((group for group in groups if group.configuration == wanted), None)


def tested_models(view: View) -> list[TestedModel]:
    """In the order of their columns."""
    models = dict.fromkeys(group.model for group in view.groups)
    return [TestedModel(view, model, level) for model in models for level in view.levels]


def _columns(view: View, names: Sequence[str]) -> tuple[Column, ...]:
    """These columns for each of the paper's models, then for each of ours."""
    groups = [f"paper: {model}" for model in MODELS]
    return tuple(
        Column(name, group)
        for group in [*groups, *(f"ours: {tested.title}" for tested in tested_models(view))]
        for name in names
    )


# ---- the tables ---------------------------------------------------------------------------------


def table_2(view: View) -> Table:
    paper = rows_of(TABLE_2)
    rows = []
    own = [group.configuration or AS_IT_IS for group in view.groups]
    for configuration in dict.fromkeys([*(name for (name,) in paper), *own]):
        values = paper.get((configuration,))
        row = [Entry(configuration), *(with_deviations(values) if values else [EMPTY] * 6)]
        for tested in tested_models(view):
            row += tested.scores(tested.draws(configuration))
        rows.append(tuple(row))
    return Table(
        "Table 2: precision, recall and F1 of each configuration, over all its formats and all "
        "data sets.",
        (Column("configuration"), *_columns(view, ("P", "R", "F1"))),
        tuple(rows),
    )


TRAININGS = ("all", "7best", ONLY)


def _trainings(tested: TestedModel) -> tuple[str, ...]:
    return (AS_IT_IS,) if tested.group(AS_IT_IS) else TRAININGS


def table_3(view: View) -> Table:
    paper = rows_of(TABLE_3)
    rows = []
    for (format,), values in paper.items():
        row = [Entry(format)]
        for of_model in (values[:6], values[6:]):
            row += with_deviations(of_model)
        for tested in tested_models(view):
            for training in _trainings(tested):
                configuration = format if training == ONLY else training
                row.append(tested.f1(tested.draws(configuration, [format])))
        rows.append(tuple(row))
    papers = [Column(name, f"paper: {model}") for model in MODELS for name in TRAININGS]
    ours = [Column(name, f"ours: {t.title}") for t in tested_models(view) for name in _trainings(t)]
    return Table(
        "Table 3: F1 of each format, by the configuration that it was trained in.",
        (Column("format"), *papers, *ours),
        tuple(rows),
    )


def table_4(view: View) -> Table:
    broken = view.data_with("discontinuous")
    left = [name for name in view.names if name not in broken]
    rows = []
    for (format,), values in rows_of(TABLE_4).items():
        row = [Entry(format), *with_deviations(values)]
        for tested in tested_models(view):
            row += [
                tested.f1(tested.draws(configuration, [format], left))
                for configuration in _as_trained(tested)
            ]
        rows.append(tuple(row))
    papers = [Column("", f"paper: {model}") for model in MODELS]
    ours = [
        Column(configuration, f"ours: {tested.title}")
        for tested in tested_models(view)
        for configuration in _as_trained(tested)
    ]
    without = f" (here without {', '.join(broken)})" if broken else ""
    return Table(
        "Table 4: F1 without the data sets that have discontinuous entities"
        f"{without}. The paper does not say in which configuration; ours is what each column says.",
        (Column("format"), *papers, *ours),
        tuple(rows),
    )


def _as_trained(tested: TestedModel) -> list[str]:
    return [AS_IT_IS] if tested.group(AS_IT_IS) else ["all"]


def named(view: View, data: str) -> str | None:
    """What a data set of the paper is called in the results; None if it is not there."""
    return next((name for name in view.names if name.lower() in DATA[data]), None)


def table_5(view: View) -> Table:
    rows = []
    for (name,), values in rows_of(TABLE_5).items():
        own = named(view, name)
        row = [Entry(name), *(paper_entry(value) for value in values)]
        for tested in tested_models(view):
            for configuration, formats in _of_table_5(tested):
                draws = tested.draws(configuration, formats, [own]) if own else []
                row.append(tested.f1(draws))
        rows.append(tuple(row))
    ours = [
        Column(" ".join(formats or ["all formats" if c == AS_IT_IS else c]), f"ours: {t.title}")
        for t in tested_models(view)
        for c, formats in _of_table_5(t)
    ]
    return Table(
        "Table 5: F1 by data set, beside the baselines that the paper gives.",
        (
            Column("data set"),
            *(Column(name, "paper: theirs") for name in ("7best", "conv_term")),
            *(Column(name, "paper: supervised") for name in ("base", "InstructUIE", "UniNER")),
            *(Column(name, "paper: zero-shot") for name in ("UniNER", "GLiNER")),
            *ours,
        ),
        tuple(rows),
    )


def _of_table_5(tested: TestedModel) -> list[tuple[str, list[str] | None]]:
    if tested.group(AS_IT_IS):
        return [(AS_IT_IS, None), (AS_IT_IS, ["conv_term"])]
    return [("7best", None), ("conv_term", ["conv_term"])]


def table_6(view: View) -> Table:
    name = named(view, "AnatEM")
    paper = rows_of(TABLE_6)
    rows = []
    for training in dict.fromkeys(
        [*TRAININGS, *(name for t in tested_models(view) for name in _trainings(t))]
    ):
        configuration = "multi_triple" if training == ONLY else training
        values = paper.get((training,))
        row = [Entry(training), *(with_deviations(values) if values else [EMPTY] * 6)]
        for tested in tested_models(view):
            draws = tested.draws(configuration, ["multi_triple"], [name]) if name else []
            row += tested.scores(draws)
        rows.append(tuple(row))
    return Table(
        "Table 6: multi_triple on AnatEM, by the configuration that it was trained in.",
        (Column("configuration"), *_columns(view, ("P", "R", "F1"))),
        tuple(rows),
    )


def table_7(view: View) -> Table:
    paper = rows_of(TABLE_7, 2)
    own = [
        (group.configuration or AS_IT_IS, str(variant))
        for group in view.groups
        for variant in view.variants_of(group)
        if group.configuration in ("", "all")
    ]
    kinds = ("nested", "discontinuous")
    rows = []
    for key in dict.fromkeys([*paper, *own]):
        training, format = key
        configuration = format if training == ONLY else training
        values = paper.get(key)
        row = [Entry(training), Entry(format)]
        row += [paper_entry(value) for value in values] if values else [EMPTY] * 4
        for tested in tested_models(view):
            for kind in kinds:
                names = view.data_with(kind)
                draws = tested.draws(configuration, [format], names) if names else []
                found = deltas(draws, kind)
                row.append(entry(found, digits=2) if found else UNMEASURED)
        rows.append(tuple(row))
    return Table(
        "Table 7: by how much the F1 of plain entities is above that of nested and of "
        "discontinuous ones, on the data sets that have such; lower is better.",
        (
            Column("configuration"),
            Column("format"),
            *_columns(view, ("nested", "discontinuous")),
        ),
        tuple(rows),
        2,
    )


def table_9(view: View) -> Table:
    paper = rows_of(TABLE_9)
    models = list(dict.fromkeys(group.model for group in view.groups))
    rows = []
    trained = [g.configuration for g in view.groups if g.configuration]
    for configuration in dict.fromkeys([*(name for (name,) in paper), *trained]):
        values = paper.get((configuration,))
        row = [Entry(configuration), *([Entry(v) for v in values] if values else [EMPTY] * 6)]
        for model in models:
            row += _energy(_trained(view, model, configuration))
        rows.append(tuple(row))
    names = ("time", "g CO2e", "kWh")
    groups = [f"paper: {m}, four A100" for m in MODELS] + [f"ours: {m}" for m in models]
    return Table(
        "Table 9: what a training took. The paper's are of the Green Algorithms calculator; ours "
        "are means over draws, as codecarbon measures or estimates them.",
        (Column("configuration"), *(Column(name, group) for group in groups for name in names)),
        tuple(rows),
    )


def _energy(group: Group | None) -> list[Entry]:
    def mean(of: Callable[[TrainingCosts], float | None], write: Callable[[float], str]) -> Entry:
        value = mean_of([of(training) for training in group.training]) if group else None
        return UNMEASURED if value is None else Entry(write(value))

    return [
        mean(lambda training: training.seconds, clock),
        mean(lambda training: training.co2_kg, lambda kg: number(1000 * kg, 2)),
        mean(lambda training: training.kwh, lambda kwh: number(kwh, 4)),
    ]


def clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def tables(view: View) -> list[Table]:
    return [make(view) for make in (table_2, table_3, table_4, table_5, table_6, table_7, table_9)]
