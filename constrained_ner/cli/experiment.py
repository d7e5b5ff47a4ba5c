"""`cner experiment`."""

from __future__ import annotations

from pathlib import Path

import click

from constrained_ner.atomic import check_new_folder
from constrained_ner.benchmark.plots import require_matplotlib
from constrained_ner.cli.benchmark import resamples_option, write_results
from constrained_ner.cli.messages import interruptible
from constrained_ner.cli.options import OutputFolder, check_apart
from constrained_ner.cli.progress import progress


@click.command()
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Print what there is to do, and do none of it.")
@resamples_option
@click.option(
    "-o",
    "--output",
    type=OutputFolder(),
    help="The folder of the experiment. One that was stopped goes on where it was.",
)
def experiment(recipe: Path, dry_run: bool, resamples: int, output: Path | None) -> None:
    """Train and test models in several configurations and draws.

    RECIPE is a training recipe with `models`, `configurations`, `draws` and `levels`. Writes a
    folder for each run, results.json, report.html and report.md with the paper's tables.
    """
    from constrained_ner.benchmark.experiment import combine, load_experiment, plan, run_experiment

    chosen = load_experiment(recipe)
    if dry_run:
        for line in plan(chosen).lines():
            click.echo(line)
        return
    if output is None:
        raise click.UsageError("expected -o DIR, or --dry-run")
    require_matplotlib()
    check_apart(output, *(path for data in chosen.recipe.data for path in data.paths))
    if not any((output / run.path.parts[0]).is_dir() for run in chosen.runs()):
        check_new_folder(output)  # else it is an experiment with these models
    output.mkdir(parents=True, exist_ok=True)
    done = []
    total = len(chosen.runs())
    with interruptible(lambda: "the same command goes on where it was"):
        for found in run_experiment(chosen, output, progress, resamples=resamples):
            done.append(found)
            click.echo(f"{len(done)} of {total} runs: {found.models[0]}")
    write_results(combine(done), output)
