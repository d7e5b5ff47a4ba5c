"""`cner calibrate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constrained_ner.adapters import folder_of
from constrained_ner.atomic import check_writable
from constrained_ner.benchmark.grid import CorpusSample, load_sample
from constrained_ner.cli.benchmark import answer, check_folder
from constrained_ner.cli.messages import report_left_out, say, warn
from constrained_ner.cli.options import (
    MASKED_LEVELS,
    OutputFolder,
    check_apart,
    device_options,
    named_path,
    overruled,
)
from constrained_ner.corpora.fingerprints import fingerprint, load_fingerprints
from constrained_ner.errors import InputError, ModelError
from constrained_ner.evaluation import Counts, intervals
from constrained_ner.evaluation.reliability import check_installed
from constrained_ner.formats import get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.labels import names_of
from constrained_ner.pipeline.calibration import calibration_of
from constrained_ner.pipeline.manifest import FILE, Manifest

if TYPE_CHECKING:
    from constrained_ner.benchmark.calibrate import Measured


@click.command()
@click.option(
    "--model",
    envvar="CNER_MODEL",
    required=True,  # its folder is changed: not the default model's without a word
    help="The folder of a model that `cner train` made, or its name.",
)
@click.option(
    "--corpora",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with NAME/dev.jsonl for each data set of the model, as `cner corpora prepare` "
    "writes them.",
)
@click.option(
    "--dev",
    multiple=True,
    metavar="[NAME=]PATH",
    help="In place of --corpora, annotated documents that the model was not trained on, and which "
    "of its data sets they belong to. May be given several times.",
)
@click.option(
    "--documents",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Draw this many of each data set.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draw.")
@click.option(
    "--formats", default=None, help="Separated by commas.  [default: those that it was trained for]"
)
@click.option(
    "--level",
    type=click.Choice(MASKED_LEVELS),
    default=Level.FAITHFUL.value,
    show_default=True,
    help="How much of the answers is constrained.",
)
@click.option(
    "--best",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Find the formats that are best together, up to so many.",
)
@click.option(
    "--together",
    multiple=True,
    metavar="FORMATS",
    help="Formats, separated by commas, to be measured together, too. May be given several times.",
)
@device_options
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How many formats are answered in at a time.",
)
@click.option(
    "-o",
    "--output",
    type=OutputFolder(),
    required=True,
    help="A folder for the answers. A run that was stopped goes on with what is not in it.",
)
def calibrate(
    model: str,
    corpora: Path | None,
    dev: tuple[str, ...],
    documents: int,
    seed: int,
    formats: str | None,
    level: str,
    best: int,
    together: tuple[str, ...],
    batch_size: int,
    device: str,
    dtype: str,
    processes: int,
    output: Path,
) -> None:
    """Measure on dev how good a model is in each format, and what its confidences are worth.

    The model is told of it, in its cner.json: from then on its best format is its default, those
    far below are warned of, confidences are probabilities, entities that are more likely wrong are
    left out, and `best3` stands for the three formats that it does best with together.
    """
    if overruled("corpora", "dev"):
        corpora = None
    if overruled("dev", "corpora"):
        dev = ()
    if (corpora is None) == (not dev):
        raise click.UsageError("expected either --corpora or --dev")
    check_installed()
    from constrained_ner.benchmark.calibrate import asked, grid_of, measure, said_by, save

    trained = said_by(model)
    check_writable(Path(folder_of(model)) / FILE)
    names = _once(names_of(formats)) if formats else trained.formats
    several = [_once(names_of(each)) for each in together]
    for name in {name for each in (names, *several) for name in each}:
        get_format(name)
    missing = {name for each in several for name in each} - set(names)
    if missing:
        raise click.UsageError(f"--together names {', '.join(sorted(missing))}, --formats does not")
    samples, broken = _samples(model, trained, corpora, dev, documents, seed, output)
    grid = grid_of(
        model,
        trained,
        samples,
        names,
        Level.parse(level),
        seed=seed,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
    )
    check_folder(output)
    output.mkdir(parents=True, exist_ok=True)
    answer(grid, output, processes)
    found = measure(
        asked(grid, output),
        said_by(model),  # another calibration may have been done meanwhile
        names,
        Level.parse(level),
        most=best,
        together=several,
        seed=seed,
        told=lambda what: say(f"measured: {what}"),
    )
    click.echo(_table(found, level))
    for failure in found.failed:
        warn(f"not calibrated: {failure}")
    if found.given_up:
        warn(
            "measured on another sample, or put together with other weights, and so not kept: "
            f"{', '.join(found.given_up)}: measure them together with these, if they are to be "
            "compared"
        )
    for line in save(model, found.trained):
        say(line)
    report_left_out(broken)


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _samples(
    model: str,
    trained: Manifest,
    corpora: Path | None,
    dev: Sequence[str],
    documents: int,
    seed: int,
    output: Path,
) -> tuple[list[CorpusSample], list[InputError]]:
    known = [dataset.name for dataset in trained.datasets]
    if not known:
        raise ModelError(f"{model}: expected a model that knows its data sets (`cner train`)")
    known_documents = load_fingerprints(folder_of(model)) or frozenset()
    paths: list[tuple[str, Path]] = []
    if corpora is not None:
        paths = [(name, corpora / name / "dev.jsonl") for name in known]
    for item in dev:
        name, file = named_path(item)
        if not name and len(known) > 1:
            raise click.UsageError(
                f"--dev {item}: expected NAME=PATH, with one of {', '.join(known)}"
            )
        paths.append((name or known[0], file))
    for name, number in Counter(name for name, _ in paths).items():
        if number > 1:
            raise click.UsageError(f"--dev names {name} {number} times: expected one file of each")
    samples = []
    broken: list[InputError] = []
    for name, path in paths:
        check_apart(output, path)
        sample, errors = load_sample(path, name, documents, seed)
        if seen := sum(fingerprint(document) in known_documents for document in sample.documents):
            warn(
                f"{path}: the model was trained on {seen} of these {len(sample.documents)} "
                "documents: what is measured on them is too high"
            )
        samples.append(sample)
        broken += errors
    return samples, broken


def _table(found: Measured, level: str) -> str:
    """For each format, and each combination, the highest F1 first."""
    rows = []
    for names, (every, kept) in found.counts.items():
        known = calibration_of(found.trained.calibrations, names, level)
        least, raw, error = (
            (known.best.least, known.raw_error, known.error) if known else (None, None, None)
        )
        scores = sum(kept, Counts()).scores
        bounds = intervals(kept)
        rows.append(
            (
                scores.f1 or 0.0,
                [
                    ",".join(names),
                    _number(sum(every, Counts()).scores.f1),
                    _number(scores.f1),
                    f"{bounds.f1[0]:.3f} to {bounds.f1[1]:.3f}" if bounds else "-",
                    _number(least),
                    _number(scores.precision),
                    _number(scores.recall),
                    _number(raw),
                    _number(error),
                ],
            )
        )
    heads = ["formats", "F1, all", "F1", "95 %", "threshold", "P", "R", "error, raw", "error"]
    lines = [row for _, row in sorted(rows, key=lambda row: -row[0])]
    return "\n".join(_columns([heads, *lines]))


def _columns(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join(cells).rstrip()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
