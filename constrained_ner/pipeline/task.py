"""The task of a model: which labels it is asked for together, and in which formats."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any

from constrained_ner.errors import InputError, LabelError, UnknownNameError
from constrained_ner.formats import Format, Options, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.labels import check_labels, names_of
from constrained_ner.pipeline.agreement import Agreement
from constrained_ner.pipeline.calibration import Calibration, calibration_of, least_for
from constrained_ner.pipeline.conflicts import Conflicts
from constrained_ner.pipeline.manifest import Manifest
from constrained_ner.pipeline.prompts import DEFAULT_DATASET, Target

DEFAULT_FORMAT = "multi_term"  # of models of whose formats no score is known
MOSTLY = 0.5  # the share of indexed prompts in training from which on prompts are indexed
EVERY = "all"  # in place of labels: all that the model was trained for
FEW = 30  # so many labels are listed in a message
COMBINATIONS = ("agreement", "vote")  # how the answers in several formats are put together
_BEST = re.compile(r"best\d+")


@dataclass(frozen=True)
class Task:
    """What to ask a model for, and in which formats.

    Attributes
    ----------
    notes: why the model may not do it well, a line each.
    index: whether the prompt shows the words with their offsets or numbers, in formats that only
        say places.
    conflicts: which labels contradict each other; None where nothing is known of them.
    agreement: how the answers in several formats are put together.
    calibrations: those that the model knows.
    """

    formats: tuple[Format, ...]
    targets: tuple[Target, ...]
    notes: tuple[str, ...] = ()
    index: bool = False
    conflicts: Conflicts | None = None
    agreement: Agreement = field(default_factory=Agreement)
    calibrations: tuple[Calibration, ...] = ()

    @property
    def format(self) -> str:
        """The names of the formats, with commas between them."""
        return ",".join(format.name for format in self.formats)

    def calibration(self, level: Level) -> Calibration | None:
        """What confidences are worth at a level; None where it was not measured."""
        if self.agreement.vote and len(self.formats) > 1:
            return None
        names = [format.name for format in self.formats]
        return calibration_of(self.calibrations, names, str(level))

    def check_precision(self, level: Level, precision: float) -> None:
        """See that there is a threshold with this precision.

        Raises
        ------
        InputError: there is none, or none is known.
        """
        if self.agreement.vote and len(self.formats) > 1:
            raise InputError("precision goes with an agreement: a vote has no probabilities")
        least_for(self.calibration(level), precision, self.format, str(level))


def default_format(trained: Manifest | None) -> str:
    """The format to use if none is chosen.

    It is the model's best format on dev data. If that is not known, it is multi_term, or the first
    format that the model was trained for.
    """
    if trained is None:
        return DEFAULT_FORMAT
    known = trained.formats
    return trained.best or (known[0] if known and DEFAULT_FORMAT not in known else DEFAULT_FORMAT)


def task_for(
    trained: Manifest | None,
    labels: Sequence[str] | str | None = None,
    format: str | Sequence[str] | None = None,
    dataset: str | None = None,
    options: Mapping[str, Any] | None = None,
    combine: str = "agreement",
) -> Task:
    """How to ask a model. By default it is asked as it was in training.

    Parameters
    ----------
    labels: a list, or a string with commas between them; `all` stands for those that the model was
        trained for. By default those that it names for it (`Manifest.default_labels`), or all.
    format: a name, or several, in a list or with commas between them; `best3` stands for the three
        that the model does best with together. By default the one that it is best at, see
        `default_format`.
    dataset: the data set that prompts name, for all labels, with its guidelines if the model was
        trained on it. By default each label has one that the model was trained on.
    options: those of the format, see `formats.Options`; None stands for a default.
    combine: of `COMBINATIONS`: how the answers in several formats are put together.

    Raises
    ------
    LabelError: see `check_labels`; there are none, and the model does not say which it knows.
    UnknownNameError: there is no such format, option or way to combine them.
    """
    if combine not in COMBINATIONS:
        expected = ", ".join(COMBINATIONS)
        raise UnknownNameError(f"unknown way to combine {combine!r}: expected one of {expected}")
    labels = _asked_for(trained, labels)
    given = {key: value for key, value in (options or {}).items() if value is not None}
    _check_options(given)
    if format is not None and not isinstance(format, str):
        format = ",".join(format)
    names = _formats_of(trained, format or default_format(trained))
    if trained is None:
        targets: tuple[Target, ...] = (Target(labels, dataset or DEFAULT_DATASET),)
    elif dataset:
        targets = (trained.target(labels, dataset),)
    else:
        targets = trained.targets(labels)
    if trained and "max_fragments" in trained.options:
        given.setdefault("max_fragments", trained.options["max_fragments"])
    notes = _notes(trained, names, labels, dataset) if trained else ()
    formats = tuple(get_format(name, Options(**given)) for name in names)
    if trained is None:
        return Task(formats, targets, agreement=Agreement(vote=combine == "vote"))
    return Task(
        formats,
        targets,
        notes,
        any(is_indexed(format, trained.index) for format in formats),
        replace(trained.conflicts, order=labels),
        Agreement(trained.weights(names), vote=combine == "vote"),
        trained.calibrations,
    )


def is_indexed(format: Format, share: float) -> bool:
    """Whether a model is shown the words indexed, as they were in such a share of its training."""
    return format.by_place and share >= MOSTLY


def is_best(name: str) -> bool:
    """Whether it stands for the formats that a model does best with together, such as `best3`."""
    return _BEST.fullmatch(name) is not None


def _formats_of(trained: Manifest | None, given: str) -> tuple[str, ...]:
    """The names of formats that a string stands for, each once.

    Raises
    ------
    UnknownNameError: one is none.
    """
    names: list[str] = []
    known = together(trained)
    for name in names_of(given):
        if not is_best(name):
            names.append(get_format(name).name)
        elif name in known:
            names += known[name]
        else:
            expected = " or ".join(known) or "the names of formats"
            raise UnknownNameError(
                f"the model does not know its {name}, which formats are best together; `cner "
                f"calibrate` measures it: expected {expected}"
            )
    return tuple(dict.fromkeys(names))


def together(trained: Manifest | None) -> dict[str, tuple[str, ...]]:
    """The formats that a model does best with together, by the names for them: `best2` and on."""
    numbers = sorted({len(c.formats) for c in trained.calibrations} - {1}) if trained else []
    return {f"best{number}": trained.best_together(number) for number in numbers if trained}


def _asked_for(trained: Manifest | None, labels: Sequence[str] | str | None) -> tuple[str, ...]:
    """The labels to ask for, those first that matter most."""
    if isinstance(labels, str):
        labels = names_of(labels)
    every = trained.labels if trained else ()
    if labels is None:
        labels = (trained.default_labels if trained else ()) or every
        if not labels:
            raise LabelError("expected labels: the model does not say which it knows")
    asked = check_labels(labels)
    if EVERY not in asked or EVERY in every:
        return asked
    if trained is None or not every:
        raise LabelError(f"{EVERY!r} says nothing: the model does not say which labels it knows")
    named = [label for label in asked if label != EVERY]
    folded = {label.casefold() for label in named}
    rest = dict.fromkeys((*trained.default_labels, *every))
    return (*named, *(label for label in rest if label.casefold() not in folded))


def _check_options(given: Mapping[str, Any]) -> None:
    names = [option.name for option in fields(Options)]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise UnknownNameError(f"unknown option {unknown[0]!r}: there are {', '.join(names)}")


def _notes(
    trained: Manifest, names: Sequence[str], labels: Sequence[str], dataset: str | None
) -> tuple[str, ...]:
    """Why a model may not do well what it is asked for."""
    notes = []
    datasets = [known.name for known in trained.datasets]
    if dataset and datasets and dataset not in datasets:
        notes.append(
            f"the model was not trained on a data set {dataset!r}, but on {', '.join(datasets)}"
        )
    for format in names:
        if trained.formats and format not in trained.formats:
            formats = ", ".join(trained.formats)
            notes.append(f"the model was not trained to write {format}, but {formats}")
        if format in trained.doubtful:
            note = f"its F1 on dev is {trained.dev[format].f1:.2f}"
            if best := trained.best:
                note += f", that of {best}, the model's best, {trained.dev[best].f1:.2f}"
            notes.append(f"answers in {format} are not to be trusted: {note}")
    known = {label.casefold(): label for label in trained.labels}
    strange = [label for label in labels if label.casefold() not in known]
    if strange and known:
        named = []
        for label in strange:
            near = get_close_matches(label.casefold(), known, n=1)
            named.append(f"{label} (nearest: {known[near[0]]})" if near else label)
        listed = ", ".join(known.values()) if len(known) <= FEW else f"{len(known)} labels"
        notes.append(
            f"the model was never asked for {', '.join(named)} in training; it knows {listed}"
        )
    return tuple(notes)
