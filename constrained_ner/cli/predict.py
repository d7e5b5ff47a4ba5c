"""`cner predict`."""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constrained_ner.cli.options import (
    MASKED_LEVELS,
    format_options,
    input_options,
    labels_option,
    progress,
    read_all,
    to_options,
)
from constrained_ner.corpora import read
from constrained_ner.documents import Document
from constrained_ner.formats import FORMATS, get_format
from constrained_ner.grammar import Level
from constrained_ner.prompts import DEFAULT_DATASET, Target
from constrained_ner.trained import DEFAULT_MODEL, load_trained

if TYPE_CHECKING:
    from constrained_ner.predict import Prediction


@click.command()
@click.argument("input", type=click.Path(exists=True, path_type=Path))
@labels_option(text="; by default those that the model was trained for")
@click.option(
    "--format",
    "name",
    type=click.Choice(list(FORMATS)),
    default=None,
    help="How the model writes its answer.  [default: multi_term, or the first it was trained for]",
)
@click.option(
    "--constrained/--free",
    default=True,
    show_default=True,
    help="Decode under the format's grammar, or as the model likes.",
)
@click.option(
    "--level",
    type=click.Choice(MASKED_LEVELS),
    default=None,
    help="How much of the answer is constrained.  [default: faithful]",
)
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="A folder, a packaged model, or a hub id.",
)
@click.option("--adapter", default=None, help="A LoRA adapter to put on the model.")
@click.option("--device", default="auto", show_default=True, help="Where to run, as torch says it.")
@click.option("--dtype", default="auto", show_default=True, help="float32, bfloat16 or float16.")
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=None,
    help="Token budget of each answer; by default derived from its text.",
)
@click.option(
    "--dataset",
    default=None,
    help="The data set whose guidelines the prompt names, for all labels.  [default: for each "
    f"label one that the model was trained on, or {DEFAULT_DATASET}]",
)
@click.option("--index", is_flag=True, help="Show the offset of every word in the prompt.")
@click.option(
    "--examples",
    type=click.Path(exists=True, path_type=Path),
    default=None,
    help="Annotated documents to show to a model that was not trained for the task.",
)
@click.option(
    "--backend",
    type=click.Choice(["llguidance", "outlines_core", "xgrammar"]),
    default="llguidance",
    show_default=True,
    help="Mask engine. The others are outlines' own, for JSON formats at the syntax level.",
)
@click.option(
    "--decoder",
    type=click.Choice(["fast", "reference"]),
    default="fast",
    show_default=True,
    help="Several tokens with each call of the model, or one. Answers are the same.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path, allow_dash=True),
    default=None,
    help="Write JSON lines here, `-` for standard output; by default, print for reading.",
)
@format_options
@input_options
def predict(
    input: Path,
    labels: tuple[str, ...] | None,
    name: str | None,
    constrained: bool,
    level: str | None,
    model: str,
    adapter: str | None,
    device: str,
    dtype: str,
    batch_size: int,
    max_new_tokens: int | None,
    dataset: str | None,
    index: bool,
    examples: Path | None,
    backend: str,
    decoder: str,
    output: Path | None,
    input_format: str | None,
    limit: int | None,
    **options: Any,
) -> None:
    """Extract the entities of the documents in INPUT.

    A document that cannot be read or answered is reported at the end; the exit status is 1 then.
    """
    if not constrained and level is not None:
        raise click.UsageError("--free and --level exclude each other")
    chosen = Level.parse(level or Level.FAITHFUL) if constrained else Level.FREE
    trained = load_trained(adapter or model)
    targets: tuple[Target, ...] = ()
    if trained is not None:
        targets = trained.targets(labels)
        name = name or ("multi_term" if "multi_term" in trained.formats else trained.formats[0])
        options["max_fragments"] = options["max_fragments"] or trained.options.get("max_fragments")
        if name not in trained.formats:
            known = ", ".join(trained.formats)
            click.echo(f"the model was not trained to write {name}, but {known}", err=True)
    if not targets or dataset:
        labels = labels or (trained.labels if trained else None)
        if labels is None:
            raise click.UsageError("expected --labels: the model does not say which it knows")
        targets = (Target(labels, dataset or DEFAULT_DATASET),)
    format = get_format(name or "multi_term", to_options(options))
    documents = islice(read(input, input_format), limit)

    from constrained_ner.models import load_model
    from constrained_ner.predict import Predictor, Summary

    predictor = Predictor(
        load_model(model, adapter, device=device, dtype=dtype),
        format,
        targets,
        chosen,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        index=index,
        backend=backend,
        decoder=decoder,
        examples=_examples(examples),
    )
    if decoder == "fast" and predictor.slow:
        click.echo(f"decoding goes token by token: {predictor.slow}", err=True)
    summary = Summary()
    readable = output is None
    stream = click.open_file(str(output or "-"), "w", encoding="utf-8")
    try:
        for prediction in progress(predictor.predict(documents), "documents"):
            summary.add(prediction)
            if readable:
                stream.write(_for_reading(prediction))
            else:
                stream.write(json.dumps(prediction.to_json(), ensure_ascii=False) + "\n")
            stream.flush()
    finally:
        stream.close()
    for line in summary.lines():
        click.echo(line, err=True)
    for error in summary.failed:
        click.echo(f"left out: {error}", err=True)
    if summary.failed:
        sys.exit(1)


def _examples(path: Path | None) -> tuple[Document, ...]:
    documents, broken = read_all(path, None, None) if path else ([], [])
    if broken:
        raise broken[0]
    return tuple(documents)


def _for_reading(prediction: Prediction) -> str:
    """A document's text and its entities, one a line."""
    if prediction.error is not None:
        return f"! {prediction.error}\n\n"
    lines = [f"{prediction.id}: {prediction.text}"]
    width = max((len(entity.label) for entity in prediction.entities), default=0)
    for entity in prediction.entities:
        offsets = ";".join(f"{start}-{end}" for start, end in entity.fragments)
        lines.append(f"  {entity.label:<{width}}  {entity.surface(prediction.text)}  [{offsets}]")
    return "\n".join(lines) + "\n\n"
