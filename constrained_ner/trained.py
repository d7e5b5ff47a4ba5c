"""What a model that we trained says of itself: `cner.json` beside its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from constrained_ner.errors import ModelError
from constrained_ner.prompts import guideline_text

FILE = "cner.json"


@dataclass(frozen=True)
class Dataset:
    """A data set that the model was trained on.

    Attributes
    ----------
    name: what prompts call it. `labels`: those that it was asked for.
    guideline, guidelines: in the prompt, as a whole and by label.
    fingerprint: sha256 of the training file; `documents`, `examples`: how many there were, and
        how many of them were drawn.
    """

    name: str
    labels: tuple[str, ...]
    guideline: str = ""
    guidelines: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    documents: int = 0
    examples: int = 0

    def guideline_for(self, labels: Sequence[str]) -> str:
        return guideline_text(self.guideline, self.guidelines, labels)


@dataclass(frozen=True)
class Trained:
    """Everything that a prompt has to agree with, and how the model came about.

    Attributes
    ----------
    base: the model that was fine-tuned.
    formats: those that it was trained to write. `index`: the share of span prompts with offsets.
    options: of the formats, such as `max_fragments`.
    prompt: the wording of a prompt, with its holes, to tell whether it has changed since.
    recipe: of the run. `versions`: of the packages. `metrics`: of the best checkpoint.
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

    @property
    def labels(self) -> tuple[str, ...]:
        """Of all data sets, each once."""
        return tuple(dict.fromkeys(label for d in self.datasets for label in d.labels))

    def dataset_for(self, labels: Sequence[str]) -> Dataset | None:
        """The data set that shares the most labels with those asked for, relative to both."""

        def shared(dataset: Dataset) -> float:
            asked, known = set(labels), set(dataset.labels)
            return len(asked & known) / len(asked | known)

        best = max(self.datasets, key=shared, default=None)
        return best if best and shared(best) else None

    def save(self, folder: Path) -> None:
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1, default=str)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")


def load_trained(folder: str | Path) -> Trained | None:
    """What the model in a folder says of itself; None where it is none of ours.

    Raises
    ------
    ModelError: the file is damaged.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        datasets = tuple(
            Dataset(**{**item, "labels": tuple(item["labels"])}) for item in values.pop("datasets")
        )
        formats = tuple(values.pop("formats"))
        return Trained(datasets=datasets, formats=formats, **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: damaged: {error}") from None
