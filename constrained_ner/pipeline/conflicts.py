"""Entities of several questions that contradict one another.

Each data set that a model was trained on is asked for by itself, in its own terms: one of diseases
marks `colon cancer` as a disease, one of anatomy and one of cells mark it, too. No data set gives
the same words two labels, or lets entities of two labels cross (of 55,000 gold entities of BC5CDR
and GENIA 22 share their words with another one, and none cross), so that one of several answers is
taken. Where the model is sure of one of them, that is it. Where it is sure of several, each is
right in its own terms, and the reader's order of labels decides. Entities may lie inside each
other: a colon is in a colon cancer.

What one answer says together is left as it is, and so are labels that a data set is known to give
to the same words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

from constrained_ner.documents import Document, Entity

# Labels share words in a data set if at least this share of the rarer one's entities does.
SHARED = 0.01
BLOCK = 64  # characters: mentions are compared with those that are near
SURE = 0.8  # a confidence from which on an answer is right in its own terms; see docs/predict.md


@dataclass(frozen=True)
class Mention:
    """An entity as one answer has it.

    Attributes
    ----------
    answer: the number of the answer. `confidence`: how sure the model is, from 0 to 1.
    """

    entity: Entity
    confidence: float
    answer: int


@dataclass(frozen=True)
class Verdict:
    """What there is to say of an entity that stays.

    Attributes
    ----------
    confidence: from 0 to 1.
    also: what else its words were called in other answers, with the confidence of that.
    """

    confidence: float
    also: Mapping[str, float]


@dataclass(frozen=True)
class Conflicts:
    """Which labels contradict each other.

    Parameters
    ----------
    synonyms: groups of labels that mean the same; entities get the first one that was asked for.
    together: pairs of labels that may be given to the same words.
    order: the labels that are asked for, those first that matter most.

    Labels are the same in any case.
    """

    synonyms: tuple[tuple[str, ...], ...] = ()
    together: frozenset[frozenset[str]] = frozenset()
    order: tuple[str, ...] = ()

    def settled(self, mentions: Iterable[Mention]) -> dict[Entity, Verdict]:
        """The entities that stay, of those that contradict each other one."""
        kept: list[Mention] = []
        near: dict[int, list[int]] = defaultdict(list)  # numbers of those kept, by place
        also: dict[Entity, dict[str, float]] = {}
        for mention in sorted(mentions, key=self._rank):
            entity = mention.entity
            here = range(entity.start // BLOCK, entity.end // BLOCK + 1)
            nearby = [kept[number] for number in sorted({n for at in here for n in near[at]})]
            against = [one.entity for one in nearby if self._contradict(one, mention)]
            for other in against:
                if other.fragments == entity.fragments:
                    also[other].setdefault(entity.label, mention.confidence)
            if not against:
                for at in here:
                    near[at].append(len(kept))
                kept.append(mention)
                also.setdefault(entity, {})
        found: dict[Entity, Verdict] = {}
        for mention in kept:
            entity = self.named(mention.entity)
            others = dict(also[mention.entity])
            if entity.label != mention.entity.label:
                others = {mention.entity.label: mention.confidence, **others}
                others.pop(entity.label, None)
            found.setdefault(entity, Verdict(mention.confidence, others))
        return found

    def named(self, entity: Entity) -> Entity:
        """With the label that entities of its label get."""
        return Entity(self._names.get(entity.label, entity.label), entity.fragments)

    def _rank(self, mention: Mention) -> tuple[Any, ...]:
        """Sorts those first that stay."""
        entity, confidence = mention.entity, mention.confidence
        label = self.named(entity).label
        sure = confidence >= SURE
        place = self.order.index(label) if sure and label in self.order else len(self.order)
        return not sure, place, -confidence, entity.key

    @cached_property
    def _together(self) -> frozenset[frozenset[str]]:
        return frozenset(frozenset(map(str.casefold, pair)) for pair in self.together)

    @cached_property
    def _names(self) -> Mapping[str, str]:
        """Of each label with synonyms the one that its entities get."""
        folded = [{label.casefold() for label in group} for group in self.synonyms]
        names: dict[str, str] = {}
        for group in folded:
            same = [label for label in self.order if label.casefold() in group]
            names |= dict.fromkeys(same, same[0]) if same else {}
        return names

    def _contradict(self, one: Mention, other: Mention) -> bool:
        if one.answer == other.answer:
            return False
        labels = one.entity.label, other.entity.label
        if self.named(one.entity).label == self.named(other.entity).label:
            # Two data sets may draw the borders of the same thing differently.
            return labels[0] != labels[1] and one.entity.overlaps(other.entity)
        if frozenset(map(str.casefold, labels)) in self._together:
            return False
        if one.entity.fragments == other.entity.fragments:
            return True
        return _cross(one.entity, other.entity)


def _cross(one: Entity, other: Entity) -> bool:
    """Whether they overlap, and neither lies within the other."""
    return one.overlaps(other) and not (_within(one, other) or _within(other, one))


def _within(one: Entity, other: Entity) -> bool:
    return all(any(t <= s and e <= u for t, u in other.fragments) for s, e in one.fragments)


def labels_together(documents: Iterable[Document]) -> tuple[tuple[str, str], ...]:
    """The pairs of labels that gold entities with the same words have, rare mistakes aside."""
    mentions: dict[str, int] = {}
    shared: dict[tuple[str, str], int] = {}
    for document in documents:
        by_words: dict[object, set[str]] = {}
        for entity in document.entities:
            mentions[entity.label] = mentions.get(entity.label, 0) + 1
            by_words.setdefault(entity.fragments, set()).add(entity.label)
        for labels in by_words.values():
            for pair in combinations(sorted(labels), 2):
                shared[pair] = shared.get(pair, 0) + 1
    return tuple(
        pair
        for pair, count in sorted(shared.items())
        if count >= SHARED * min(mentions[label] for label in pair)
    )
