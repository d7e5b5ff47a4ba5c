"""The Python interface: a loaded model that extracts entities from texts."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from constrained_ner.adapters import DEFAULT_MODEL
from constrained_ner.documents import Document
from constrained_ner.engines.models import load_model
from constrained_ner.errors import InputError
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.manifest import load_manifest
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.task import Task, task_for


class Extractor:
    """A model that is loaded once and can be asked any number of times.

    Parameters
    ----------
    model: a folder, a packaged model, or a hub id. `adapter`: a LoRA adapter to put on it.
    device, dtype, quantize: see `load_model`.
    batch_size: how many answers are generated at the same time.

    Raises
    ------
    ModelError: the model cannot be loaded.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        adapter: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        quantize: str | None = None,
        batch_size: int = 8,
    ):
        self.manifest = load_manifest(adapter or model)
        self.model = load_model(model, adapter, device=device, dtype=dtype, quantize=quantize)
        self.batch_size = batch_size

    def predictor(
        self,
        labels: Sequence[str] | str | None = None,
        format: str | Sequence[str] | None = None,
        level: Level | str = Level.FAITHFUL,
        *,
        dataset: str | None = None,
        options: dict[str, Any] | None = None,
        combine: str = "agreement",
        **rest: Any,
    ) -> Predictor:
        """A predictor with these settings; see `extract`.

        A warning is issued for each of `Task.notes`.

        Parameters
        ----------
        labels, format, dataset, options, combine: see `task_for`.
        rest: further arguments of `Predictor`.

        Raises
        ------
        LabelError, UnknownNameError: see `task_for`.
        """
        task = task_for(self.manifest, labels, format, dataset, options, combine)
        for note in task.notes:
            warnings.warn(note, stacklevel=2)
        return self.answering(task, level, **rest)

    def answering(self, task: Task, level: Level | str = Level.FAITHFUL, **rest: Any) -> Predictor:
        """A predictor for a task that `task_for` made, without warnings."""
        level = Level.parse(level)
        given = {
            "segment": "sentence",
            "record": True,
            "batch_size": self.batch_size,
            "index": task.index,
            "conflicts": task.conflicts,
            "agreement": task.agreement,
            "calibration": task.calibration(level),
            **rest,
        }
        return Predictor(self.model, task.formats, task.targets, level, **given)

    @overload
    def extract(self, texts: str | Document, **settings: Any) -> Prediction: ...

    @overload
    def extract(
        self, texts: Iterable[str | Document | InputError], **settings: Any
    ) -> list[Prediction]: ...

    def extract(
        self, texts: str | Document | Iterable[str | Document | InputError], **settings: Any
    ) -> Prediction | list[Prediction]:
        """A prediction for each text, in the same order; of a single one, its prediction.

        Parameters
        ----------
        texts: documents, or strings, which get the ids 1, 2 and so on.
        settings: `labels`, by default those that the model names for it (`default_labels`), or all
            of its training; `format`, by default the one that it is best at, or several
            (`"multi_tag,multi_brat"`, `"best3"`); `level`: `faithful`, `syntax` or `free`;
            `min_confidence`; `precision`; `consistent`; and the other parameters of `predictor`.

        Raises
        ------
        InputError: the single text cannot be answered. Of several, the prediction has an `error`.
        TypeError: the texts are none.
        """
        if isinstance(texts, str | Document):
            prediction = next(self.stream([texts], **settings))
            if prediction.error is not None:
                raise InputError(prediction.error)
            return prediction
        return list(self.stream(texts, **settings))

    def stream(
        self, texts: Iterable[str | Document | InputError], **settings: Any
    ) -> Iterator[Prediction]:
        """The same predictions, each as soon as it and those before it are done.

        For a text that cannot be answered, the prediction has an `error`.
        """
        if isinstance(texts, str | bytes | Document) or not isinstance(texts, Iterable):
            kind = type(texts).__name__
            raise TypeError(f"expected several strings or documents, such as a list: got {kind}")
        predictor = self.predictor(**settings)
        return predictor.predict(_documents(texts))


def _documents(texts: Iterable[object]) -> Iterator[Document | InputError]:
    for number, text in enumerate(texts, 1):
        if isinstance(text, Document | InputError):
            yield text
        elif isinstance(text, str):
            try:
                yield Document(str(number), text)
            except InputError as error:
                yield error
        else:  # a cell of a table that is empty, say: the others are not lost
            kind = type(text).__name__
            yield InputError(f"text {number}: expected a string or a document, got {kind}")
