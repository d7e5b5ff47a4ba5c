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
from constrained_ner.words import Span

# Below it what a place has by the others' votes is more often wrong than right: F1 is flat from
# 0.25 to 0.45 on dev abstracts of BC5CDR and NCBI-disease (benchmarks/results/consistency.json).
LEAST = 0.35


def consistent(
    text: str, probabilities: Mapping[Entity, float], asked: Mapping[str, Iterable[Span]]
) -> dict[Entity, float]:
    """The probabilities after the vote, of the entities that there were and of new ones.

    Places inside another entity, or across its border, have no vote, and discontinuous entities
    stay as they are.

    Parameters
    ----------
    asked: by label the parts of the text that the model was asked about: places elsewhere have no
        vote, either.
    """
    found = dict(probabilities)
    taken = bytearray(len(text))  # 1 where a character is part of an entity
    for start, end in (span for entity in probabilities for span in entity.fragments):
        taken[start:end] = b"\1" * (end - start)
    parts = {label: _Parts(spans) for label, spans in asked.items()}
    same: dict[tuple[str, str], list[Entity]] = defaultdict(list)
    for entity in probabilities:
        if len(entity.fragments) == 1:
            surface = _surface(entity, text)
            key = surface.casefold() if _any_case(surface) else surface
            same[entity.label, key].append(entity)
    places = _Places(text)
    # The surest first: two labels cannot both have a place that is new.
    order = sorted(same, key=lambda key: (-sum(probabilities[e] for e in same[key]), key))
    for label, key in order:
        marked = same[label, key]
        others = [
            span
            for span in places.of(_surface(marked[0], text))
            if label in parts and parts[label].have(span) and taken.find(1, *span) < 0
        ]
        mean = sum(probabilities[entity] for entity in marked) / (len(marked) + len(others))
        for entity in marked:
            found[entity] = mean
        for span in others:
            found[Entity(label, (span,))] = mean
            taken[slice(*span)] = b"\1" * (span[1] - span[0])
    return found


def _surface(entity: Entity, text: str) -> str:
    return " ".join(entity.surface(text).split())


def _any_case(surface: str) -> bool:
    """Whether it is the same however it is written: `Fever` is, `ALL` and `cAMP` are not."""
    return surface[1:] == surface[1:].lower()


class _Places:
    """Where words stand in a text."""

    def __init__(self, text: str):
        self._text = text
        self._starts: dict[str, list[int]] = defaultdict(list)  # of a run of letters and digits
        for match in re.finditer(r"\w+", text):
            self._starts[match[0].casefold()].append(match.start())

    def of(self, surface: str) -> Iterator[Span]:
        """The places of a surface between word boundaries, however its spaces are written."""
        flags = re.IGNORECASE if _any_case(surface) else 0
        words = r"\s+".join(map(re.escape, surface.split()))
        pattern = re.compile(rf"(?<!\w){words}(?!\w)", flags)
        first = re.match(r"\w+", surface)
        if first is None:
            yield from (match.span() for match in pattern.finditer(self._text))
            return
        for start in self._starts.get(first[0].casefold(), ()):
            if match := pattern.match(self._text, start):
                yield match.span()


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
