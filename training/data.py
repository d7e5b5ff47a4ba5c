"""What a run learns from: the corpora of a recipe, and the examples drawn of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from constrained_ner.corpora import corpus_name, labels_of, read, readable
from constrained_ner.corpora.files import sha256_of
from constrained_ner.engines.models import LoadedModel
from constrained_ner.errors import InputError
from constrained_ner.formats import Options as FormatOptions
from constrained_ner.formats.options import MAX_FRAGMENTS
from constrained_ner.labels import check_labels
from constrained_ner.pipeline.view import in_one_line

from .building import build
from .cache import fingerprint, load_examples
from .examples import Example, Question
from .recipe import SPLITS, CorpusFiles, Recipe
from .sampling import AnnotatedCorpus, Sampling, draw


@dataclass(frozen=True)
class LoadedSplit:
    """One split of a corpus, and what of it could not be read."""

    corpus: AnnotatedCorpus
    broken: tuple[InputError, ...]


def load_corpus(data: CorpusFiles, path: Path, of: AnnotatedCorpus | None = None) -> LoadedSplit:
    """The documents of a file, folder or archive with the labels that the recipe asks for.

    Parameters
    ----------
    of: the corpus as its training file gives it, for the other splits.

    Raises
    ------
    InputError: the file has no document; or, of a training file, no document has an entity, or a
        label of the recipe occurs nowhere, or guidelines are given for one that is not asked for.
    """
    broken: list[InputError] = []
    documents = tuple(in_one_line(d) for d in readable(read(path), broken) if d.text.strip())
    if not documents:
        raise InputError("holds no document: expected annotated documents", path)
    if of is not None:
        return LoadedSplit(replace(of, documents=documents), tuple(broken))
    known = labels_of(documents, path)
    for label in data.labels:
        if label not in known:
            there = ", ".join(known)
            raise InputError(f"the label {label!r} occurs nowhere: there are {there}", path)
    labels = check_labels(data.labels or known)
    for label in data.guidelines:
        if label not in labels:
            there = ", ".join(labels)
            raise InputError(f"data.guidelines: no label {label!r}: there are {there}", path)
    corpus = AnnotatedCorpus(
        labels,
        data.name or corpus_name(path),
        data.guideline,
        data.guidelines,
        documents=documents,
    )
    return LoadedSplit(corpus, tuple(broken))


def sampling_of(recipe: Recipe, data: CorpusFiles) -> Sampling:
    """How examples of one corpus are drawn: as of all, but for what it has of its own."""
    return replace(
        recipe.examples,
        train=data.examples or recipe.examples.train,
        rounds=data.rounds or recipe.examples.rounds,
        weights={**recipe.examples.weights, **data.weights},
    )


@dataclass(frozen=True)
class Drawn:
    """What a run trains on and is evaluated on.

    Attributes
    ----------
    checksums: of each corpus's training file or folder, as it was when it was read.
    held_out: the examples of the dev and test splits.
    fingerprint: of all examples. `kept`: whether a run before had kept them.
    """

    train: list[Example]
    dev: list[Question]
    corpora: tuple[AnnotatedCorpus, ...]
    checksums: tuple[str, ...]
    broken: tuple[InputError, ...]
    options: FormatOptions
    held_out: list[Example]
    fingerprint: str
    kept: bool


def draw_examples(
    recipe: Recipe,
    model: LoadedModel,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    cache: Path | None = None,
) -> Drawn:
    """Draw and build all examples, so that what is wrong with one ends a run before it begins.

    Those of the dev and test splits are built, too, though they are not trained on.

    Parameters
    ----------
    cache: where a run before kept its examples; they are taken if they would be the same.

    Raises
    ------
    InputError: see `load_corpus`; two corpora have one name; the recipe names labels for the model
        that no corpus has. TrainingError: see `make_examples`.
    """
    splits = [load_corpus(data, data.train) for data in recipe.data]
    checksums = tuple(sha256_of(data.train) for data in recipe.data)
    names = [split.corpus.name for split in splits]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"data.name: two corpora are called {name!r}: give each its own")
    known = dict.fromkeys(label for split in splits for label in split.corpus.labels)
    for key, labels in (
        ("default_labels", recipe.default_labels),
        ("synonyms", [label for group in recipe.synonyms for label in group]),
    ):
        for label in labels:
            if label not in known:
                expected = f"expected one of {', '.join(known)}"
                raise InputError(f"{key}: no corpus has the label {label!r}: {expected}")
    most = recipe.examples.max_fragments or max(
        len(entity.fragments) for s in splits for d in s.corpus.documents for entity in d.entities
    )
    options = FormatOptions(max_fragments=min(MAX_FRAGMENTS, most))
    broken: list[InputError] = []
    drawn: dict[str, list[Question]] = {name: [] for name in SPLITS}
    for data, split in zip(recipe.data, splits, strict=True):
        sampling = sampling_of(recipe, data)
        for name in SPLITS:
            path = getattr(data, name)
            if path is not None:
                loaded = split if name == "train" else load_corpus(data, path, split.corpus)
                broken += loaded.broken
                drawn[name] += draw(loaded.corpus, name, recipe.seed, sampling, options)
    questions = [question for name in SPLITS for question in drawn[name]]
    train = len(drawn["train"])
    key = fingerprint(questions, model)
    kept = load_examples(questions, key, cache) if cache else None
    built = build(questions, model, progress) if kept is None else kept
    return Drawn(
        list(chain.from_iterable(built[:train])),
        drawn["dev"],
        tuple(split.corpus for split in splits),
        checksums,
        tuple(broken),
        options,
        list(chain.from_iterable(built[train:])),
        key,
        kept is not None,
    )
