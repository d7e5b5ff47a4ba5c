"""`cner check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from constrained_ner.adapters import BASE_MODEL
from constrained_ner.atomic import write_json
from constrained_ner.cli.messages import report_left_out, warn_of_labels
from constrained_ner.cli.options import (
    MASKED_LEVELS,
    OutputFile,
    check_apart,
    check_effect,
    format_options,
    input_options,
    labels_option,
    overwrite_option,
    read_all,
    to_options,
)
from constrained_ner.cli.progress import progress
from constrained_ner.corpora import labels_of
from constrained_ner.formats import FORMATS, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.formats.options import MAX_FRAGMENTS
from constrained_ner.labels import check_labels


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format",
    "name",
    type=click.Choice([*FORMATS, "all"]),
    default="all",
    show_default=True,
)
@click.option(
    "--level",
    type=click.Choice([*MASKED_LEVELS, "both"]),
    default="both",
    show_default=True,
)
@labels_option()
@click.option(
    "--model",
    default=BASE_MODEL,
    show_default=True,
    help="The model whose tokenizer writes the answers.",
)
@click.option(
    "-o",
    "--output",
    type=OutputFile(),
    help="Write the full report here, as JSON.",
)
@overwrite_option
@format_options
@input_options
def check(
    data: Path,
    name: str,
    level: str,
    labels: tuple[str, ...] | None,
    model: str,
    output: Path | None,
    input_format: str | None,
    encoding: str | None,
    limit: int | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Replay the gold answers of DATA through the masks.

    The exit status is 1 where an answer that the format can write is refused, and where a text
    has no grammar: mentions in it count as not expressible.
    """
    check_apart(output, data)
    names = list(FORMATS) if name == "all" else [name]
    check_effect([get_format(each) for each in names])
    documents, broken = read_all(data, input_format, limit, encoding)
    if labels:
        warn_of_labels(labels, sorted({e.label for d in documents for e in d.entities}))
    else:
        labels = check_labels(labels_of(documents, data))
    if options["max_fragments"] is None:
        most = max((len(e.fragments) for d in documents for e in d.entities), default=1)
        options["max_fragments"] = min(MAX_FRAGMENTS, most)

    from constrained_ner.engines.models import load_tokens
    from constrained_ner.evaluation.coverage import Checker, Coverage

    vocabulary = load_tokens(model).vocabulary
    reports: list[Coverage] = []
    for chosen in names:
        format = get_format(chosen, to_options(options))
        for each in MASKED_LEVELS if level == "both" else [level]:
            checker = Checker(format, labels, Level.parse(each), vocabulary)
            report = checker.check(progress(documents, f"documents, {chosen}, {each}"))
            reports.append(report)
            click.echo(_report_line(report))
    if output is not None:
        told = {
            "data": data.name,
            "documents": len(documents),
            "labels": labels,
            "options": options,
            "reports": [report.to_json() for report in reports],
        }
        write_json(told, output)
    report_left_out(broken)
    if not all(report.passed for report in reports):
        sys.exit(1)


def _report_line(report: Any) -> str:
    counted = [f"{n} {cause}" for cause, n in sorted(report.dropped.items())]
    lost = [f"{n} {cause}" for cause, n in sorted(report.lost.items())]
    lines = [
        f"{report.format} {report.level}: {report.accepted} of {report.answers} answers accepted; "
        f"{report.expressible} of {report.entities} mentions expressible; longest answer "
        f"{report.longest} tokens, at most {report.share:.0%} of its budget"
    ]
    if counted:
        lines.append(f"  not expressible: {', '.join(counted)}")
    if lost:
        lines.append(f"  lost in reading back: {', '.join(lost)}")
    lines += [f"  refused: {rejection}" for rejection in report.rejections[:5]]
    if len(report.rejections) > 5:
        lines.append(f"  and {len(report.rejections) - 5} more")
    lines += [f"  failed: {failure}" for failure in report.failed[:5]]
    if len(report.failed) > 5:
        lines.append(f"  and {len(report.failed) - 5} more without a grammar")
    return "\n".join(lines)
