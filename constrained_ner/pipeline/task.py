"""The task of a model: which labels it is asked for together, and in which format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from constrained_ner.errors import LabelError, UnknownNameError
from constrained_ner.formats import Format, Options, get_format
from constrained_ner.labels import check_labels, names_of
from constrained_ner.pipeline.conflicts import Conflicts
from constrained_ner.pipeline.manifest import Manifest
from constrained_ner.pipeline.prompts import DEFAULT_DATASET, Target

DEFAULT_FORMAT = "multi_term"  # of models of whose formats no score is known
MOSTLY = 0.5  # the share of indexed prompts in training from which on prompts are indexed
EVERY = "all"  # in place of labels: all that the model was trained for
FEW = 30  # so many labels are listed in a message


@dataclass(frozen=True)
class Task:
    """What to ask a model for, and in which format.

    Attributes
    ----------
    notes: why the model may not do it well, a line each.
    index: whether the prompt shows the words with their offsets or numbers.
    conflicts: which labels contradict each other; None where nothing is known of them.
    """

    format: Format
    targets: tuple[Target, ...]
    notes: tuple[str, ...] = ()
    index: bool = False
    conflicts: Conflicts | None = None


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
    format: str | None = None,
    dataset: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Task:
    """How to ask a model. By default it is asked as it was in training.

    Parameters
    ----------
    labels: a list, or a string with commas between them; `all` stands for those that the model was
        trained for. By default those that it names for it (`Manifest.default_labels`), or all.
    format: by default the one that it is best at, see `default_format`.
    dataset: the data set that prompts name, for all labels. By default each label has one that the
        model was trained on.
    options: those of the format, see `formats.Options`; None stands for a default.

    Raises
    ------
    LabelError: see `check_labels`; there are none, and the model does not say which it knows.
    UnknownNameError: there is no such format or option.
    """
    labels = _asked_for(trained, labels)
    given = {key: value for key, value in (options or {}).items() if value is not None}
    _check_options(given)
    name = format or default_format(trained)
    targets = trained.targets(labels) if trained and not dataset else ()
    if not targets:
        targets = (Target(labels, dataset or DEFAULT_DATASET),)
    if trained and "max_fragments" in trained.options:
        given.setdefault("max_fragments", trained.options["max_fragments"])
    notes = _notes(trained, name, labels) if trained else ()
    chosen = get_format(name, Options(**given))
    index = trained is not None and chosen.by_place and trained.index >= MOSTLY
    conflicts = replace(trained.conflicts, order=labels) if trained else None
    return Task(chosen, targets, notes, index, conflicts)


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
    if EVERY not in asked or EVERY in every or trained is None:
        return asked
    named = [label for label in asked if label != EVERY]
    folded = {label.casefold() for label in named}
    rest = dict.fromkeys((*trained.default_labels, *every))
    return (*named, *(label for label in rest if label.casefold() not in folded))


def _check_options(given: Mapping[str, Any]) -> None:
    names = [option.name for option in fields(Options)]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise UnknownNameError(f"unknown option {unknown[0]!r}: there are {', '.join(names)}")


def _notes(trained: Manifest, format: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Why a model may not do well what it is asked for."""
    notes = []
    if trained.formats and format not in trained.formats:
        formats = ", ".join(trained.formats)
        notes.append(f"the model was not trained to write {format}, but {formats}")
    if format in trained.doubtful:
        best = trained.best or ""
        notes.append(
            f"answers in {format} are not to be trusted: its F1 on dev is "
            f"{trained.dev[format].f1:.2f}, that of {best}, the model's best, "
            f"{trained.dev[best].f1:.2f}"
        )
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
