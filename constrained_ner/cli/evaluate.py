"""`cner evaluate`."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path

import click

from constrained_ner import markdown
from constrained_ner.atomic import write_text
from constrained_ner.cli.messages import report_left_out, visible, warn, warn_of_labels
from constrained_ner.cli.options import (
    OutputFile,
    check_apart,
    labels_option,
    overruled,
    overwrite_option,
)
from constrained_ner.corpora import INPUT_FORMATS
from constrained_ner.evaluation import PARITY, Scores
from constrained_ner.evaluation.pairing import DataSet, load, pool, shorten
from constrained_ner.evaluation.report import (
    BREAKDOWNS,
    Comparison,
    Report,
    Score,
    average_over,
    compare,
)
from constrained_ner.evaluation.report import evaluate as evaluate_data
from constrained_ner.formats import FORMATS


@dataclass(frozen=True)
class Section:
    """A title, a table and remarks, for the terminal or Markdown."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    remarks: Sequence[str] = ()


_FILE = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("gold", type=_FILE)
@click.argument("pred", type=_FILE)
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(BREAKDOWNS),
    help="Break the strict scores down. May be given several times.",
)
@click.option(
    "--metric",
    "parity",
    multiple=True,
    type=click.Choice(list(PARITY)),
    help="Count as another project's script does, too. May be given several times.",
)
@labels_option()
@click.option("--against", type=_FILE, help="Compare PRED with these predictions: a paired test.")
@click.option(
    "--also",
    multiple=True,
    type=(_FILE, _FILE),
    metavar="GOLD PRED",
    help="One more data set: each, all pooled, and the mean. May be given several times.",
)
@click.option(
    "--format",
    "name",
    type=click.Choice(list(FORMATS)),
    help="The format whose recall ceiling to show; by default the predictions' own.",
)
@click.option("--gold-format", type=click.Choice(sorted(INPUT_FORMATS)), help="Format of GOLD.")
@click.option("--pred-format", type=click.Choice(sorted(INPUT_FORMATS)), help="Format of PRED.")
@click.option("--ignore-extra", is_flag=True, help="Leave out predictions without gold documents.")
@click.option(
    "--resamples",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Of the bootstrap, and swaps of the paired test.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of both.")
@click.option(
    "--output-format",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="How to write the results.",
)
@click.option(
    "-o",
    "--output",
    type=OutputFile(),
    help="Write the results here.",
)
@overwrite_option
def evaluate(
    gold: Path,
    pred: Path,
    by: tuple[str, ...],
    parity: tuple[str, ...],
    labels: tuple[str, ...] | None,
    against: Path | None,
    also: tuple[tuple[Path, Path], ...],
    name: str | None,
    gold_format: str | None,
    pred_format: str | None,
    ignore_extra: bool,
    resamples: int,
    seed: int,
    output_format: str,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Score the predictions PRED against the annotations GOLD.

    PRED is what `cner predict -o` wrote, or any corpus. Documents are paired by id. The exit
    status is 1 where a record could not be read.
    """
    if overruled("against", "also"):
        against = None
    if overruled("also", "against"):
        also = ()
    if against and also:
        raise click.UsageError("--against and --also exclude each other")
    check_apart(output, gold, pred, against, *(one for pair in also for one in pair))
    read = partial(
        load, gold_format=gold_format, prediction_format=pred_format, ignore_extra=ignore_extra
    )
    data_sets = [read(*paths) for paths in [(gold, pred), *also]]
    known = sorted({label for data in data_sets for label in data.labels})
    warn_of_labels(labels or (), known)

    def score(data: DataSet) -> Report:
        return evaluate_data(
            data, labels, parity=parity, by=by, format=name, resamples=resamples, seed=seed
        )

    reports = [score(data) for data in data_sets]
    pooled = score(pool(data_sets)) if also else None
    mean = average_over(reports) if also else None
    other = read(gold, against) if against else None
    comparison = (
        compare(data_sets[0], other, labels, resamples=resamples, seed=seed) if other else None
    )

    if output_format == "json":
        written = json.dumps(
            {
                "data_sets": [report.to_json() for report in reports],
                "pooled": pooled and pooled.to_json(),
                "mean": mean and {key: line.to_json() for key, line in mean.items()},
                "comparison": comparison and comparison.to_json(),
                "resamples": resamples,
                "seed": seed,
            },
            ensure_ascii=False,
            indent=1,
        )
    else:
        sections = [s for report in [*reports, *([pooled] if pooled else [])] for s in _of(report)]
        if mean:
            sections.append(Section("mean over data sets", _HEADER, _lines(mean.items())))
        if comparison and against:
            sections.append(_of_comparison(comparison, pred, against))
        written = (_markdown if output_format == "markdown" else _terminal)(sections)
    if output is None:
        data = output_format == "json" and not sys.stdout.isatty()
        click.echo(written if data else visible(written))
    else:
        write_text(written + "\n", output)
    named = [replace(other, name=against.name)] if other and against else []
    _complain([*data_sets, *named])


def _complain(data_sets: Sequence[DataSet]) -> None:
    """Report what could not be read or is not there; exit 1 for the former."""
    for data in data_sets:
        if data.missing:
            ids = shorten(data.missing)
            warn(f"{data.name}: no prediction for {len(data.missing)}: {ids}")
        if data.extra:
            warn(f"{data.name}: left out without gold: {shorten(data.extra)}")
        for reason in data.failed:
            warn(f"{data.name}: failed prediction: {reason}")
    # The gold of a comparison is read twice.
    report_left_out(dict.fromkeys(str(error) for data in data_sets for error in data.broken))


# ---- sections

_HEADER = ("", "P", "R", "F1", "95 % of F1", "gold", "found", "predicted", "correct")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "-"


def _number(n: float) -> str:
    return f"{n:.1f}" if n % 1 else f"{n:.0f}"


def _lines(scores: Iterable[tuple[str, Score]]) -> list[list[str]]:
    rows = []
    for name, score in scores:
        row = [name, *map(_percent, score.scores)]
        low_high = score.intervals[2] if score.intervals else None
        row.append(" to ".join(map(_percent, low_high)) if low_high else "")
        row += map(_number, astuple(score.counts)) if score.counts else [""] * 4
        rows.append(row)
    return rows


def _of(report: Report) -> list[Section]:
    data = report.data
    remarks = [
        f"{len(data.gold)} documents; without prediction: {len(data.missing)}; "
        f"failed: {len(data.failed)}; unreadable: {len(data.broken)}; "
        f"predictions left out: {len(data.extra)}"
    ]
    if report.health is None:
        remarks.append("no health: the predictions hold no answers of `cner predict`")
    if report.ceiling is None:
        remarks.append(
            "no recall ceiling: the predictions name no format (--format), or several formats, "
            "levels or options"
        )
    sections = [Section(data.name, _HEADER, _lines(report.scores.items()), remarks)]
    for by, rows in report.breakdowns.items():
        sections.append(Section(f"{data.name}, by {by}", _HEADER, _lines(rows)))
    health = report.health
    if health is not None:
        counted = [
            ("parsed strictly", health.parsed),
            ("cut off by the budget", health.cut_off),
            ("closed by the budget", health.forced),
        ]
        problems = health.to_json()["problems"].items()
        sections.append(
            Section(
                f"{data.name}, answers",
                ("", "n", "of the answers"),
                [["answers", str(health.answers), ""]]
                + [[what, str(n), _share(n, health.answers)] for what, n in counted]
                + [[f"problem: {kind}", str(n), ""] for kind, n in problems],
            )
        )
    ceiling = report.ceiling
    if ceiling is not None:
        sections.append(
            Section(
                f"{data.name}, recall ceiling of {ceiling.setting.format}, "
                f"{ceiling.setting.level} level",
                ("", "n", "of gold"),
                [
                    ["gold entities", str(ceiling.entities), ""],
                    *(
                        [what, str(n), _share(n, ceiling.entities)]
                        for what, n in [
                            ("can be written", ceiling.expressible),
                            ("come back from a gold answer", ceiling.returned),
                            *((f"not: {why}", n) for why, n in sorted(ceiling.dropped.items())),
                        ]
                    ),
                ],
            )
        )
    return sections


def _of_comparison(comparison: Comparison, pred: Path, against: Path) -> Section:
    rows = []
    for i, name in enumerate(Scores._fields):
        row = [name, _percent(comparison.first[i]), _percent(comparison.second[i])]
        if comparison.differences:
            found = comparison.differences[i]
            row += [
                f"{100 * found.difference:+.2f}",
                " to ".join(f"{100 * end:+.2f}" for end in found.interval),
                f"{found.p:.4f}",
            ]
        rows.append(row + ["-"] * (6 - len(row)))
    return Section(
        f"{against.name} against {pred.name}",
        ("strict", pred.name, against.name, "difference", "95 % of it", "p"),
        rows,
    )


# ---- output


def _terminal(sections: Sequence[Section]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    written = StringIO()
    # Of text alone, also where the environment forces colours.
    console = Console(file=written, width=max(100, width), color_system=None)
    for section in sections:
        console.print(Text(section.title))
        table = Table()
        for i, head in enumerate(section.header):
            table.add_column(Text(head), justify="right" if i else "left", overflow="fold")
        for row in section.rows:
            table.add_row(*map(Text, row))
        console.print(table)
        for remark in section.remarks:
            console.print(Text(remark))
        console.print()
    return written.getvalue().rstrip()


def _markdown(sections: Sequence[Section]) -> str:
    blocks = []
    for section in sections:
        blocks.append(f"## {markdown.escape(section.title)}")
        blocks.append(markdown.table(section.header, section.rows))
        blocks += section.remarks
    return "\n\n".join(blocks)
