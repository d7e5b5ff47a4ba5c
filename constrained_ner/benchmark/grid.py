"""The grid: which cells there are, and how each is answered.

A cell is a model, a data set, a way to write answers and a level. It is two files in the folder of
the benchmark: the predictions, and what they took, which is written last and so marks the cell as
done.
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
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from constrained_ner.atomic import whole
from constrained_ner.corpora import read
from constrained_ner.documents import Document
from constrained_ner.energy import check_country, measured
from constrained_ner.errors import InputError, UnknownNameError
from constrained_ner.formats import FORMATS, Options, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.labels import check_labels
from constrained_ner.pipeline.manifest import Manifest, load_manifest
from constrained_ner.pipeline.prompts import Target

FILE = "results.json"
PACKAGES = ("constrained_ner", "torch", "transformers", "outlines", "llguidance")
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

    def __str__(self) -> str:
        return f"{self.format}+{self.suffix}" if self.suffix else self.format


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
class Data:
    """Annotated documents to be found again.

    Attributes
    ----------
    name: of the data set, in prompts and reports.
    """

    name: str
    documents: tuple[Document, ...]
    labels: tuple[str, ...]
    max_fragments: int


def load_data(
    path: Path, name: str = "", documents: int | None = None, seed: int = 0
) -> tuple[Data, list[InputError]]:
    """A sample of the documents of a file, and what of it could not be read.

    Parameters
    ----------
    name: by default the name of the file, or of its folder where the file is one of its splits.
    documents: how many to draw; by default all.

    Raises
    ------
    InputError: there are no annotated documents.
    """
    records = list(read(path))
    broken = [record for record in records if isinstance(record, InputError)]
    found = [r for r in records if isinstance(r, Document) and r.text.strip()]
    labels = sorted({entity.label for document in found for entity in document.entities})
    if not labels:
        raise InputError("no document has an entity: expected annotated documents", path)
    if not name:
        split = path.stem in ("test", "dev", "train")
        name = path.resolve().parent.name if split else path.stem
    most = max(len(entity.fragments) for document in found for entity in document.entities)
    if documents is not None and documents < len(found):
        found = random.Random(f"{seed}/{name}").sample(found, documents)
    # Of like length together: a batch takes as long as its longest answer.
    found.sort(key=lambda document: (len(document.text), document.id))
    # Ids are what predictions are paired by.
    return Data(name, tuple(found), check_labels(labels), min(8, most)), broken


@dataclass(frozen=True)
class Cell:
    """One entry of the grid."""

    model: str
    data: str
    variant: Variant
    level: Level

    @property
    def path(self) -> Path:
        """Within the folder of the benchmark, without a suffix."""
        return Path(slug(self.model), slug(self.data), f"{self.variant}.{self.level}")

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "data": self.data,
            "format": self.variant.format,
            "variant": str(self.variant),
            "level": str(self.level),
        }


def slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "_"


@dataclass(frozen=True)
class Grid:
    """What a benchmark answers.

    Attributes
    ----------
    models: names: folders, packaged models or hub ids, or what `sources` says where to find.
    documents, seed: the most documents of each data set, and the seed of their draw.
    max_new_tokens: of free answers; None derives it from each text, as it is for masked ones.
    country: ISO 3166 code of three letters; with it, energy and emissions are measured.
    """

    models: tuple[str, ...]
    data: tuple[Data, ...]
    variants: tuple[Variant, ...] = ALL
    levels: tuple[Level, ...] = tuple(Level)
    seed: int = 0
    batch_size: int = 8
    max_new_tokens: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    country: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)

    def source(self, model: str) -> str:
        """What to load for the name of a model."""
        return self.sources.get(model, model)

    def data_of(self, cell: Cell) -> Data:
        return next(data for data in self.data if data.name == cell.data)

    def cells(self) -> list[Cell]:
        """In the order in which they are answered: a model is loaded once."""
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
    return (folder / cell.path).with_name(f"{cell.path.name}.json").exists()


def run(grid: Grid, folder: Path, progress: Progress, processes: int = 1) -> None:
    """Answer the cells of a grid that are not done yet.

    Parameters
    ----------
    progress: shows documents as they are done, and of which cell.
    processes: so many cells are answered at a time, each by a process with a model of its own.
        They share the machine, so that what a cell is said to take is rough.

    Raises
    ------
    ModelError: a model cannot be loaded.
    MissingExtraError, UnknownNameError: energy cannot be measured, see `check_country`.
    """
    if grid.country:
        check_country(grid.country)
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
    given = grid, folder, processes
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin, given) as pool:
        jobs = [pool.submit(_answer_quietly, cell) for cell in waiting]
        try:
            for job in as_completed(jobs):
                cell = job.result()
                what = f"{cell.data}, {cell.variant}, {cell.level}"
                deque(progress(grid.data_of(cell).documents, what), maxlen=0)
        finally:
            pool.shutdown(cancel_futures=True)


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
    from constrained_ner.engines.models import device_name, load_model
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
        [target_of(load_manifest(grid.source(cell.model)), data)],
        cell.level,
        grid.batch_size,
        grid.max_new_tokens if cell.level is Level.FREE else None,
        index=cell.variant.suffix == INDEX,
        record=cell.level is not Level.FREE,
    )
    path = folder / cell.path
    path.parent.mkdir(parents=True, exist_ok=True)
    predictions = path.with_name(f"{path.name}.jsonl")
    what = f"{cell.data}, {cell.variant}, {cell.level}"
    with measured(grid.country) as energy, predictions.open("w", encoding="utf-8") as file:
        for prediction in progress(predictor.predict(data.documents), what):
            file.write(json.dumps(prediction.to_json(), ensure_ascii=False) + "\n")
            file.flush()
    summary = {
        **cell.to_json(),
        "documents": len(data.documents),
        "seed": grid.seed,
        "batch_size": grid.batch_size,
        "costs": {**asdict(predictor.costs), **energy},
        "peak_memory": peak_memory(model),
        "device": device_name(model),
        "dtype": str(model.steerable.model.dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in PACKAGES},
    }
    with whole(path.with_name(f"{path.name}.json")) as part:
        part.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def options_of(variant: Variant, data: Data) -> Options:
    options = Options(max_fragments=data.max_fragments)
    return replace(options, anchor="offsets") if variant.suffix == OFFSETS else options


def target_of(trained: Manifest | None, data: Data) -> Target:
    """How a data set is asked for: as in training where the model was trained on it."""
    for known in trained.datasets if trained else ():
        if known.name == data.name:
            return Target(data.labels, known.name, known.guideline, known.guidelines)
    return Target(data.labels, data.name)


def peak_memory(model: Any) -> int:
    """Bytes: the most that the process, or on a GPU the model's work, has taken so far."""
    import torch

    if model.steerable.model.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
