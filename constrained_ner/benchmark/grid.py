"""The grid: which cells there are, and how each is answered.

A cell is a model, a corpus, a way to write answers and a level. In the folder of the benchmark it
has two files: the predictions, and what they took. The latter is written last, which marks the cell
as done.
"""

from __future__ import annotations

import json
import os
import platform
import random
import re
import resource
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from constrained_ner.adapters import digest_of
from constrained_ner.atomic import write_json
from constrained_ner.corpora import corpus_name, labels_of, read, readable
from constrained_ner.documents import Document
from constrained_ner.energy import check_country, measured
from constrained_ner.errors import InputError, UnknownNameError
from constrained_ner.formats import FORMATS, Options, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.formats.options import MAX_FRAGMENTS
from constrained_ner.labels import check_labels
from constrained_ner.locks import held
from constrained_ner.pipeline.manifest import Manifest, load_manifest
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.prompts import Target
from constrained_ner.pipeline.runs import line_of, predictions_in
from constrained_ner.pipeline.task import is_indexed
from constrained_ner.process_pool import process_pool

PACKAGES = ("constrained_ner", "torch", "transformers", "outlines", "llguidance")
# For each format with offsets the one with terms that asks in the same way.
TERMS = {
    name: format.term_counterpart
    for name, format in reversed(FORMATS.items())  # single before multi
    if format.term_counterpart
}
# Other ways to write a format: what is asked of the prompt and of the reading.
INDEX, OFFSETS = "index", "offsets"
SUFFIXES = {
    INDEX: tuple(name for name, format in FORMATS.items() if format.by_place),
    OFFSETS: tuple(name for name, format in FORMATS.items() if format.anchored),
}


@dataclass(frozen=True)
class Variant:
    """A format, or one of its other ways: `multi_span+index`, `multi_brat+offsets`.

    Attributes
    ----------
    suffix: empty; `index`, the prompt indexes the words; or `offsets`, the digits of a line decide
        where its entity lies, and not its surface.
    """

    format: str
    suffix: str = ""

    @classmethod
    def parse(cls, name: str) -> Variant:
        """
        Raises
        ------
        UnknownNameError: there is no such format, or it has no such other way.
        """
        format, _, suffix = name.partition("+")
        get_format(format)
        if suffix and format not in SUFFIXES.get(suffix, ()):
            known = [f"{name}+{key}" for key, names in SUFFIXES.items() for name in names]
            raise UnknownNameError(f"unknown way {name!r}: expected one of {', '.join(known)}")
        return cls(format, suffix)

    @classmethod
    def as_trained(cls, format: str, index: float) -> Variant:
        """How a model is asked for a format, of whose prompts in training a share was indexed."""
        return cls(format, INDEX if is_indexed(get_format(format), index) else "")

    def __str__(self) -> str:
        return f"{self.format}+{self.suffix}" if self.suffix else self.format

    @property
    def terms(self) -> Variant | None:
        """Of a format with offsets, the one with terms that asks in the same way; else None."""
        name = TERMS.get(self.format)
        return Variant(name) if name else None


ALL = tuple(Variant(name) for name in FORMATS)
SPANS = tuple(Variant(format, suffix) for suffix, names in SUFFIXES.items() for format in names)


def variants_of(names: Sequence[str]) -> tuple[Variant, ...]:
    """The variants of names: of formats, of their other ways, `all` (the twelve formats) or
    `spans` (their other ways); each once.

    Raises
    ------
    UnknownNameError: see `Variant.parse`.
    """
    groups = {"all": ALL, "spans": SPANS}
    return tuple(
        dict.fromkeys(
            variant for name in names for variant in groups.get(name) or (Variant.parse(name),)
        )
    )


@dataclass(frozen=True)
class CorpusSample:
    """Annotated documents of a corpus, whose entities a model is to find.

    Attributes
    ----------
    name: of the corpus, in prompts and reports.
    labels: of all its documents, drawn or not. `max_fragments`: the most fragments of an entity.
    """

    name: str
    documents: tuple[Document, ...]
    labels: tuple[str, ...]
    max_fragments: int


def load_sample(
    path: Path, name: str = "", documents: int | None = None, seed: int = 0
) -> tuple[CorpusSample, list[InputError]]:
    """A sample of the documents of a file, and the records that could not be read.

    Parameters
    ----------
    name: by default `corpus_name`.
    documents: how many to draw; by default all.

    Raises
    ------
    InputError: there are no annotated documents.
    """
    broken: list[InputError] = []
    found = [document for document in readable(read(path), broken) if document.text.strip()]
    labels = labels_of(found, path)
    name = name or corpus_name(path)
    most = max(len(entity.fragments) for document in found for entity in document.entities)
    if documents is not None and documents < len(found):
        found = random.Random(f"{seed}/{name}").sample(found, documents)
    # Texts of similar length are answered together: a batch takes as long as its longest answer.
    found.sort(key=lambda document: (len(document.text), document.id))
    return CorpusSample(name, tuple(found), check_labels(labels), min(MAX_FRAGMENTS, most)), broken


class Way(NamedTuple):
    """How answers are asked for: what they are written as, and how much of them is constrained."""

    variant: Variant
    level: Level

    def __str__(self) -> str:
        return f"{self.variant}.{self.level}"

    @classmethod
    def parse(cls, text: str) -> Way:
        """Read what `str` gives.

        Raises
        ------
        UnknownNameError: there is no such format, or level.
        """
        variant, _, level = text.rpartition(".")
        return cls(Variant.parse(variant), Level.parse(level))

    def to_json(self) -> dict[str, Any]:
        return {
            "format": self.variant.format,
            "variant": str(self.variant),
            "level": str(self.level),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Way:
        """See `parse`."""
        return cls(Variant.parse(value["variant"]), Level.parse(value["level"]))


@dataclass(frozen=True)
class Cell:
    """One entry of the grid: a model is asked about the documents of a corpus in one way."""

    model: str
    data: str
    variant: Variant
    level: Level

    @property
    def way(self) -> Way:
        return Way(self.variant, self.level)

    @property
    def answers(self) -> Path:
        """The file of its records, within the folder of the benchmark."""
        return Path(slug(self.model), slug(self.data), f"{self.way}.jsonl")

    @property
    def summary(self) -> Path:
        """The file that says what they took, beside them: once it is there the cell is done."""
        return self.answers.with_suffix(".json")

    def __str__(self) -> str:
        """What the progress bar shows."""
        return f"{self.data}, {self.variant}, {self.level}"

    def to_json(self) -> dict[str, Any]:
        return {"model": self.model, "data": self.data, **self.way.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cell:
        """See `Way.parse`."""
        return cls(value["model"], value["data"], *Way.from_json(value))


def slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "_"


@dataclass(frozen=True)
class CellCosts:
    """What answering the documents of a cell took, see `engines.costs.Costs`.

    Attributes
    ----------
    kwh, co2_kg: energy, and kg of CO2 equivalents. None, as others, where it was not measured.
    """

    calls: int
    tokens: int
    seconds: float
    grammar_seconds: float | None = None
    mask_seconds: float | None = None
    kwh: float | None = None
    co2_kg: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class AnsweredCell:
    """A cell that was answered: with which settings, on which machine, at what cost.

    Attributes
    ----------
    documents: how many. `seed`: of their draw. `fingerprint`: see `Grid.fingerprint`.
    peak_memory: in bytes, see the function `peak_memory`. `versions`: of packages.
    """

    cell: Cell
    documents: int
    costs: CellCosts
    seed: int = 0
    batch_size: int | None = None
    peak_memory: int | None = None
    device: str = ""
    dtype: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            **self.cell.to_json(),
            "documents": self.documents,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "costs": self.costs.to_json(),
            "peak_memory": self.peak_memory,
            "device": self.device,
            "dtype": self.dtype,
            "versions": self.versions,
            **({"fingerprint": self.fingerprint} if self.fingerprint else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AnsweredCell:
        """See `Way.parse`."""
        return cls(
            Cell.from_json(value),
            value["documents"],
            CellCosts(**value["costs"]),
            value["seed"],
            value["batch_size"],
            value["peak_memory"],
            value["device"],
            value["dtype"],
            value["versions"],
            value.get("fingerprint", ""),
        )


@dataclass(frozen=True)
class Grid:
    """What a benchmark asks: which models, about which documents, in which ways.

    Attributes
    ----------
    models: names: folders, packaged models or hub ids, or what `sources` says where to find.
    seed: with which the documents were drawn.
    max_new_tokens: of free answers; None derives it from each text, as it is for masked ones.
    country: ISO 3166 code of three letters; with it, energy and emissions are measured.
    """

    models: tuple[str, ...]
    data: tuple[CorpusSample, ...]
    variants: tuple[Variant, ...] = ALL
    levels: tuple[Level, ...] = tuple(Level)
    seed: int = 0
    batch_size: int = 8
    max_new_tokens: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    country: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, names in (("models", self.models), ("data sets", [d.name for d in self.data])):
            before: dict[str, str] = {}
            for name in names:
                folder = slug(name).casefold()
                if folder in before:
                    raise InputError(
                        f"two {what} have one folder, {before[folder]!r} and {name!r}: expected "
                        "names (NAME=PATH) that differ in letters or digits"
                    )
                before[folder] = name

    def source(self, model: str) -> str:
        """What to load for the name of a model."""
        return self.sources.get(model, model)

    def data_of(self, cell: Cell) -> CorpusSample:
        return next(data for data in self.data if data.name == cell.data)

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {model: digest_of(self.source(model)) for model in self.models}

    @cached_property
    def _manifests(self) -> dict[str, Manifest | None]:
        return {model: load_manifest(self.source(model)) for model in self.models}

    def target(self, cell: Cell) -> Target:
        return target_of(self._manifests[cell.model], self.data_of(cell))

    def fingerprint(self, cell: Cell) -> str:
        """What the answers of a cell depend on, as 16 hexadecimal digits."""
        data = self.data_of(cell)
        parts = [
            cell.to_json(),
            self._digests[cell.model],  # a model may change under its name
            [(document.id, document.text) for document in data.documents],
            (data.labels, data.max_fragments),
            self.target(cell).guideline_text,
            (self.batch_size, self.device, self.dtype),
            self.max_new_tokens if cell.level == Level.FREE else None,
        ]
        return sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def cells(self) -> list[Cell]:
        """All cells, in the order in which they are answered: each model is loaded once."""
        return [
            Cell(model, data.name, variant, level)
            for model in self.models
            for data in self.data
            for variant in self.variants
            for level in self.levels
        ]


Progress = Callable[[Iterable[Any], str], Iterator[Any]]
Loaded = dict[str, Any]  # the model that was loaded last, by its name


def done(folder: Path, cell: Cell) -> bool:
    return (folder / cell.summary).exists()


def predictions_of(folder: Path, cell: Cell) -> list[Prediction]:
    """The answers of a cell that is done, document by document.

    Raises
    ------
    InputError: there are more or fewer than it has documents.
    """
    found = list(predictions_in(folder / cell.answers))
    expected = answered_cell(folder, cell).documents
    if len(found) != expected:
        reason = f"{len(found)} answers: expected {expected}"
        anew = f"without {cell.summary} they are made anew"
        raise InputError(f"{reason}; {anew}", folder / cell.answers)
    return found


def answered_cell(folder: Path, cell: Cell) -> AnsweredCell:
    """What a cell that is done took.

    Raises
    ------
    InputError: the file is damaged, or of another version.
    """
    path = folder / cell.summary
    try:
        return AnsweredCell.from_json(json.loads(path.read_bytes()))
    except (ValueError, TypeError, LookupError, AttributeError):
        reason = "not what a benchmark writes of its answers: without this file they are made anew"
        raise InputError(reason, path) from None


def check_same(grid: Grid, folder: Path) -> None:
    """See that the answers that are there are those that the grid would get again."""
    for cell in grid.cells():
        if not done(folder, cell):
            continue
        if answered_cell(folder, cell).fingerprint != grid.fingerprint(cell):
            raise InputError(
                "of answers about other documents, or made with other options: expected the "
                "command of that benchmark, or another folder",
                folder / cell.summary,
            )


def run(grid: Grid, folder: Path, progress: Progress, processes: int = 1) -> None:
    """Answer the cells of a grid that are not done yet.

    Parameters
    ----------
    progress: shows documents as they are done, and of which cell.
    processes: so many cells are answered at a time, each by a process with a model of its own.
        They share the machine, so that what a cell is said to take is rough.

    Raises
    ------
    InputError: a cell that is done has answers about other documents, or made with other options;
        or another process is answering them.
    ModelError: a model cannot be loaded.
    MissingExtraError, UnknownNameError: energy cannot be measured, see `check_country`.
    """
    if grid.country:
        check_country(grid.country)
    with held(folder):
        _run(grid, folder, progress, processes)


def _run(grid: Grid, folder: Path, progress: Progress, processes: int) -> None:
    check_same(grid, folder)
    waiting = [cell for cell in grid.cells() if not done(folder, cell)]
    if processes > 1 and len(waiting) > 1:
        _run_side_by_side(grid, waiting, folder, progress, min(processes, len(waiting)))
        return
    loaded: Loaded = {}
    for cell in waiting:
        _answer(grid, cell, folder, progress, loaded)


def _run_side_by_side(
    grid: Grid, waiting: Sequence[Cell], folder: Path, progress: Progress, processes: int
) -> None:
    with process_pool(processes, _begin, (grid, folder, processes)) as pool:
        for job in as_completed([pool.submit(_answer_quietly, cell) for cell in waiting]):
            cell = job.result()
            deque(progress(grid.data_of(cell).documents, str(cell)), maxlen=0)


_job: tuple[Grid, Path, Loaded]  # of a process that answers cells beside others


def _begin(grid: Grid, folder: Path, processes: int) -> None:
    import torch

    global _job
    _job = grid, folder, {}
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))


def _answer_quietly(cell: Cell) -> Cell:
    grid, folder, loaded = _job
    _answer(grid, cell, folder, lambda items, _: iter(items), loaded)
    return cell


def _answer(grid: Grid, cell: Cell, folder: Path, progress: Progress, loaded: Loaded) -> None:
    from constrained_ner.engines.models import device_name, dtype_name, load_model
    from constrained_ner.pipeline.predictor import Predictor

    if cell.model not in loaded:
        loaded.clear()
        loaded[cell.model] = load_model(
            grid.source(cell.model), device=grid.device, dtype=grid.dtype
        )
    model, data = loaded[cell.model], grid.data_of(cell)
    format = get_format(cell.variant.format, options_of(cell.variant, data))
    predictor = Predictor(
        model,
        format,
        [grid.target(cell)],
        cell.level,
        grid.batch_size,
        grid.max_new_tokens if cell.level == Level.FREE else None,
        index=cell.variant.suffix == INDEX,
        record=cell.level != Level.FREE,
    )
    answers = folder / cell.answers
    answers.parent.mkdir(parents=True, exist_ok=True)
    with measured(grid.country) as energy, answers.open("w", encoding="utf-8") as file:
        for prediction in progress(predictor.predict(data.documents), str(cell)):
            file.write(line_of(prediction))
            file.flush()
    answered = AnsweredCell(
        cell,
        len(data.documents),
        CellCosts(**{**asdict(predictor.costs), **energy}),
        grid.seed,
        grid.batch_size,
        peak_memory(model),
        device_name(model),
        dtype_name(model),
        {name: version(name) for name in PACKAGES},
        grid.fingerprint(cell),
    )
    write_json(answered.to_json(), folder / cell.summary)


def options_of(variant: Variant, data: CorpusSample) -> Options:
    options = Options(max_fragments=data.max_fragments)
    return replace(options, anchor="offsets") if variant.suffix == OFFSETS else options


def target_of(trained: Manifest | None, data: CorpusSample) -> Target:
    """How a prompt asks for a corpus: as in training, if the model was trained on it."""
    return trained.target(data.labels, data.name) if trained else Target(data.labels, data.name)


def peak_memory(model: Any) -> int:
    """The most memory in bytes so far: of the process, or on a GPU of the model."""
    import torch

    device = model.steerable.model.device
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
