"""Which documents are asked about, in which format: the draws of the paper's sections 4.3 and 4.4.

A draw takes at most so many documents of each corpus and split, and gives each of them one of the
configuration's formats that can express it; where none can, one of those that lose the fewest
entities. Formats are dealt in turn, so that each is used equally often where all can be; the seed
of a draw decides everything. More rounds than the paper's one show a document in more formats.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from constrained_ner.documents import Document
from constrained_ner.errors import InputError, UnknownNameError
from constrained_ner.formats import FORMATS, Format, get_format
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


@dataclass(frozen=True, kw_only=True)
class AnnotatedCorpus(Target):
    """What is asked for in a corpus, and its annotated documents."""

    documents: tuple[Document, ...]


@dataclass(frozen=True)
class Sampling:
    """How questions are drawn: how many of each corpus, and in which formats.

    Attributes
    ----------
    formats: names of configurations or formats.
    train, dev, test: the most documents of each corpus.
    negative_labels: ask formats of one label also for labels that the document does not have.
    empty_documents: keep documents without entities.
    index: the share of prompts with indexed words, of the formats that are `by_place`.
    max_fragments: of discontinuous entities; 0: as many as the corpora have.

    empty_share: of the training documents without entities so many are drawn from, 0 to 1. With
        many of them a model that has seen little learns to find nothing.
    shuffle_labels: the order of conv_term's turns and of the labels in other prompts.
    rounds: how often a training document is asked about, each time in another format while there is
        one.
    weights: how often a format is dealt in training, against 1 of those that are not named.
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

    @property
    def format_names(self) -> tuple[str, ...]:
        """Of formats, each once."""
        return formats_of(self.formats)

    def held_out(self) -> Sampling:
        """The same for documents that are not trained on."""
        return replace(
            self,
            shuffle_labels=False,  # questions that are alike are answered in one batch
            empty_documents=True,  # what is found in them is wrong, and counts
            empty_share=1.0,
            rounds=1,
            weights={},
        )


def draw(
    corpus: AnnotatedCorpus,
    split: str,
    seed: int,
    sampling: Sampling,
    options: FormatOptions | None = None,
) -> list[Question]:
    """One question a round for each document that is drawn, in the order of the draw.

    Parameters
    ----------
    split: `train`, `dev` or `test`. `options`: of the formats.

    Raises
    ------
    InputError: the corpus has no document to draw.
    """
    most: int = getattr(sampling, split)
    if split != "train":
        sampling = sampling.held_out()
    rng = random.Random(f"{seed}/{corpus.name}/{split}")

    def kept(document: Document) -> bool:
        if not document.text.strip():
            return False
        left_out = sampling.empty_share < 1 and rng.random() >= sampling.empty_share
        return bool(_present(document, corpus)) or (sampling.empty_documents and not left_out)

    documents = [document for document in corpus.documents if kept(document)]
    if not documents:
        raise InputError(f"corpus {corpus.name!r}, {split}: no documents: expected at least one")
    chosen = rng.sample(documents, min(most, len(documents)))
    deal = _Deal(corpus, sampling, options or FormatOptions(), rng)
    had: list[set[str]] = [set() for _ in chosen]  # the formats of the rounds before
    return [
        deal.question(document, before)
        for _ in range(sampling.rounds)
        for document, before in zip(chosen, had, strict=True)
    ]


def _present(document: Document, corpus: AnnotatedCorpus) -> list[str]:
    """The corpus's labels that the document has."""
    present = {entity.label for entity in document.entities}
    return [label for label in corpus.labels if label in present]


@dataclass
class _Deal:
    """Formats and labels for one document after the other.

    Attributes
    ----------
    dealt: how often each format was.
    """

    corpus: AnnotatedCorpus
    sampling: Sampling
    options: FormatOptions
    rng: random.Random
    dealt: Counter[str] = field(default_factory=Counter)

    def question(self, document: Document, had: set[str]) -> Question:
        """The document's next question, in a format that it has not had while there is one."""
        name = self._format(document, had)
        self.dealt[name] += 1
        had.add(name)
        labels = self._labels(document, get_format(name))
        by_place = get_format(name).by_place
        index = by_place and self.rng.random() < self.sampling.index
        return Question(document, name, self.corpus.of(labels), self.options, index)

    def _format(self, document: Document, had: set[str]) -> str:
        losses = {name: self._losses(name, document) for name in self.sampling.format_names}
        able = [name for name, lost in losses.items() if lost == min(losses.values())]
        able = [name for name in able if name not in had] or able
        # the one that was dealt least often for its weight, by chance among equals
        weights = self.sampling.weights
        share = {name: self.dealt[name] / weights.get(name, 1.0) for name in able}
        return self.rng.choice([name for name in able if share[name] == min(share.values())])

    def _labels(self, document: Document, format: Format) -> list[str]:
        labels = list(self.corpus.labels)
        if self.sampling.shuffle_labels:
            self.rng.shuffle(labels)
        present = _present(document, self.corpus)
        if format.one_label and not format.conversational:
            candidates = labels if self.sampling.negative_labels or not present else present
            return [self.rng.choice(candidates)]
        if format.conversational and not self.sampling.negative_labels:
            return [label for label in labels if label in present] or labels[:1]
        return labels

    def _losses(self, name: str, document: Document) -> int:
        """How many entities of these labels a format cannot write, whatever the masks say."""
        format = get_format(name, self.options)
        return sum(
            len(format.expressible(document, labels, Level.FREE)[1])
            for labels in format.questions(self.corpus.labels)
        )
