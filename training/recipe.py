"""Recipes: everything that decides a training run, as a TOML file or from the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from constrained_ner.adapters import BASE_MODEL
from constrained_ner.errors import InputError, UnknownNameError
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prompts import Target
from constrained_ner.structuring import read_toml, structure

from .objectives import OBJECTIVES
from .sampling import Sampling, formats_of

SCHEDULERS = ("constant", "constant_with_warmup", "linear", "cosine")
DTYPES = ("auto", "float32", "bfloat16")
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter (Hu et al. 2022).

    Attributes
    ----------
    targets: names of the layers, or `all-linear`.
    dtype: of the adapter that is kept, one of `DTYPES` but `auto`; bfloat16 takes half the space.
        It is tested as it is kept.
    keep_rank: of the adapter that is kept, which is the best approximation of that rank; 0: `rank`.
    start: the folder of an adapter of the same targets and of the same rank or a lower one, whose
        weights training begins with; by default it begins with none.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    dtype: str = "float32"
    keep_rank: int = 0
    start: Path | None = None


@dataclass(frozen=True, kw_only=True)
class CorpusFiles(Target):
    """One corpus: files as `cner convert` reads them, and what is asked for.

    Attributes
    ----------
    labels: by default those of the training file.
    name: by default that of the training file, or of its folder where the file is a split of it.
    examples: the most training documents; 0: as many as of every corpus. `rounds`: the same, of
        how often they are asked about. `weights`: of formats, before those of every corpus.
    """

    train: Path
    dev: Path | None = None
    test: Path | None = None
    labels: tuple[str, ...] = ()
    name: str = ""
    examples: int = 0
    rounds: int = 0
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("examples", "rounds"):
            if (value := getattr(self, key)) < 0:
                raise InputError(f"data.{key} is {value}: expected 0 or more")

    @property
    def paths(self) -> tuple[Path, ...]:
        """Those of the splits that there are."""
        return tuple(path for path in (self.train, self.dev, self.test) if path is not None)


@dataclass(frozen=True)
class Optimisation:
    """The loop.

    Attributes
    ----------
    batch_size: of one device; `accumulation` batches make a step.
    objective: what is minimised, one of `objectives.OBJECTIVES`.
    row_tokens: on a GPU, examples are packed into rows of so many tokens, without padding, and
        `batch_size` of these rows are a batch; 0: one example a row, padded.
    compile: compile the model's layers (`torch.compile`); it takes a minute, and then saves a part
        of each step.
    minutes: training ends by then, with the rate let down to zero by the clock; 0: after so many
        epochs, with the rate by the number of steps.
    evaluations: how often an epoch is evaluated. `patience`: evaluations without a better score
        before training stops; 0: never.
    scheduler: one of `SCHEDULERS`, as transformers calls them. `warmup`: a share of the steps.
    dtype: `auto` (bfloat16 where the device has it), or one of `DTYPES`; weights that are trained
        are float32 always.
    keep: how many checkpoints are kept beside the best one.
    """

    epochs: float = 4.0
    learning_rate: float = 1e-5
    scheduler: str = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 2
    accumulation: int = 8
    objective: str = "tokens"
    row_tokens: int = 0
    compile: bool = False
    minutes: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    dtype: str = "auto"
    evaluations: float = 4.0
    patience: int = 0
    keep: int = 2


@dataclass(frozen=True)
class Evaluation:
    """How answers are generated for the score that chooses the checkpoint.

    Attributes
    ----------
    max_new_tokens: of free answers; 0 derives it from each text, as it always is for masked ones.
    """

    level: str = "free"
    max_new_tokens: int = 0
    batch_size: int = 8


@dataclass(frozen=True)
class Reporting:
    """What is reported besides the log; it changes nothing in what is learnt.

    Attributes
    ----------
    tensorboard: write TensorBoard's files into the run's folder (extra `tensorboard`).
    country: ISO 3166 code of three letters; with it, energy and emissions are measured, by the
        country's mix (extra `energy`).
    """

    tensorboard: bool = False
    country: str = ""


@dataclass(frozen=True)
class Recipe:
    """A training run, but for where it is written.

    Attributes
    ----------
    default_labels, synonyms: what the model says of its labels, see `pipeline.manifest.Manifest`.
    """

    data: tuple[CorpusFiles, ...]
    model: str = BASE_MODEL
    lora: Lora | None = None
    seed: int = 0
    examples: Sampling = field(default_factory=Sampling)
    training: Optimisation = field(default_factory=Optimisation)
    evaluation: Evaluation = field(default_factory=Evaluation)
    report: Reporting = field(default_factory=Reporting)
    default_labels: tuple[str, ...] = ()
    synonyms: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.data:
            raise InputError("the recipe has no [[data]]: expected at least one corpus")
        if not self.examples.formats:
            raise InputError("examples.formats is empty: expected at least one")
        try:
            key = "examples.formats"
            formats_of(self.examples.formats)
            key = "evaluation.level"
            Level.parse(self.evaluation.level)
        except UnknownNameError as error:
            raise InputError(f"{key}: {error}") from None
        for key, known in (
            ("training.scheduler", SCHEDULERS),
            ("training.objective", tuple(OBJECTIVES)),
            ("training.dtype", DTYPES),
            ("lora.dtype", DTYPES[1:]),
        ):
            value = self._value(key)
            if value is not None and value not in known:
                raise InputError(f"{key} is {value!r}: expected {', '.join(known)}")
        for key in _POSITIVE:
            value = self._value(key)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{key} is {value}: expected more than 0")
        for key in _NOT_NEGATIVE:
            value = self._value(key)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"{key} is {value}: expected 0 or more")
        if self.lora and self.lora.keep_rank > self.lora.rank:
            most = f"lora.rank, {self.lora.rank}, at most"
            raise InputError(f"lora.keep_rank is {self.lora.keep_rank}: expected {most}")
        self._check_weights("examples", self.examples.weights)
        for data in self.data:
            self._check_weights("data", data.weights)
        for key in ("examples.index", "examples.empty_share", "lora.dropout"):
            value = self._value(key)
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{key} is {value}: expected 0 to 1")
        if not 0 <= self.training.warmup < 1:
            raise InputError(
                f"training.warmup is {self.training.warmup}: expected a share, less than 1"
            )
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed is {self.seed}: expected 0 to {2**32 - 1}")

    def _check_weights(self, table: str, weights: Mapping[str, float]) -> None:
        for name, weight in weights.items():
            if name not in self.formats:
                raise InputError(
                    f"{table}.weights: {name!r} is none of the formats: {', '.join(self.formats)}"
                )
            if not 0 < weight < math.inf:
                raise InputError(f"{table}.weights.{name} is {weight}: expected more than 0")

    def _value(self, key: str) -> Any:
        """The value of `table.key`; None where the recipe has no such table."""
        table, name = key.split(".")
        return getattr(getattr(self, table), name, None)

    @property
    def formats(self) -> tuple[str, ...]:
        return self.examples.format_names

    def to_json(self) -> dict[str, Any]:
        """As JSON; of files only the names, since folders say more than they should."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        if self.lora and self.lora.start:
            values["lora"]["start"] = self.lora.start.resolve().name
        for data in values["data"]:
            for split in SPLITS:
                if data[split]:
                    data[split] = Path(data[split]).name
        return values


_POSITIVE = (
    *("examples.train", "examples.dev", "examples.test", "examples.rounds"),
    "training.epochs",
    *("training.learning_rate", "training.batch_size", "training.accumulation"),
    *("training.evaluations", "training.keep"),
    *("evaluation.batch_size", "lora.rank", "lora.alpha"),
)
_NOT_NEGATIVE = (
    "lora.keep_rank",
    *("examples.max_fragments", "training.weight_decay", "training.patience"),
    *("training.max_grad_norm", "training.row_tokens", "training.minutes"),
    "evaluation.max_new_tokens",
)


def load_recipe(path: Path) -> Recipe:
    """A recipe from a TOML file; paths in it are relative to the working folder.

    Raises
    ------
    InputError: the file cannot be read, or a key is unknown or of a wrong type.
    """
    values = read_toml(path)
    try:
        return build_recipe(values)
    except InputError as error:
        raise InputError(error.reason, path) from None


def build_recipe(values: Mapping[str, Any]) -> Recipe:
    """A recipe from what a TOML file holds.

    Raises
    ------
    InputError: a key is unknown or of a wrong type.
    """
    return structure(Recipe, values, "the recipe")
