"""The counts of other projects' evaluation scripts, distortions included, for comparability.

Each begins from our entities, not from a model's raw answer. What each distorts is told in
`docs/evaluation.md`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from operator import attrgetter

from constrained_ner.documents import Entity
from constrained_ner.evaluation.counts import Counts, Metric

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _agreement(gold: set[object], predicted: set[object]) -> Counts:
    both = len(gold & predicted)
    return Counts(len(gold), both, len(predicted), both)


def _normalised(answer: str) -> str:
    """SQuAD's normalisation: no case, no ASCII punctuation, no articles, single spaces."""
    words = answer.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", words).split())


def uniner(text: str, gold: Sequence[Entity], predicted: Sequence[Entity]) -> Counts:
    """UniversalNER's `src/eval/evaluate.py`: for each label, a JSON list of surfaces.

    Surfaces are normalised and count once. The script reads a list up to its first `]`; where
    that stands in a surface, the cut list is no JSON, and the whole list counts as empty.
    """
    return _agreement(_lists(text, gold), _lists(text, predicted))


def _lists(text: str, entities: Sequence[Entity]) -> set[object]:
    cut = {entity.label for entity in entities if "]" in entity.surface(text)}
    return {(e.label, _normalised(e.surface(text))) for e in entities if e.label not in cut}


def instructuie(text: str, gold: Sequence[Entity], predicted: Sequence[Entity]) -> Counts:
    """InstructUIE's `EvaluatorNER`: `label: surface; label: surface`, or `None`, as sets of items.

    An agreed `None` is a hit, and a surface with a semicolon is two items.
    """
    return _agreement(_items(text, gold), _items(text, predicted))


def _items(text: str, entities: Sequence[Entity]) -> set[object]:
    answer = "; ".join(f"{entity.label}: {entity.surface(text)}" for entity in entities) or "None"
    return {_tidied(item) for item in _tidied(answer).split(";")}


def _tidied(answer: str) -> str:
    answer = " ".join(answer.split())
    answer = re.sub(r"\s*([,:().;'_-])\s*", r"\1", answer).lower()
    answer = re.sub(r"[{}]", "", answer)
    answer = re.sub(r"([,.;])\1+", r"\1", answer)
    return answer.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").replace("location", "located")


def gner(text: str, gold: Sequence[Entity], predicted: Sequence[Entity]) -> Counts:
    """GNER's `evaluate.py`: (words, label) read back from flat BIO tags, normalised, each once.

    GNER reports the mean of its data sets' F1.
    """
    return _agreement(_chunks(text, gold), _chunks(text, predicted))


def _chunks(text: str, entities: Sequence[Entity]) -> set[object]:
    """What flat BIO tags over words, which are runs of non-space, hold of the entities.

    An entity is tagged from the word with its first character to the word with its last. Of those
    that overlap the longest in words is tagged, then the first, then the first label.
    """
    words = [match.span() for match in re.finditer(r"\S+", text)]
    runs: list[tuple[list[int], str]] = []
    for entity in sorted(entities, key=attrgetter("key")):
        run = [i for i, (s, e) in enumerate(words) if s < entity.end and entity.start < e]
        runs.append((run, entity.label))
    taken: set[int] = set()
    chunks: set[object] = set()
    for run, label in sorted(runs, key=lambda x: (-len(x[0]), x[0])):
        if run and taken.isdisjoint(run):
            taken.update(run)
            surface = " ".join(text[slice(*words[i])] for i in run)
            chunks.add((_normalised(surface), _normalised(label)))
    return chunks


PARITY: dict[str, Metric] = {"uniner": uniner, "instructuie": instructuie, "gner": gner}
