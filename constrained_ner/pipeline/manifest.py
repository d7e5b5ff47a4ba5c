"""What is known of a trained model: the file `cner.json` beside its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from constrained_ner.adapters import folder_of
from constrained_ner.atomic import write_json
from constrained_ner.errors import InputError, ModelError
from constrained_ner.pipeline.calibration import Calibration
from constrained_ner.pipeline.conflicts import Conflicts
from constrained_ner.pipeline.prompts import Target
from constrained_ner.structuring import structure

FILE = "cner.json"
# A format is not to be trusted whose F1 on dev is less than this share of the best format's.
FAR_BELOW = 2 / 3


@dataclass(frozen=True)
class Dataset(Target):
    """A data set that the model was trained on, and what it was asked for.

    Attributes
    ----------
    fingerprint: sha256 of the training file or folder (`corpora.files.sha256_of`).
    documents, examples: how many there were, and how many of them were drawn.
    together: pairs of labels that it gives to the same words.
    """

    fingerprint: str = ""
    documents: int = 0
    examples: int = 0
    together: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class DevScore:
    """How good a format is on a sample of dev splits.

    Attributes
    ----------
    f1: strict. `interval`: its 95 % interval.
    documents, entities: how many there are in the sample, and its gold. `seed`: of the sample.
    level: of the answers.
    """

    f1: float
    interval: tuple[float, float] | None = None
    documents: int = 0
    entities: int = 0
    level: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Manifest:
    """Everything that prompts have to agree with, and how the model was made.

    Attributes
    ----------
    base: the model that was fine-tuned.
    formats: those that it was trained to write.
    index: the share of prompts with indexed words, of the formats that are `by_place`.
    options: of the formats, such as `max_fragments`.
    prompt: the wording of a prompt, with its holes, to tell whether it has changed since.
    recipe: of the run. `versions`: of the packages. `metrics`: of the best checkpoint.
    energy: seconds, kWh and kg of CO2 equivalents of training, where they were measured.
    device: what it was trained on.
    dev: by format, how good it is on a sample of the dev splits of its data sets; empty where
        nothing was measured.
    calibrations: what its confidences are worth, of single formats and of several together.
    default_labels: what it is asked for where nobody says; by default all labels.
    synonyms: groups of labels that mean the same to a reader of its answers.
    """

    base: str
    formats: tuple[str, ...]
    datasets: tuple[Dataset, ...]
    options: dict[str, Any] = field(default_factory=dict)
    index: float = 0.0
    prompt: str = ""
    seed: int = 0
    recipe: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    energy: dict[str, float] = field(default_factory=dict)
    device: str = ""
    dev: dict[str, DevScore] = field(default_factory=dict)
    calibrations: tuple[Calibration, ...] = ()
    default_labels: tuple[str, ...] = ()
    synonyms: tuple[tuple[str, ...], ...] = ()

    @property
    def best(self) -> str | None:
        """The format with the highest F1 on dev; None if none was measured, or all are at 0."""
        return max(filter(self._f1, self.dev), key=self._f1, default=None)

    def best_together(self, number: int) -> tuple[str, ...]:
        """So many formats that have the highest F1 on dev together; empty if none were measured.

        Of answers at the level at which single formats were scored, where there are such.
        """
        known = [one for one in self.calibrations if len(one.formats) == number]
        levels = {score.level for score in self.dev.values()}
        alike = [one for one in known if one.level in levels] or known
        return max(alike, key=lambda one: one.best.f1).formats if alike else ()

    def weights(self, formats: Sequence[str]) -> dict[str, float]:
        """How good each of several formats is on dev.

        Empty where one of them was not measured, or none of them found anything.
        """
        known = all(name in self.dev for name in formats) and any(map(self._f1, formats))
        return {name: self._f1(name) for name in formats} if known else {}

    @property
    def doubtful(self) -> tuple[str, ...]:
        """The formats whose F1 on dev is 0, or far below that of the best format."""
        least = FAR_BELOW * self._f1(self.best) if self.best else 0.0
        return tuple(name for name in self.dev if not self._f1(name) or self._f1(name) < least)

    def _f1(self, format: str) -> float:
        return self.dev[format].f1

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of all data sets, each once."""
        return tuple(dict.fromkeys(label for d in self.datasets for label in d.labels))

    @property
    def conflicts(self) -> Conflicts:
        """Which of its labels contradict each other."""
        together = frozenset(frozenset(pair) for d in self.datasets for pair in d.together)
        return Conflicts(self.synonyms, together)

    def targets(self, labels: Sequence[str] | None = None) -> tuple[Target, ...]:
        """How to ask for each label as in training.

        The labels, by default all, are divided among the data sets: the one that has the most of
        them is asked for those, then the one that has the most of the rest. Case is passed over.
        Labels that no data set has come last, and name none.
        """
        left = list(self.labels if labels is None else labels)
        found: list[Target] = []

        def shared(dataset: Dataset) -> list[str]:
            known = [label.casefold() for label in dataset.labels]
            here = [label for label in left if label.casefold() in known]
            return sorted(here, key=lambda label: known.index(label.casefold()))

        while left:
            best = max(self.datasets, key=lambda dataset: len(shared(dataset)), default=None)
            here = shared(best) if best else []
            if not best or not here:
                return (*found, Target(tuple(left)))
            found.append(best.of(here))
            left = [label for label in left if label not in here]
        return tuple(found)

    def target(self, labels: Sequence[str], name: str) -> Target:
        """How to ask for labels of a data set: as in training, if the model was trained on it."""
        known = (dataset for dataset in self.datasets if dataset.name == name)
        return next(known, Target((), name)).of(labels)

    def save(self, folder: Path) -> None:
        write_json(asdict(self), folder / FILE)


def load_manifest(model: str | Path) -> Manifest | None:
    """The manifest of a model; None if it was not trained with this package.

    Parameters
    ----------
    model: a folder, or the name of the packaged default.

    Raises
    ------
    ModelError: the file is damaged.
    """
    path = Path(folder_of(model)) / FILE
    if not path.is_file():
        return None
    try:
        return structure(Manifest, json.loads(path.read_text(encoding="utf-8")), FILE)
    except (OSError, ValueError, RecursionError, InputError) as error:
        raise ModelError(f"{path}: damaged: {error}") from None
