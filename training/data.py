"""What a run learns from: the corpora of a recipe, and the examples drawn of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from constrained_ner.corpora import read
from constrained_ner.documents import Document
from constrained_ner.engines.models import LanguageModel
from constrained_ner.errors import InputError
from constrained_ner.formats import Options as FormatOptions
from constrained_ner.labels import check_labels

from .building import build
from .cache import fingerprint, load_examples
from .examples import Example, Question
from .recipe import Data, Recipe
from .sampling import Corpus, draw, sampling_of


@dataclass(frozen=True)
class Split:
    """Documents of one corpus and what of them could not be read."""

    corpus: Corpus
    broken: tuple[InputError, ...]


def load_corpus(data: Data, path: Path, of: Corpus | None = None) -> Split:
    """The documents of a file with the labels that the recipe asks for.

    Parameters
    ----------
    of: the corpus as its training file gives it, for the other splits.

    Raises
    ------
    InputError: the file has no document; or, of a training file, no document has an entity, or a
        label of the recipe occurs nowhere, or guidelines are given for one that is not asked for.
    """
    records = list(read(path))
    documents = tuple(r for r in records if isinstance(r, Document) and r.text.strip())
    broken = tuple(r for r in records if isinstance(r, InputError))
    if not documents:
        raise InputError("holds no document: expected annotated documents", path)
    if of is not None:
        return Split(replace(of, documents=documents), broken)
    known = sorted({entity.label for document in documents for entity in document.entities})
    if not known:
        raise InputError("no document has an entity: expected annotated documents", path)
    for label in data.labels:
        if label not in known:
            there = ", ".join(known)
            raise InputError(f"the label {label!r} occurs nowhere: there are {there}", path)
    labels = check_labels(data.labels or known)
    for label in data.guidelines:
        if label not in labels:
            there = ", ".join(labels)
            raise InputError(f"data.guidelines: no label {label!r}: there are {there}", path)
    name = data.name or path.stem
    return Split(Corpus(name, documents, labels, data.guideline, data.guidelines), broken)


@dataclass(frozen=True)
class Drawn:
    """What a run trains on and is evaluated on.

    Attributes
    ----------
    held_out: the examples of the dev and test splits.
    fingerprint: of all examples. `kept`: whether a run before had kept them.
    """

    train: list[Example]
    dev: list[Question]
    corpora: tuple[Corpus, ...]
    broken: tuple[InputError, ...]
    options: FormatOptions
    held_out: list[Example]
    fingerprint: str
    kept: bool


def draw_examples(
    recipe: Recipe,
    model: LanguageModel,
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
    InputError: see `load_corpus`; or two corpora have one name. TrainingError: see `make_example`.
    """
    splits = [load_corpus(data, data.train) for data in recipe.data]
    names = [split.corpus.name for split in splits]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"data.name: two corpora are called {name!r}: give each its own")
    most = recipe.examples.max_fragments or max(
        len(entity.fragments) for s in splits for d in s.corpus.documents for entity in d.entities
    )
    options = FormatOptions(max_fragments=min(8, most))
    broken: list[InputError] = []
    train: list[Question] = []
    dev: list[Question] = []
    test: list[Question] = []
    for data, split in zip(recipe.data, splits, strict=True):
        for name, questions in (("train", train), ("dev", dev), ("test", test)):
            path = getattr(data, name)
            if path is not None:
                held = split if name == "train" else load_corpus(data, path, split.corpus)
                broken += held.broken
                sampling = sampling_of(recipe.examples, recipe.formats, options, name)
                if name == "train":
                    sampling = replace(
                        sampling,
                        most=data.examples or sampling.most,
                        rounds=data.rounds or sampling.rounds,
                        weights={**sampling.weights, **data.weights},
                    )
                questions += draw(held.corpus, name, recipe.seed, sampling)
    questions = [*train, *dev, *test]
    key = fingerprint(questions, model)
    kept = load_examples(questions, key, cache) if cache else None
    built = build(questions, model, progress) if kept is None else kept
    return Drawn(
        built[: len(train)],
        dev,
        tuple(split.corpus for split in splits),
        tuple(broken),
        options,
        built[len(train) :],
        key,
        kept is not None,
    )
