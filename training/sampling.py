"""Which documents are asked about, in which format: the draws of the paper's sections 4.3 and 4.4.

A draw takes at most so many documents of each corpus and split, and gives each of them one of the
configuration's formats that can express it; where none can, one of those that lose the fewest
entities. Formats are dealt in turn, so that each is used equally often where all can be; the seed
of a draw decides everything. More rounds than the paper's one show a document in more formats.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from constrained_ner.documents import Document
from constrained_ner.errors import InputError, UnknownNameError
from constrained_ner.formats import FORMATS, get_format
from constrained_ner.formats import Options as FormatOptions
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prompts import Target

from .examples import Question

BEST = (
    *("conv_term", "multi_tag", "multi_term", "multi_triple"),
    *("single_code", "single_tag", "single_term"),
)
CONFIGURATIONS: dict[str, tuple[str, ...]] = {
    "all": tuple(FORMATS),
    "7best": BEST,
    "term_ner": ("multi_term", "single_term"),
    **{name: (name,) for name in FORMATS},
}


def formats_of(names: Sequence[str]) -> tuple[str, ...]:
    """The formats of configurations and formats, each once.

    Raises
    ------
    UnknownNameError: there is no such configuration.
    """
    unknown = [name for name in names if name not in CONFIGURATIONS]
    if unknown:
        raise UnknownNameError(
            f"unknown configuration {unknown[0]!r}: expected one of {', '.join(CONFIGURATIONS)}"
        )
    return tuple(dict.fromkeys(format for name in names for format in CONFIGURATIONS[name]))


@dataclass(frozen=True)
class Corpus:
    """Annotated documents of one corpus.

    Attributes
    ----------
    name: what the prompt calls the data set.
    labels: those asked for.
    guideline: annotation guidelines for the prompt. `guidelines`: the same by label, added for
        the labels that are asked for.
    """

    name: str
    documents: tuple[Document, ...]
    labels: tuple[str, ...]
    guideline: str = ""
    guidelines: dict[str, str] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        return Target(self.labels, self.name, self.guideline, self.guidelines)


@dataclass(frozen=True)
class Examples:
    """How many documents of each corpus, and in which formats; see `Sampling`.

    Attributes
    ----------
    formats: names of configurations or formats.
    train, dev, test: the most documents of each corpus.
    weights: how often a format is used, against 1 of those that are not named.
    index: see `Sampling`.
    rounds: how often a training document is asked about, each time in another format while there
        is one.
    max_fragments: of discontinuous entities; 0: as many as the corpora have.
    empty_share: of the training documents without entities so many are drawn from, 0 to 1. Few of
        them help a short run over whose end a model would still rather find nothing.
    """

    formats: tuple[str, ...] = ("all",)
    train: int = 10_000
    dev: int = 200
    test: int = 300
    negative_labels: bool = True
    empty_documents: bool = True
    shuffle_labels: bool = True
    index: float = 0.0
    max_fragments: int = 0
    empty_share: float = 1.0
    rounds: int = 1
    weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sampling:
    """How questions are drawn.

    Parameters
    ----------
    formats: names of formats. `options`: of all of them.
    most: the most documents of a corpus.
    negative_labels: ask formats of one label also for labels that the document does not have.
    empty_documents: keep documents without entities. `empty_share`: only so many of them.
    shuffle_labels: the order of conv_term's turns and of the labels in other prompts.
    index: the share of prompts with indexed words, of the formats that are `by_place`.
    rounds: how often each document is asked about.
    weights: how often a format is dealt, against 1 of those that are not named.
    """

    formats: tuple[str, ...]
    most: int
    options: FormatOptions = field(default_factory=FormatOptions)
    negative_labels: bool = True
    empty_documents: bool = True
    shuffle_labels: bool = True
    index: float = 0.0
    empty_share: float = 1.0
    rounds: int = 1
    weights: Mapping[str, float] = field(default_factory=dict)


def sampling_of(
    examples: Examples, formats: tuple[str, ...], options: FormatOptions, split: str
) -> Sampling:
    """How a recipe draws one of its splits."""
    return Sampling(
        formats,
        getattr(examples, split),
        options,
        examples.negative_labels,
        examples.empty_documents,
        # held-out questions that are alike are answered in one batch
        examples.shuffle_labels and split == "train",
        examples.index,
        examples.empty_share if split == "train" else 1.0,
        examples.rounds if split == "train" else 1,
        examples.weights if split == "train" else {},
    )


def draw(corpus: Corpus, split: str, seed: int, sampling: Sampling) -> list[Question]:
    """One question a round for each document that is drawn, in the order of the draw.

    Raises
    ------
    InputError: the corpus has no document to draw.
    """
    chance = random.Random(f"{seed}/{corpus.name}/{split}")

    def kept(document: Document) -> bool:
        if not document.text.strip():
            return False
        left_out = sampling.empty_share < 1 and chance.random() >= sampling.empty_share
        return bool(_asked(document, corpus)) or (sampling.empty_documents and not left_out)

    documents = [document for document in corpus.documents if kept(document)]
    if not documents:
        raise InputError(f"corpus {corpus.name!r}, {split}: no documents: expected at least one")
    chosen = chance.sample(documents, min(sampling.most, len(documents)))
    dealt: Counter[str] = Counter()
    had: list[set[str]] = [set() for _ in chosen]
    return [
        _question(corpus, document, sampling, chance, dealt, before)
        for _ in range(sampling.rounds)
        for document, before in zip(chosen, had, strict=True)
    ]


def _asked(document: Document, corpus: Corpus) -> list[str]:
    present = {entity.label for entity in document.entities}
    return [label for label in corpus.labels if label in present]


def _question(
    corpus: Corpus,
    document: Document,
    sampling: Sampling,
    chance: random.Random,
    dealt: Counter[str],
    had: set[str],
) -> Question:
    """The document's next question.

    Parameters
    ----------
    dealt: how often each format was. `had`: the document's formats of the rounds before.
    """
    losses = {name: _losses(name, document, corpus, sampling) for name in sampling.formats}
    able = [name for name, lost in losses.items() if lost == min(losses.values())]
    able = [name for name in able if name not in had] or able
    # the one that was dealt least often for its weight, by chance among equals
    share = {name: dealt[name] / sampling.weights.get(name, 1.0) for name in able}
    name = chance.choice([name for name in able if share[name] == min(share.values())])
    dealt[name] += 1
    had.add(name)

    labels = list(corpus.labels)
    if sampling.shuffle_labels:
        chance.shuffle(labels)
    format = get_format(name)
    if format.one_label and not format.conversational:
        present = _asked(document, corpus)
        candidates = labels if sampling.negative_labels or not present else present
        labels = [chance.choice(candidates)]
    elif format.conversational and not sampling.negative_labels:
        labels = [label for label in labels if label in _asked(document, corpus)] or labels[:1]
    asked = tuple(labels)
    return Question(
        corpus.name,
        document,
        name,
        asked,
        sampling.options,
        dataset=corpus.name,
        index=format.by_place and chance.random() < sampling.index,
        guideline=corpus.target.guideline_for(asked),
    )


def _losses(name: str, document: Document, corpus: Corpus, sampling: Sampling) -> int:
    """How many entities of the corpus's labels the format cannot write, whatever the masks say."""
    format = get_format(name, sampling.options)
    return sum(
        len(format.expressible(document, labels, Level.FREE)[1])
        for labels in format.questions(corpus.labels)
    )
