"""Answers of one model in several formats, which become one set of entities.

Each format is another way to ask for the same, and a model's mistakes differ between them. The
score of an entity e is

    s(e) = sum of w_f c_f(e) / sum of w_f

over the formats f that were asked for its label at its place, and that can write it: c_f(e) is how
sure the model was when its answer in f had the entity, 0 where the answer has not, and w_f how good
f is, its F1 on dev. In a plain vote all w_f and c_f are 1. Formats that failed at a place, or that
cannot write such an entity, say nothing against it.

An entity is taken if its probability, which `Calibration` knows from its score, is at least half of
the highest F1 that can be had: then the expected F1 is the highest (Lipton, Elkan and Naryanaswamy
2014, https://arxiv.org/abs/1402.1892). That threshold is found on dev, see `Calibration.best`. Of
entities that overlap the one with the highest score is taken, unless one format has them both: so
nested ones stay possible, while formats that draw a border differently do not say a thing twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from constrained_ner.documents import Document, Entity
from constrained_ner.formats import Format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.view import View, view_of
from constrained_ner.words import Span

CUT = 0.3  # the least score of an entity where nothing was calibrated; see docs/agreement.md
MAJORITY = 0.5  # of votes: an entity needs more


@dataclass(frozen=True)
class Ballot:
    """What one format has about a part of a text.

    Attributes
    ----------
    labels: those that were asked for. `segment`: the part.
    confidences: of each entity of its answers, from 0 to 1; with offsets into the whole text.
    level: that of the answers, which says what the format could write.
    """

    format: Format
    labels: frozenset[str]
    segment: Span
    confidences: Mapping[Entity, float]
    level: Level = Level.FAITHFUL

    def concerns(self, entity: Entity) -> bool:
        """Whether it was asked for such an entity at this place."""
        start, end = self.segment
        return entity.label in self.labels and start <= entity.start and entity.end <= end

    def can_say(self, entity: Entity, view: View) -> bool:
        """Whether its format can write the entity, taken by itself.

        Parameters
        ----------
        view: of the segment, as it was shown.
        """
        shown = Document("", view.text, (view.in_line(entity),))
        kept, _ = self.format.expressible(shown, sorted(self.labels), self.level)
        return bool(kept)


@dataclass(frozen=True)
class Agreed:
    """An entity that came out of several answers.

    Attributes
    ----------
    score: from 0 to 1, see above. `by_format`: how sure each format was, 0 where it has it not.
    """

    entity: Entity
    score: float
    by_format: Mapping[str, float]


@dataclass(frozen=True)
class Agreement:
    """How the answers in several formats are put together.

    Parameters
    ----------
    weights: how good each format is, by its name; 1 where there is none.
    vote: count the formats that have an entity, whatever they are worth, and however sure.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    vote: bool = False

    def settled(self, ballots: Sequence[Ballot], text: str) -> list[Agreed]:
        """The entities that stay, of those that overlap; the best of each part of the text first.

        Parameters
        ----------
        ballots: about the same labels, all of them in the terms of one data set.
        text: the whole of it.
        """
        return [one for part in _parts(ballots) for one in self._settled(part, text)]

    def _settled(self, ballots: Sequence[Ballot], text: str) -> list[Agreed]:
        every = dict.fromkeys(entity for ballot in ballots for entity in ballot.confidences)
        views = [view_of(text, ballot.segment) for ballot in ballots]
        scored = [self._scored(entity, ballots, views) for entity in every]
        if self.vote:
            scored = [one for one in scored if one.score > MAJORITY]
        kept: list[Agreed] = []
        for one in sorted(scored, key=lambda one: (-one.score, one.entity.key)):
            rivals = (other for other in kept if one.entity.overlaps(other.entity))
            if all(_together(one.entity, rival.entity, ballots) for rival in rivals):
                kept.append(one)
        return kept

    def _scored(self, entity: Entity, ballots: Sequence[Ballot], views: Sequence[View]) -> Agreed:
        total = weights = 0.0
        by_format: dict[str, float] = {}
        for ballot, view in zip(ballots, views, strict=True):
            has = entity in ballot.confidences
            if not has and not (ballot.concerns(entity) and ballot.can_say(entity, view)):
                continue
            name = ballot.format.name
            by_format[name] = ballot.confidences.get(entity, 0.0)
            weight = 1.0 if self.vote else self.weights.get(name, 1.0)
            weights += weight
            total += weight * (float(has) if self.vote else by_format[name])
        return Agreed(entity, total / weights if weights else 0.0, by_format)


def _parts(ballots: Iterable[Ballot]) -> Iterator[list[Ballot]]:
    """The ballots about each part of a text: segments of different parts do not overlap.

    A long document would else be compared with itself, entity by entity.
    """
    part: list[Ballot] = []
    end = 0
    for ballot in sorted(ballots, key=lambda ballot: ballot.segment):
        if part and ballot.segment[0] >= end:
            yield part
            part = []
        part.append(ballot)
        end = max(end, ballot.segment[1])
    if part:
        yield part


def _together(one: Entity, other: Entity, ballots: Iterable[Ballot]) -> bool:
    """Whether a format has both of them."""
    return any(one in b.confidences and other in b.confidences for b in ballots)
