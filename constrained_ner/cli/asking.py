"""What `cner predict` and the like ask a model: about which documents, for what, and how."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constrained_ner.adapters import digest_of
from constrained_ner.cli.messages import detail, warn
from constrained_ner.cli.options import (
    MASKED_LEVELS,
    FormatNames,
    Number,
    check_effect,
    format_options,
    given,
    input_options,
    is_pipe,
    labels_option,
    model_name_options,
    options,
    overruled,
    read_all,
    table_input,
    table_options,
)
from constrained_ner.corpora import COLUMN_FORMATS, detect_format, read
from constrained_ner.corpora.files import File
from constrained_ner.corpora.jsonl import document_to_json
from constrained_ner.documents import Document
from constrained_ner.errors import InputError
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.manifest import load_manifest
from constrained_ner.pipeline.prompts import DEFAULT_DATASET
from constrained_ner.pipeline.segments import SEGMENTS
from constrained_ner.pipeline.task import COMBINATIONS, DEFAULT_FORMAT, Task, task_for

if TYPE_CHECKING:
    from constrained_ner.engines.language_model import LanguageModel
    from constrained_ner.pipeline.manifest import Manifest
    from constrained_ner.pipeline.predictor import Predictor

# What `Asking.of` takes.
asking_options = options(
    click.argument(
        "input", required=False, type=click.Path(exists=True, path_type=Path, allow_dash=True)
    ),
    click.option("-t", "--text", help="A text, in place of INPUT."),
    labels_option(
        text="; `all`: every one that the model was trained for. By default a choice of them"
    ),
    click.option(
        "--format",
        "name",
        type=FormatNames(),
        default=None,
        help=f"How the model writes its answer: {', '.join(FORMATS)}; several with commas "
        "between them, whose answers are put together; or `best2`, the two that it does best "
        "with together, and so on.  [default: the one that it is best at on dev; where that is "
        f"not known, {DEFAULT_FORMAT}, or the first that it was trained for]",
    ),
    click.option(
        "--combine",
        type=click.Choice(COMBINATIONS),
        default="agreement",
        show_default=True,
        help="How the answers in several formats are put together: by how sure the model was in "
        "each, and how good each is; or what most of them have.",
    ),
    click.option(
        "--constrained/--free",
        default=True,
        show_default=True,
        help="Decode under the format's grammar, or as the model likes.",
    ),
    click.option(
        "--level",
        type=click.Choice(MASKED_LEVELS),
        default=None,
        help="How much of the answer is constrained.  [default: faithful]",
    ),
    model_name_options,
    click.option(
        "--max-new-tokens",
        type=click.IntRange(1),
        default=None,
        help="Token budget of each answer; by default derived from its text.",
    ),
    click.option(
        "--dataset",
        default=None,
        help="The data set whose guidelines the prompt names, for all labels.  [default: for each "
        f"label one that the model was trained on, or {DEFAULT_DATASET}]",
    ),
    click.option(
        "--index/--no-index",
        default=None,
        help="Show every word in the prompt with its offset, for multi_bio with its number.  "
        "[default: as the model was mostly trained, in formats that only say places]",
    ),
    click.option(
        "--examples",
        type=click.Path(exists=True, path_type=Path),
        default=None,
        help="Annotated documents to show to a model that was not trained for the task.",
    ),
    click.option(
        "--segment",
        type=click.Choice(SEGMENTS),
        default="sentence",
        show_default=True,
        help="What of a text is asked about at a time: all of it, each sentence, or sentences "
        "together of up to 60 words. What does not fit is cut at white space.",
    ),
    click.option(
        "--conflicts",
        type=click.Choice(["settle", "keep"]),
        default="settle",
        show_default=True,
        help="What to do where the answers of several questions contradict each other: take the "
        "surer one, or keep them side by side.",
    ),
    format_options,
    input_options,
    table_options,
)
# Of what has confidences; what `Asking.of` takes beside the others.
confidence_options = options(
    click.option(
        "--min-confidence",
        type=Number(0, 1),
        default=None,
        help="Leave out entities that are less sure, from 0 to 1; answers stay whole.  [default: "
        "what was best on dev, where `cner calibrate` has measured it]",
    ),
    click.option(
        "--precision",
        type=Number(0, 1),
        default=None,
        help="In place of --min-confidence, what has this precision on dev.",
    ),
    click.option(
        "--consistent",
        is_flag=True,
        help="Let the places of a document where the same words stand have one confidence, the "
        "mean: what is found in most of them is found in all. Where nothing else is asked for, "
        "what is less probable than 0.35, or than the threshold without this option, is left out.",
    ),
)


def without_confidences(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options where no confidences are recorded: what needs them only where it is given.

    Settings of variables and files are for other commands, too.
    """
    unset = {"min_confidence": None, "precision": None, "consistent": False}
    return {**options, **{name: value for name, value in unset.items() if not given(name)}}


@dataclass(frozen=True)
class Asking:
    """What is asked of which documents.

    Attributes
    ----------
    model, adapter: their names. `manifest`: what the model says of itself.
    documents: a function that reads them, from the beginning each time. `from_columns`: one that
        looks whether they come from columns, which say what the tokens are.
    examples: that are shown to the model. `budget`: of each answer; None derives it.
    settling: whether answers that contradict each other are settled.
    """

    model: str
    adapter: str | None
    manifest: Manifest | None
    input: Path | None
    documents: Callable[[], Iterable[Document | InputError]]
    from_columns: Callable[[], bool]
    task: Task
    level: Level
    index: bool
    examples: tuple[Document, ...]
    segment: str
    budget: int | None
    settling: bool
    min_confidence: float | None
    precision: float | None
    consistent: bool

    @classmethod
    def of(
        cls,
        *,
        input: Path | None,
        text: str | None,
        labels: tuple[str, ...] | None,
        name: str | None,
        combine: str,
        constrained: bool,
        level: str | None,
        model: str,
        adapter: str | None,
        max_new_tokens: int | None,
        dataset: str | None,
        index: bool | None,
        examples: Path | None,
        segment: str,
        conflicts: str,
        min_confidence: float | None = None,
        precision: float | None = None,
        consistent: bool = False,
        input_format: str | None,
        encoding: str | None,
        limit: int | None,
        text_column: str | None,
        id_column: str | None,
        **options: Any,
    ) -> Asking:
        """What these options say, of which some exclude each other.

        Raises
        ------
        click.UsageError: they do.
        """
        if overruled("constrained", "level"):
            constrained = True
        free = () if constrained else ("constrained",)
        if overruled("level", *free):
            level = None
        if overruled("min_confidence", "precision", *free):
            min_confidence = None
        if overruled("precision", "min_confidence", *free):
            precision = None
        if overruled("consistent", *free):
            consistent = False
        if combine == "vote" and overruled("precision", "combine"):
            precision = None
        if not constrained and level is not None:
            raise click.UsageError("--free and --level exclude each other")
        if (input is None) == (text is None):
            raise click.UsageError("expected either INPUT or --text")
        piped = input is None or str(input) == "-"
        if piped and (given("input_format") or given("limit")):
            raise click.UsageError(
                "--input-format and --limit go with an INPUT that is a file or a folder"
            )
        input_format, columns = table_input(
            input, input_format, encoding, text_column=text_column, id_column=id_column
        )
        chosen = Level.parse(level or Level.FAITHFUL) if constrained else Level.FREE
        manifest = _manifest(adapter or model, labels)
        task = task_for(manifest, labels, name, dataset, options, combine)
        check_effect(task.formats)
        places = any(format.by_place for format in task.formats)
        if given("index") and index and len(task.formats) > 1 and not places:
            raise click.UsageError("--index is for formats that only say places, among several")
        if text is not None and given("encoding"):
            raise click.UsageError("--encoding goes with an INPUT")
        if given("combine") and len(task.formats) == 1:
            raise click.UsageError("--combine is for several formats")
        if min_confidence is not None and precision is not None:
            raise click.UsageError("--min-confidence and --precision exclude each other")
        for note in task.notes:
            warn(note)
        whole = [Document("text", _piped(encoding) if text is None else text)] if piped else None

        reading = partial(read, input or "", input_format, encoding=encoding, **columns)
        # A pipe in the file system can be read once, and is asked for more often.
        held = list(islice(reading(), limit)) if input and not piped and is_pipe(input) else None

        def from_columns() -> bool:
            if input_format is None and input and not piped and held is None:
                return detect_format(input, encoding) in COLUMN_FORMATS
            return input_format in COLUMN_FORMATS

        def documents() -> Iterable[Document | InputError]:
            return whole or (islice(reading(), limit) if held is None else held)

        for target in task.targets:
            detail(f"labels: {', '.join(target.labels)}, by the guidelines of {target.name}")
        return cls(
            model,
            adapter,
            manifest,
            None if piped else input,
            documents,
            from_columns,
            task,
            chosen,
            task.index if index is None else index,
            _examples(examples),
            segment,
            max_new_tokens,
            conflicts == "settle",
            min_confidence,
            precision,
            consistent,
        )

    def without_confidences(self) -> Asking:
        """The same where no confidences are recorded; see the function."""
        return replace(self, **without_confidences(vars(self)))

    def check(self, *, recorded: bool) -> None:
        """See that what is asked for can be had.

        Parameters
        ----------
        recorded: whether the engine's confidences are recorded.
        """
        needs = self.min_confidence or self.precision is not None or self.consistent
        if not recorded and needs:
            raise click.UsageError(
                "--min-confidence, --precision and --consistent are of masked answers of engines "
                "that tell probabilities under the mask: not with --free, --no-confidence, "
                "outlines' own masks, or a server that does not tell them (vLLM: --logprobs-mode "
                "processed_logprobs)"
            )
        if not recorded and len(self.task.formats) > 1 and not self.task.agreement.vote:
            raise click.UsageError(
                "several formats agree by their confidences, and there are none here: expected "
                "--combine vote"
            )
        if self.precision is not None:
            self.task.check_precision(self.level, self.precision)

    def settings(self, *, recorded: bool) -> dict[str, Any]:
        """All that answers depend on besides the documents and what decodes.

        A run is resumed only if all of it is the same.
        """
        task, base = self.task, self.manifest and self.manifest.base
        calibration = task.calibration(self.level)
        return {
            "model": self.model,
            "adapter": self.adapter,
            "weights": [digest_of(one) for one in (self.model, self.adapter, base) if one],
            "manifest": self.manifest and asdict(replace(self.manifest, dev={}, calibrations=())),
            "token budget": self.budget,
            "format": task.format,
            "format's options": asdict(task.formats[0].options),
            "combination": asdict(task.agreement) if len(task.formats) > 1 else None,
            "calibration": recorded and calibration and asdict(calibration),
            "level": str(self.level),
            "labels": [asdict(target) for target in task.targets],
            "index": self.index,
            "examples": [
                document_to_json(replace(one, confidences={}, meta={})) for one in self.examples
            ],
            "segment": self.segment,
            "confidence": recorded,
            # The rest is in the manifest.
            "conflicts": task.conflicts.order if self.settling and task.conflicts else None,
            "least confidence": self.min_confidence,
            "precision": self.precision,
            "consistent": self.consistent,
        }

    def predictor(self, model: LanguageModel, *, recorded: bool, **rest: Any) -> Predictor:
        """What makes requests to a model and reads its answers; see there for `rest`.

        Raises
        ------
        InputError: the model has no room for a question.
        """
        from constrained_ner.pipeline.predictor import Predictor

        made = Predictor(
            model,
            self.task.formats,
            self.task.targets,
            self.level,
            max_new_tokens=self.budget,
            index=self.index,
            examples=self.examples,
            record=recorded,
            segment=self.segment,
            conflicts=self.task.conflicts if self.settling else None,
            agreement=self.task.agreement,
            calibration=self.task.calibration(self.level),
            min_confidence=self.min_confidence,
            precision=self.precision,
            consistent=self.consistent,
            **rest,
        )
        made.check_room()
        return made


def _manifest(model: str, labels: tuple[str, ...] | None) -> Manifest | None:
    """What the model says of itself.

    Raises
    ------
    ModelError: labels are expected from the model, and there is no such model.
    """
    manifest = load_manifest(model)
    if manifest is None and labels is None:
        from constrained_ner.engines.models import load_tokens

        load_tokens(model)
    return manifest


def _piped(encoding: str | None) -> str:
    """The text on standard input, with its line ends unchanged."""
    if sys.stdin is None:
        raise InputError("is closed: expected a text", "standard input")
    data = sys.stdin.buffer.read()
    return File("-", "standard input", lambda: BytesIO(data), encoding).text()


def _examples(path: Path | None) -> tuple[Document, ...]:
    documents, broken = read_all(path) if path else ([], [])
    if broken:
        raise broken[0]
    return tuple(documents)
