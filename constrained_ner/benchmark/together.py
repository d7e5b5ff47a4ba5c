"""Several formats put together, from the answers in each: no model is asked for it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from constrained_ner.benchmark.grid import CorpusSample, Variant
from constrained_ner.documents import Document, Entity
from constrained_ner.evaluation import Counts, strict
from constrained_ner.evaluation.reliability import Judged
from constrained_ner.formats import Format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.agreement import Agreement, Ballot
from constrained_ner.pipeline.manifest import Manifest
from constrained_ner.pipeline.prediction import Prediction

Confidences = Mapping[Entity, float]


@dataclass(frozen=True)
class Asked:
    """An annotated document, and what a model found in it in each format.

    Attributes
    ----------
    labels: those that it was asked for. `found`: by format; without those that failed. `level`: of
        all these answers.
    answered: by format, the labels that answers came back about; by default all of them.
    """

    document: Document
    labels: frozenset[str]
    found: Mapping[str, Confidences]
    level: Level = Level.FAITHFUL
    answered: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def gold(self) -> frozenset[Entity]:
        return frozenset(e for e in self.document.entities if e.label in self.labels)

    def together(self, formats: Sequence[Format], agreement: Agreement) -> Confidences:
        """What several formats have together, with its scores."""
        text = self.document.text
        ballots = [
            Ballot(
                format,
                self.answered.get(format.name, self.labels),
                (0, len(text)),
                self.found[format.name],
                self.level,
            )
            for format in formats
            if format.name in self.found
        ]
        return {one.entity: one.score for one in agreement.settled(ballots, text)}

    def counts(self, found: Confidences) -> Counts:
        """Strictly, of entities that were found."""
        gold = sorted(self.gold, key=lambda entity: entity.key)
        return strict(self.document.text, gold, list(found))

    def judged(self, found: Confidences) -> Judged:
        return Judged(found, self.gold)


def variant_of(trained: Manifest, name: str) -> Variant:
    """How a model is asked to write a format by default."""
    return Variant.as_trained(name, trained.index)


def documents_of(data: CorpusSample, by_format: Mapping[str, Sequence[Prediction]]) -> list[Asked]:
    """The documents of a sample, with what was found in each format."""
    found = []
    for i, document in enumerate(data.documents):
        here = {name: each[i] for name, each in by_format.items()}
        whole = {name: p for name, p in here.items() if p.error is None}
        level = next((prediction.level for prediction in here.values()), Level.FAITHFUL)
        found.append(
            Asked(
                document,
                frozenset(data.labels),
                {name: prediction.confidences for name, prediction in whole.items()},
                level,
                {
                    name: frozenset(label for reply in p.replies for label in reply.labels)
                    for name, p in whole.items()
                },
            )
        )
    return found
