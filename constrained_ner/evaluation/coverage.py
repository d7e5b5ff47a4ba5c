"""What formats and masks hold of gold entities: the recall ceiling, and the replay of gold answers.

The replay checks the completeness law on annotated documents: every gold answer passes through the
masks. Each document is encoded, its answer tokenised by the model's own tokenizer, and replayed
through the masks token by token, the end token included. What a format cannot write is counted by
cause, and so is what reading the answer back loses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from llguidance import LLExecutor
from llguidance.numpy import fill_next_token_bitmask_par_with_draft_tokens
from numpy.typing import NDArray

from constrained_ner.documents import Document, Entity
from constrained_ner.errors import CnerError, GrammarError
from constrained_ner.evaluation.records import Setting
from constrained_ner.formats import Format, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.labels import names_of
from constrained_ner.pipeline.budget import derived_budget
from constrained_ner.pipeline.view import in_one_line, is_blank, view_of
from constrained_ner.words import Span

if TYPE_CHECKING:
    from constrained_ner.engines.vocabulary import Vocabulary


def replay(vocabulary: Vocabulary, matcher: Any, tokens: Sequence[int]) -> int:
    """How many of an answer's tokens the masks let through, one after the other.

    Parameters
    ----------
    matcher: at the beginning of the answer.
    tokens: token ids, the one that ends the answer included.
    """
    masks = masks_of(vocabulary, matcher, tokens)
    ids = np.array(tokens)
    words = masks[np.arange(len(tokens)), ids // 32]
    refused = np.flatnonzero((words >> (ids % 32).astype(np.uint32)) & 1 == 0)
    return int(refused[0]) if refused.size else len(tokens)


def masks_of(vocabulary: Vocabulary, matcher: Any, tokens: Sequence[int]) -> NDArray[np.uint32]:
    """The mask before each token, and one behind the last: [tokens + 1, vocabulary / 32].

    Parameters
    ----------
    matcher, tokens: see `replay`. Behind a token that is refused the masks let nothing through.

    Returns
    -------
    A bit a token, the lowest first, set where it is allowed.
    """
    masks = np.zeros(
        (len(tokens) + 1, (vocabulary.ll_tokenizer.vocab_size + 31) // 32), dtype=np.int32
    )
    fill_next_token_bitmask_par_with_draft_tokens(_EXECUTOR, [(matcher, 0, list(tokens))], masks)
    return masks.view(np.uint32)


_EXECUTOR = LLExecutor(1)


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


# ---- recall ceiling


@dataclass(frozen=True)
class Ceiling:
    """The highest recall that a format allows.

    Attributes
    ----------
    entities: gold entities. `expressible`: those that the format can write at this level.
    returned: those of them that reading the gold answer gives back.
    dropped: the entities that cannot be written, by cause.
    """

    setting: Setting
    entities: int
    expressible: int
    returned: int
    dropped: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def ceiling(
    documents: Sequence[Document],
    labels: Sequence[str],
    setting: Setting,
    parts: Sequence[Mapping[str, Collection[Span]]] | None = None,
) -> Ceiling:
    """What the gold answers of a format, or of several together, can hold of the gold entities.

    Parameters
    ----------
    parts: of each document, by format, the parts that were asked about one by one; a format that
        has none was asked about the whole text, as all are by default.

    Raises
    ------
    LabelError: a label cannot be asked for.
    """
    formats = [get_format(name, setting.options) for name in names_of(setting.format)]
    entities = expressible = returned = 0
    causes: Counter[str] = Counter()
    for document, asked in zip(documents, parts or [{}] * len(documents), strict=True):
        held: set[Entity] = set()
        read: set[Entity] = set()
        lacking: dict[Entity, str] = {}
        for format in formats:
            for span in asked.get(format.name) or [(0, len(document.text))]:
                piece, entity_of = _piece(document, span)
                for question in format.questions(labels) if piece.entities else ():
                    kept, dropped = format.expressible(piece, question, setting.level)
                    held.update(entity_of[entity] for entity in kept)
                    for entity, cause in dropped:
                        lacking.setdefault(entity_of[entity], cause)
                    if kept:
                        gold = replace(piece, entities=kept)
                        answer = format.encode(gold, question, setting.level)
                        decoded = format.decode(answer, piece.text, question, level=setting.level)
                        read |= {entity_of[entity] for entity in {*kept} & {*decoded.entities}}
        for entity in document.entities:
            if entity.label in labels and entity not in held:
                blank = is_blank(entity, document.text)
                cause = "white space" if blank else "in no part of the text that was asked about"
                lacking.setdefault(entity, cause)
        entities += len(held | lacking.keys())
        expressible += len(held)
        returned += len(read)
        causes.update(cause for entity, cause in lacking.items() if entity not in held)
    return Ceiling(setting, entities, expressible, returned, dict(causes))


def _piece(document: Document, span: Span) -> tuple[Document, dict[Entity, Entity]]:
    """A part of a document as a model is shown it, and of its entities those of the document."""
    view = view_of(document.text, span)
    entity_of = {
        view.in_line(entity): entity
        for entity in document.entities
        if span[0] <= entity.start and entity.end <= span[1]
        if not is_blank(entity, document.text)
    }
    return Document(document.id, view.text, tuple(entity_of)), entity_of
