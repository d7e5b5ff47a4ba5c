"""`cner export` and `cner import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constrained_ner.atomic import whole
from constrained_ner.cli.asking import Asking, asking_options
from constrained_ner.cli.messages import interruptible, report_left_out, report_losses, say, warn
from constrained_ner.cli.options import (
    OutputFile,
    check_apart,
    given,
    overwrite_option,
    unmasked_option,
)
from constrained_ner.cli.output import Output
from constrained_ner.cli.progress import Progress, progress
from constrained_ner.corpora.files import File
from constrained_ner.corpora.json_records import json_line, read_records
from constrained_ner.errors import CnerError, InputError
from constrained_ner.pipeline.prediction import Summary
from constrained_ner.pipeline.runs import Run

if TYPE_CHECKING:
    from constrained_ner.pipeline.predictor import Predictor

_BATCHES = ("completions", "chat")


@click.command("export")
@asking_options
@click.option(
    "--batch",
    type=click.Choice(_BATCHES),
    default=None,
    help="Write a batch file of OpenAI's form: prompts as token ids, or as messages.",
)
@click.option("--served-model", default=None, help="For --batch: what the server calls it.")
@click.option("-o", "--output", type=OutputFile(), required=True, help="Write here.")
@overwrite_option
def export_requests(
    batch: str | None, served_model: str | None, output: Path, overwrite: bool, **asked: Any
) -> None:
    """Write what a model would be asked of INPUT: prompts, grammars and budgets, as JSON lines.

    Another system answers them, and `cner import` with the same options reads its answers.
    """
    if batch is None and not given("served_model"):
        served_model = None
    if (batch is None) != (served_model is None):
        raise click.UsageError("--batch and --served-model go together")
    asking = _asking(asked)
    check_apart(output, asking.input, asked["examples"])
    _check_turns(asking)
    from constrained_ner.engines.exchange import batch_line, imported, request_to_json
    from constrained_ner.engines.models import load_tokens
    from constrained_ner.engines.sequence import begin

    model = load_tokens(asking.model, asking.adapter)
    predictor = asking.predictor(model, recorded=False, engine=imported({}, set()))
    left_out: list[CnerError] = []
    seen: set[str] = set()
    with whole(output) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        for document in progress(asking.documents(), "documents"):
            if isinstance(document, InputError):
                left_out.append(document)
                continue
            turns = predictor.turns(document)
            if not turns:
                left_out.append(InputError(f"document {document.id!r}: the text is empty"))
            for turn in turns:
                try:
                    request = predictor.request(turn)
                    request.sequence = begin(request, model.vocabulary)
                except CnerError as error:
                    left_out.append(error)
                    continue
                record = request_to_json(request, model)
                if record["id"] in seen:  # the same sentence again
                    continue
                seen.add(record["id"])
                if batch is not None:
                    line = batch_line(record, str(served_model), chat=batch == "chat")
                else:
                    about = {"document": document.id, "segment": list(turn.segment)}
                    line = record | about | {"format": turn.format.name, "labels": [*turn.labels]}
                file.write(json_line(line))
    say(f"{len(seen)} requests")
    report_left_out(left_out)


@click.command("import")
@asking_options
@click.option(
    "--answers",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="JSON lines: `id`, `text` and `finish_reason` (`stop`, or `length` where it was cut) of "
    "each request; or what a batch of OpenAI's form gave.",
)
@unmasked_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Write here.")
@overwrite_option
def import_answers(
    answers: Path, unmasked: str, output: Path, overwrite: bool, **asked: Any
) -> None:
    """Read answers to the requests that `cner export` wrote of INPUT, given the same options.

    What was cut is finished; what leaves its grammar is an error. The output is that of
    `cner predict`, which its suffix tells.
    """
    asking = _asking(asked)
    check_apart(output, answers, asked["examples"])
    _check_turns(asking)
    to_file = Output.of(output, None, asking.from_columns)
    to_file.check(asking.input, resume=None, overwrite=overwrite)
    from constrained_ner.engines.exchange import imported, read_answers
    from constrained_ner.engines.models import load_tokens

    found, broken = read_answers(read_records(File.on_disk(answers)))
    if not found:
        raise InputError("holds no answers", answers) if not broken else broken[0]
    lenient = unmasked == "lenient"
    summary = Summary()
    used: set[str] = set()

    def predictor() -> Predictor:
        model = load_tokens(asking.model, asking.adapter)
        return asking.predictor(
            model, recorded=False, engine=imported(found, used, lenient=lenient)
        )

    settings = {**asking.settings(recorded=False), "engine": "import", "lenient": lenient}
    run = Run(
        asking.documents(),
        to_file.records,
        settings,
        resume=False,
        overwrite=overwrite,
        summary=summary,
    )
    anew = "the same command with --overwrite begins anew"
    with interruptible(lambda: anew), Progress("documents") as bar:
        for prediction in run.answer(predictor):
            summary.add(prediction)
            bar.add()
    report_losses(to_file.finish(asking.documents()))
    for line in summary.lines(decoded=False):
        say(line)
    if foreign := found.keys() - used:
        warn(
            f"{len(foreign)} of {len(found)} answers belong to no question: were the options those "
            "of the export?"
        )
    report_left_out([*broken, *summary.failed, *(f"in part: {error}" for error in summary.partly)])


def _asking(asked: dict[str, Any]) -> Asking:
    asking = Asking.of(**asked)
    asking.check(recorded=False)
    return asking


def _check_turns(asking: Asking) -> None:
    """See that no question shows the answer to another one.

    Raises
    ------
    click.UsageError: one does.
    """
    for format in asking.task.formats:
        for target in asking.task.targets:
            for labels in format.conversations(target.labels):
                if len(format.turns(labels)) > 1:
                    raise click.UsageError(
                        f"{format.name} asks for {', '.join(labels)} in turns, of which each shows "
                        "the answers before it: expected another format, or one label"
                    )
