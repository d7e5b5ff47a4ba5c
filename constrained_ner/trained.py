"""What a model that we trained says of itself: `cner.json` beside its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from constrained_ner.errors import LabelError, ModelError
from constrained_ner.formats import Format, Options, get_format
from constrained_ner.prompts import DEFAULT_DATASET, Target

FILE = "cner.json"
DEFAULT_MODEL = "smollm2-135m-ner"  # the adapter that comes with this package
_ADAPTERS = Path(__file__).parent / "adapters"


def folder_of(model: str | Path) -> str:
    """Where the model of a name lies: the folder of an adapter of this package, or the name."""
    return str(_ADAPTERS / model) if str(model) == DEFAULT_MODEL else str(model)


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
    energy: seconds, kWh and kg of CO2 equivalents of training, where they were measured.
    device: what it was trained on.
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

    @property
    def labels(self) -> tuple[str, ...]:
        """Of all data sets, each once."""
        return tuple(dict.fromkeys(label for d in self.datasets for label in d.labels))

    def targets(self, labels: Sequence[str] | None = None) -> tuple[Target, ...]:
        """What to ask for each label as the model was trained to be asked.

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
            found.append(Target(tuple(here), best.name, best.guideline, best.guidelines))
            left = [label for label in left if label not in here]
        return tuple(found)

    def save(self, folder: Path) -> None:
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1, default=str)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")


def load_trained(model: str | Path) -> Trained | None:
    """What a model says of itself; None where it is none of ours.

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
        values = json.loads(path.read_text(encoding="utf-8"))
        datasets = tuple(
            Dataset(**{**item, "labels": tuple(item["labels"])}) for item in values.pop("datasets")
        )
        formats = tuple(values.pop("formats"))
        return Trained(datasets=datasets, formats=formats, **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: damaged: {error}") from None


@dataclass(frozen=True)
class Asking:
    """In which format to ask for what.

    Attributes
    ----------
    note: what is odd about it; empty where nothing is.
    """

    format: Format
    targets: tuple[Target, ...]
    note: str = ""


def asking(
    trained: Trained | None,
    labels: Sequence[str] | None = None,
    format: str | None = None,
    dataset: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Asking:
    """How to ask a model: as it was trained to be asked, where nothing else is wanted.

    Parameters
    ----------
    labels: by default those that it was trained for.
    format: by default multi_term, or the first that it was trained for.
    dataset: the one whose guidelines the prompt names, for all labels; by default for each label
        one that the model was trained on.
    options: of the format, see `formats.Options`; None stands for a default.

    Raises
    ------
    LabelError: there are no labels, and the model does not say which it knows.
    UnknownNameError: there is no such format or option.
    """
    given = {key: value for key, value in (options or {}).items() if value is not None}
    known = trained.formats if trained else ()
    name = format or (known[0] if known and "multi_term" not in known else "multi_term")
    targets = trained.targets(labels) if trained and not dataset else ()
    if not targets:
        wanted = tuple(labels or (trained.labels if trained else ()))
        if not wanted:
            raise LabelError("expected labels: the model does not say which it knows")
        targets = (Target(wanted, dataset or DEFAULT_DATASET),)
    if trained and "max_fragments" in trained.options:
        given.setdefault("max_fragments", trained.options["max_fragments"])
    strange = known and name not in known
    note = f"the model was not trained to write {name}, but {', '.join(known)}" if strange else ""
    return Asking(get_format(name, Options(**given)), targets, note)
