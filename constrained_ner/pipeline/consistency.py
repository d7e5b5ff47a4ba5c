"""A document is of one mind about the same words.

Sentences are asked about one by one, and a name may be marked in one and passed over in the next.
Here the places of a document where the same words stand vote: each gets the mean of their
probabilities, 0 where they were passed over. So a name that is marked in two places of three is
found in the third one, too, and a slip in one of ten is left out.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from constrained_ner.documents import Entity
from constrained_ner.pipeline.view import view_of
from constrained_ner.words import Span, on_boundaries, units

# Below it what a place has by the others' votes is more often wrong than right.
LEAST = 0.35
_SYMBOL = 3  # letters at most, of a word such as `As` or `Ras`


def consistent(
    text: str, probabilities: Mapping[Entity, float], asked: Mapping[str, Iterable[Span]]
) -> dict[Entity, float]:
    """The probabilities after the vote, of the entities that there were and of new ones.

    Where words were passed over inside another entity, or across its border, they have no vote,
    longer words included that are there by a vote; discontinuous entities stay as they are. A place
    that only another label has goes to the more probable one.

    Parameters
    ----------
    asked: by label the parts of the text that the model was asked about: places elsewhere have no
        vote, either.
    """
    taken = bytearray(len(text))  # 1 where a character is part of an entity
    for start, end in (span for entity in probabilities for span in entity.fragments):
        taken[start:end] = b"\1" * (end - start)
    parts = {label: _Parts(spans) for label, spans in asked.items()}
    places = _Places(text)
    known = {entity.fragments[0] for entity in probabilities if len(entity.fragments) == 1}
    found = {e: p for e, p in probabilities.items() if len(e.fragments) > 1}
    marks: dict[Span, list[tuple[float, str]]] = defaultdict(list)
    others: dict[Span, list[tuple[float, str]]] = defaultdict(list)  # by those who passed it over
    longest_first = sorted(_groups(text, probabilities), key=lambda one: -_length(one[1][0]))
    for label, marked, any_case in longest_first:
        here = {entity.fragments[0] for entity in marked}
        passed_over: list[Span] = []
        for span in places.of(_surface(marked[0], text), any_case=any_case):
            free = span in known or taken.find(1, *span) < 0
            apart = not passed_over or passed_over[-1][1] <= span[0]
            if span not in here and free and apart and label in parts and parts[label].have(span):
                passed_over.append(span)
        mean = sum(probabilities[e] for e in marked) / (len(marked) + len(passed_over))
        for entity in marked:
            marks[entity.fragments[0]].append((mean, label))
        for start, end in passed_over:
            others[start, end].append((mean, label))
            taken[start:end] = b"\1" * (end - start)
        known.update(passed_over)
    for span in marks.keys() | others.keys():
        here_marked = marks.get(span, [])
        new = max(others.get(span, ()), default=None)
        if new is not None and all(new[0] > mean for mean, _ in here_marked):
            here_marked = [new]
        found |= {Entity(label, (span,)): mean for mean, label in here_marked}
    return found


def _groups(text: str, entities: Iterable[Entity]) -> Iterator[tuple[str, list[Entity], bool]]:
    """Entities of the same label and words, and whether these are the same in any case.

    They are where one of them is written in small letters, but for the first of each word: `Fever`
    and then `FEVER`, too. `ALL` and `cAMP` by themselves are names, which are written one way, and
    so are `As` and `Ras`, or arsenic would be sought in each `as`.
    """
    same: dict[tuple[str, str], list[Entity]] = defaultdict(list)
    for entity in entities:
        if len(entity.fragments) == 1:
            same[entity.label, _surface(entity, text).casefold()].append(entity)
    for (label, _), marked in same.items():
        if any(_is_plain(_surface(entity, text)) for entity in marked):
            yield label, marked, True
            continue
        spelt: dict[str, list[Entity]] = defaultdict(list)
        for entity in marked:
            spelt[_surface(entity, text)].append(entity)
        for alike in spelt.values():
            yield label, alike, False


def _length(entity: Entity) -> int:
    return entity.end - entity.start


def _surface(entity: Entity, text: str) -> str:
    """As a model is shown it, on one line."""
    return view_of(entity.surface(text)).text


def _is_plain(surface: str) -> bool:
    """Whether it is written in small letters, but for the first of words that are no symbols."""
    return all(
        word == word.lower() or (word[1:] == word[1:].lower() and len(word) > _SYMBOL)
        for word in surface.split()
    )


class _Places:
    """Where words stand in a text, however its lines are wrapped."""

    def __init__(self, text: str):
        self._view = view_of(text)
        self._starts: dict[str, list[int]] = defaultdict(list)  # of a word, or another character
        for start, end in units(self._view.text):
            self._starts[self._view.text[start:end].casefold()].append(start)

    def of(self, surface: str, *, any_case: bool) -> Iterator[Span]:
        """The places in the text of a surface on one line, between word boundaries."""
        if not surface:  # of white space, as an answer without a mask may have it
            return
        pattern = re.compile(re.escape(surface), re.IGNORECASE if any_case else 0)
        first = surface[slice(*units(surface)[0])]
        for start in self._starts.get(first.casefold(), ()):
            match = pattern.match(self._view.text, start)
            if match and on_boundaries(*match.span(), self._view.text):
                yield self._view.span(*match.span())


class _Parts:
    """Parts of a text."""

    def __init__(self, spans: Iterable[Span]):
        ordered = sorted(spans)
        self._starts = [start for start, _ in ordered]
        self._ends = list(accumulate((end for _, end in ordered), max))  # the last one so far

    def have(self, span: Span) -> bool:
        """Whether one of them has all of it."""
        at = bisect_right(self._starts, span[0]) - 1
        return at >= 0 and span[1] <= self._ends[at]
