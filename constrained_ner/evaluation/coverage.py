"""The replay of gold answers: the completeness law on annotated documents.

Every gold answer passes through the masks. Each document is encoded, its answer tokenised by the
model's own tokenizer, and replayed through the masks token by token, the end token included. What a
format cannot write is counted by cause, and so is what reading the answer back loses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from constrained_ner.documents import Document, Entity
from constrained_ner.engines.replay import replay
from constrained_ner.errors import CnerError, GrammarError
from constrained_ner.formats import Format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.budget import derived_budget
from constrained_ner.pipeline.view import in_one_line

if TYPE_CHECKING:
    from constrained_ner.engines.vocabulary import Vocabulary


@dataclass
class Coverage:
    """What checking one format at one level found.

    Attributes
    ----------
    entities, expressible: mentions of the labels asked for, and those that the format can write
        at this level: none of a text that has no grammar. `dropped`: the others, by cause.
    answers, accepted: gold answers, and those that every mask let through.
    rejections: for each of the others: document, position, context.
    lost: expressible mentions that reading the answer does not give back, by cause.
    longest, share: tokens of the longest answer, and the largest share of its derived budget that
        an answer takes.
    failed: documents that have no grammar, and why.
    """

    format: str
    level: Level
    entities: int = 0
    expressible: int = 0
    answers: int = 0
    accepted: int = 0
    longest: int = 0
    share: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    rejections: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.rejections and not self.failed

    def to_json(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "level": str(self.level),
            "entities": self.entities,
            "expressible": self.expressible,
            "dropped": dict(self.dropped),
            "answers": self.answers,
            "accepted": self.accepted,
            "lost": dict(self.lost),
            "longest": self.longest,
            "budget_share": round(self.share, 3),
            "rejections": self.rejections,
            "failed": self.failed,
        }


class Checker:
    """Checks one format at one level, document by document.

    Parameters
    ----------
    labels: those to ask for; questions about labels that a document does not have count, too.
    """

    def __init__(self, format: Format, labels: Sequence[str], level: Level, vocabulary: Vocabulary):
        self.format, self.labels, self.level, self.vocabulary = format, labels, level, vocabulary
        self.coverage = Coverage(format.name, level)
        self._syntax: dict[tuple[str, ...], Any] = {}

    def check(self, documents: Iterable[Document]) -> Coverage:
        for document in map(in_one_line, documents):
            for labels in self.format.questions(self.labels):
                try:
                    self._check(document, labels)
                except CnerError as error:
                    self.coverage.failed.append(f"{document.id}: {error}")
        return self.coverage

    def _check(self, document: Document, labels: tuple[str, ...]) -> None:
        coverage, text = self.coverage, document.text
        kept, dropped = self.format.expressible(document, labels, self.level)
        coverage.entities += len(kept) + len(dropped)
        coverage.dropped.update(cause for _, cause in dropped)
        try:
            matcher = self._matcher(text, labels)
        except GrammarError as error:
            coverage.failed.append(f"{document.id}: {error}")
            # None are left where the format knows that the text has no grammar.
            coverage.dropped.update("the engine refuses the grammar" for _ in kept)
            return
        coverage.expressible += len(kept)
        gold = replace(document, entities=kept)
        answer = self.format.encode(gold, labels, self.level)
        tokens = [*self.vocabulary.tokenize(answer), self.vocabulary.ends[0]]
        coverage.answers += 1
        coverage.longest = max(coverage.longest, len(tokens))
        budget = derived_budget(self.format, text, labels, self.vocabulary)
        coverage.share = max(coverage.share, len(tokens) / budget)
        good = replay(self.vocabulary, matcher, tokens)
        if good == len(tokens):
            coverage.accepted += 1
        else:
            before = self.vocabulary.text_of(tokens[:good])
            refused = self.vocabulary.text_of(tokens[good : good + 1]) or "the end"
            coverage.rejections.append(
                f"{document.id}: at offset {len(before)}, after {before[-40:]!r}: {refused!r}"
            )
        decoded = self.format.decode(answer, text, labels)
        for entity in set(kept) - set(decoded.entities):
            coverage.lost[self._cause(entity, text)] += 1

    def _matcher(self, text: str, labels: tuple[str, ...]) -> Any:
        if self.level == Level.FAITHFUL:
            return self.vocabulary.matcher(self.format.grammar(text, labels, self.level))
        # At the syntax level the grammar is the same for every text.
        if labels not in self._syntax:
            grammar = self.format.grammar(text, labels, self.level)
            self._syntax[labels] = self.vocabulary.matcher(grammar)
        return self._syntax[labels].deep_copy()

    def _cause(self, entity: Entity, text: str) -> str:
        if entity.discontinuous:
            return "fragments read as another place"
        if text.count(entity.surface(text)) > 1:
            return "repeated surface, another mention meant"
        return "read as another place"
