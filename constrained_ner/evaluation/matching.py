"""Metrics that match gold and predicted entities one to one, in any order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import accumulate

from constrained_ner.documents import Entity
from constrained_ner.evaluation.counts import Counts, Metric

# From the entities of one document to those of them that belong to a subset.
Select = Callable[[Collection[Entity]], set[Entity]]


# ---- label and fragments


def subset(select: Select) -> Metric:
    """Matches by label and fragments, counted for some of the entities only.

    Gold entities are chosen among the gold ones and count for recall, predicted entities are
    chosen among the predicted ones and count for precision. An entity of the subset is matched
    by the same entity on the other side, whether or not it belongs to the subset there: a nested
    entity that was found counts as found although the outer one was missed.
    """

    def metric(text: str, gold: Sequence[Entity], predicted: Sequence[Entity]) -> Counts:
        matched = Counter(gold) & Counter(predicted)
        wanted, given = select(gold), select(predicted)
        return Counts(
            gold=sum(entity in wanted for entity in gold),
            found=sum(n for entity, n in matched.items() if entity in wanted),
            predicted=sum(entity in given for entity in predicted),
            correct=sum(n for entity, n in matched.items() if entity in given),
        )

    return metric


strict = subset(set)


def of_label(label: str) -> Metric:
    """Entities with this label."""
    return subset(lambda entities: {entity for entity in entities if entity.label == label})


def _nested(entities: Collection[Entity]) -> set[Entity]:
    inner: set[tuple[int, int]] = set()
    reach = 0
    # By start, the longest first: what ends before the furthest end so far lies inside another.
    for start, end in sorted({(e.start, e.end) for e in entities}, key=lambda x: (x[0], -x[1])):
        if end <= reach:
            inner.add((start, end))
        reach = max(reach, end)
    return {entity for entity in entities if (entity.start, entity.end) in inner}


def _discontinuous(entities: Collection[Entity]) -> set[Entity]:
    return {entity for entity in entities if entity.discontinuous}


def _plain(entities: Collection[Entity]) -> set[Entity]:
    return set(entities) - _nested(entities) - _discontinuous(entities)


# Entities whose extent, from first to last character, lies inside that of another entity of any
# label and is not the same. The outer one is not nested unless it lies inside a third.
nested = subset(_nested)
# Entities of several fragments.
discontinuous = subset(_discontinuous)
# Entities that are neither; the outermost of nested ones are plain.
plain = subset(_plain)


# ---- label and text


def text_multiset(text: str, gold: Sequence[Entity], predicted: Sequence[Entity]) -> Counts:
    """Matches by label and surface; a surface counts as often as it is mentioned."""
    wanted, given = _texts(text, gold), _texts(text, predicted)
    return _agreement(wanted, given)


def text_set(text: str, gold: Sequence[Entity], predicted: Sequence[Entity]) -> Counts:
    """Matches by label and surface; a surface counts once in a document."""
    return _agreement(Counter(set(_texts(text, gold))), Counter(set(_texts(text, predicted))))


def _texts(text: str, entities: Iterable[Entity]) -> Counter[tuple[str, str]]:
    # However its lines are wrapped.
    return Counter((e.label, " ".join(e.surface(text).split())) for e in entities)


def _agreement(gold: Counter[tuple[str, str]], predicted: Counter[tuple[str, str]]) -> Counts:
    both = (gold & predicted).total()
    return Counts(gold.total(), both, predicted.total(), both)


# ---- overlap


def overlap(text: str, gold: Sequence[Entity], predicted: Sequence[Entity]) -> Counts:
    """Matches entities of one label that share a character.

    One to one, as many as there can be (a maximum matching), so that one long prediction is not a
    hit for all that it covers.
    """
    pairs = _largest_matching(gold, predicted)
    return Counts(len(gold), pairs, len(predicted), pairs)


def partial(text: str, gold: Sequence[Entity], predicted: Sequence[Entity]) -> Counts:
    """Credit 1 for an exact match and 1/2 for one that shares a character, labels being equal.

    The matching is the one to one matching with the most credit: exact matches first, because
    giving one up frees two halves at best, then a maximum matching of the rest. The credit is
    MUC's (Chinchor and Sundheim 1993), taken up by SemEval-2013 task 9.1 and nervaluate; those
    ignore the label in this score, and nervaluate takes the first match in place of the best.
    """
    matched = Counter(gold) & Counter(predicted)
    rest = _largest_matching(
        list((Counter(gold) - matched).elements()), list((Counter(predicted) - matched).elements())
    )
    credit = matched.total() + rest / 2
    return Counts(len(gold), credit, len(predicted), credit)


def _partners(gold: Sequence[Entity], predicted: Sequence[Entity]) -> list[list[int]]:
    """For each gold entity the predicted ones of its label that share a character with it.

    Only those near it are looked at: a long document has thousands of each.
    """
    found: list[list[int]] = [[] for _ in gold]
    for label in {entity.label for entity in gold}:
        of_label = [j for j, entity in enumerate(predicted) if entity.label == label]
        of_label.sort(key=lambda j: predicted[j].start)
        starts = [predicted[j].start for j in of_label]
        reached = list(accumulate((predicted[j].end for j in of_label), max))
        for partners, entity in zip(found, gold, strict=True):
            if entity.label == label:
                near = slice(bisect_right(reached, entity.start), bisect_left(starts, entity.end))
                partners += [j for j in of_label[near] if entity.overlaps(predicted[j])]
    return found


def _largest_matching(gold: Sequence[Entity], predicted: Sequence[Entity]) -> int:
    """The most pairs, by augmenting paths (Berge 1957)."""
    edges = _partners(gold, predicted)
    of_gold: dict[int, int] = {}
    of_predicted: dict[int, int] = {}
    for root in range(len(gold)):
        came_from: dict[int, int] = {}
        queue = [root]
        free: int | None = None
        for i in queue:
            for j in edges[i]:
                if j not in came_from:
                    came_from[j] = i
                    if j not in of_predicted:
                        free = j
                        break
                    queue.append(of_predicted[j])
            if free is not None:
                break
        while free is not None:  # back along the path, each gold entity gives its partner up
            i = came_from[free]
            of_predicted[free] = i
            of_gold[i], free = free, of_gold.get(i)
    return len(of_gold)


METRICS: dict[str, Metric] = {
    "strict": strict,
    "text_set": text_set,
    "text_multiset": text_multiset,
    "overlap": overlap,
    "partial": partial,
}
