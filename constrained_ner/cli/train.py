"""`cner train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from constrained_ner.atomic import check_new_folder
from constrained_ner.cli.messages import interruptible, report_left_out
from constrained_ner.cli.options import Number, OutputFolder, check_apart, labels_option, options
from constrained_ner.cli.progress import progress
from constrained_ner.errors import InputError
from constrained_ner.formats.grammar import Level
from constrained_ner.labels import names_of

# Options that change one value of the recipe: the option, its table, its key, and its type.
_VALUES: tuple[tuple[str, str, str, Any], ...] = (
    ("--epochs", "training", "epochs", float),
    ("--learning-rate", "training", "learning_rate", float),
    ("--batch-size", "training", "batch_size", click.IntRange(1)),
    ("--accumulation", "training", "accumulation", click.IntRange(1)),
    ("--examples", "examples", "train", click.IntRange(1)),
    ("--dev-examples", "examples", "dev", click.IntRange(1)),
    ("--test-examples", "examples", "test", click.IntRange(1)),
    ("--index", "examples", "index", Number(0, 1)),
    ("--level", "evaluation", "level", click.Choice([level.value for level in Level])),
)


_value_options = options(
    *(
        click.option(option, f"{table}_{key}", type=kind, help=f"{table}.{key}.")
        for option, table, key, kind in _VALUES
    )
)

_FILE = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("recipe", required=False, type=_FILE)
@click.option("--model", help="A folder, the packaged default, or a hub id.")
@click.option("--train", "train_file", type=_FILE, help="Annotated documents to train on.")
@click.option("--dev", type=_FILE, help="Those that choose the checkpoint.")
@click.option("--test", type=_FILE, help="Those that the model card reports on.")
@labels_option()
@click.option("--format", "formats", help="Formats or configurations, separated by commas.")
@click.option("--rank", type=click.IntRange(0), help="Of a LoRA adapter; 0 trains all weights.")
@click.option("--seed", type=click.IntRange(0), help="Of the draw and of the training.")
@_value_options
@click.option(
    "--prepare",
    "only_prepare",
    is_flag=True,
    help="Build the examples, and end. The same command without it goes on from them, also where "
    "the folder and the corpora were moved to.",
)
@click.option(
    "-o",
    "--output",
    type=OutputFolder(),
    required=True,
    help="The folder of the run. A run that was stopped goes on where its last checkpoint is.",
)
@click.pass_context
def train(
    ctx: click.Context, /, recipe: Path | None, only_prepare: bool, output: Path, **options: Any
) -> None:
    """Fine-tune a model by RECIPE, a TOML file, or on the data given.

    Options take precedence over the recipe, and that over what `cner.toml` has. What is written to
    the folder is what `cner predict --model` takes.
    """

    def counts(name: str) -> bool:
        of_file = ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP
        return options[name] is not None and not (recipe is not None and of_file)

    given = {name: value for name, value in options.items() if counts(name)}
    if (recipe is None) == ("train_file" not in given):
        raise click.UsageError("expected either a RECIPE or --train DATA")

    from constrained_ner.training.recipe import CorpusFiles, Lora, Recipe, load_recipe

    files = {name: given.pop(name) for name in ("dev", "test", "labels") if name in given}
    if recipe is not None:
        try:
            chosen = load_recipe(recipe)
        except InputError as error:
            if not error.reason.startswith(("not TOML", "cannot be read")):
                raise
            hint = f"{error.reason}; expected a recipe: documents to train on go with --train"
            raise InputError(hint, recipe) from None
        if files:
            raise click.UsageError("--dev, --test and --labels go with --train")
    else:
        chosen = Recipe((CorpusFiles(train=given.pop("train_file"), **files),))
    for name in ("model", "seed"):
        if name in given:
            chosen = replace(chosen, **{name: given[name]})
    if "rank" in given:
        before, rank = chosen.lora or Lora(), given["rank"]
        alpha = max(1, before.alpha * rank // before.rank)
        chosen = replace(chosen, lora=replace(before, rank=rank, alpha=alpha) if rank else None)
    if "formats" in given:
        examples = replace(chosen.examples, formats=names_of(given["formats"]))
        chosen = replace(chosen, examples=examples)
    for _, table, key, _ in _VALUES:
        if f"{table}_{key}" in given:
            changed = replace(getattr(chosen, table), **{key: given[f"{table}_{key}"]})
            chosen = replace(chosen, **{table: changed})

    check_apart(output, *(path for data in chosen.data for path in data.paths))

    from constrained_ner.training.checkpoints import RUN
    from constrained_ner.training.run import prepare, run

    if not (output / RUN).exists():  # it is no run that could be gone on with
        check_new_folder(output)
    with interruptible(lambda: "the same command goes on where the last checkpoint is"):
        outcome = (prepare if only_prepare else run)(chosen, output, progress)
    for line in outcome.lines():
        click.echo(line)
    report_left_out(outcome.drawn.broken)
