"""`cner benchmark`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from constrained_ner.adapters import DEFAULT_MODEL
from constrained_ner.atomic import LOCK, check_new_folder
from constrained_ner.benchmark.gather import gather
from constrained_ner.benchmark.grid import Grid, done, load_sample, run, variants_of
from constrained_ner.benchmark.plots import require_matplotlib
from constrained_ner.benchmark.report import write_report
from constrained_ner.benchmark.results import Results, save_results
from constrained_ner.cli.messages import interruptible, report_left_out
from constrained_ner.cli.options import (
    OutputFolder,
    check_apart,
    device_options,
    given,
    named_path,
    overruled,
)
from constrained_ner.cli.progress import Progress
from constrained_ner.formats.grammar import Level
from constrained_ner.labels import names_of

resamples_option = click.option(
    "--resamples", type=click.IntRange(1), default=10_000, show_default=True, help="Of intervals."
)


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    default=(DEFAULT_MODEL,),
    show_default=True,
    help="A folder, a packaged model, or a hub id. May be given several times.",
)
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="[NAME=]PATH",
    help="Annotated documents, and what prompts call the data set; by default the file's name, or "
    "its folder's where it is called test, dev or train. May be given several times.",
)
@click.option(
    "--formats",
    default="all",
    show_default=True,
    help="Formats, separated by commas; `all` twelve; `spans`: multi_bio+index, "
    "multi_span+index, single_span+index and multi_brat+offsets.",
)
@click.option(
    "--levels",
    default="free,syntax,faithful",
    show_default=True,
    help="How much of the answers is constrained, separated by commas.",
)
@click.option("--documents", type=click.IntRange(1), help="Draw this many of each data set.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draw.")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    help="Of free answers; by default derived from each text, as of masked ones always.",
)
@device_options
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Cells that are answered at a time. They share the machine: times are rough then.",
)
@click.option(
    "--energy",
    "country",
    default="",
    metavar="COUNTRY",
    help="Measure energy, and emissions by the mix of this country, such as FRA (extra `energy`).",
)
@resamples_option
@click.option(
    "-o",
    "--output",
    type=OutputFolder(),
    required=True,
    help="The folder of the benchmark. One that was stopped goes on with its next cell.",
)
def benchmark(
    models: tuple[str, ...],
    data: tuple[str, ...],
    formats: str,
    levels: str,
    documents: int | None,
    seed: int,
    batch_size: int,
    max_new_tokens: int | None,
    device: str,
    dtype: str,
    processes: int,
    country: str,
    resamples: int,
    output: Path,
) -> None:
    """Compare formats and levels of constraint on the same documents.

    Writes answers, results.json, report.html and report.md.
    """
    if overruled("country", "processes") and processes > 1:
        country = ""
    if country and processes > 1:
        raise click.UsageError("--energy is of the whole machine: expected --processes 1")
    require_matplotlib()
    loaded = []
    broken = []
    for item in data:
        name, path = named_path(item)
        check_apart(output, path)
        found, errors = load_sample(path, name, documents, seed)
        loaded.append(found)
        broken += errors
    grid = Grid(
        models,
        tuple(loaded),
        variants_of(names_of(formats)),
        tuple(dict.fromkeys(Level.parse(name) for name in names_of(levels))),
        seed,
        batch_size,
        max_new_tokens,
        device,
        dtype,
        country,
    )
    if given("max_new_tokens") and Level.FREE not in grid.levels:
        raise click.UsageError("--max-new-tokens is for free answers, and --levels has none")
    check_folder(output)
    output.mkdir(parents=True, exist_ok=True)
    answer(grid, output, processes)
    results = gather(grid, output, resamples=resamples)
    click.echo(f"{len(results.cells)} cells answered")
    write_results(results, output)
    report_left_out(broken)


def check_folder(output: Path) -> None:
    """See that a folder is new, empty, or one of answers.

    Raises
    ------
    InputError: it holds something else.
    """
    # Folders alone are what a run leaves that was stopped before its first answer.
    begun = output.is_dir() and all(p.is_dir() or p.name == LOCK for p in output.rglob("*"))
    answers = (path for level in Level for path in output.glob(f"*/*/*{level}.jsonl"))
    if not begun and not any(answers):  # see `Cell.answers`
        check_new_folder(output)


def answer(grid: Grid, output: Path, processes: int = 1) -> None:
    """Answer the cells that have no answers yet, while it is shown how far they are."""
    sizes = {data.name: len(data.documents) for data in grid.data}
    waiting = sum(sizes[cell.data] for cell in grid.cells() if not done(output, cell))
    with (
        interruptible(lambda: "the same command goes on with the next cell"),
        Progress("documents", waiting) as shown,
    ):

        def progress(items: Iterable[Any], cell: str) -> Iterator[Any]:
            for item in items:
                shown.add(unit=f"documents, {cell}")
                yield item

        run(grid, output, progress, processes)


def write_results(results: Results, folder: Path) -> None:
    """Write results.json, then the report of it."""
    click.echo(f"written: {save_results(results, folder)}")
    for path in write_report(results, folder):
        click.echo(f"written: {path}")
