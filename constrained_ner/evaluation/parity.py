"""The counts of other projects' evaluation scripts, with all that these scripts distort.

They are for comparison with published figures. Each begins from our entities, not from a model's
raw answer. `docs/evaluation.md` says what each of them distorts.
"""

from __future__ import annotations

import re
import string
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from constrained_ner.documents import Entity
from constrained_ner.evaluation.counts import Counts, Metric
from constrained_ner.words import tokens

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

    Surfaces are normalised, and each counts once. The script reads a list up to its first `]`.
    Where that one stands in a surface, what was read is no JSON, and the list counts as empty.
    """
    return _agreement(_lists(text, gold), _lists(text, predicted))


def _lists(text: str, entities: Sequence[Entity]) -> set[object]:
    cut = {entity.label for entity in entities if "]" in entity.surface(text)}
    return {(e.label, _normalised(e.surface(text))) for e in entities if e.label not in cut}


def instructuie(text: str, gold: Sequence[Entity], predicted: Sequence[Entity]) -> Counts:
    """InstructUIE's `EvaluatorNER`: `label: surface; label: surface`, or `None`, as sets of items.

    `None` on both sides is a hit, and a surface with a semicolon is two items.
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
    """GNER's `evaluate.py`: (words, label) pairs, read back from flat BIO tags and normalised.

    Each pair counts once. GNER reports the mean of its data sets' F1.
    """
    return _agreement(_chunks(text, gold), _chunks(text, predicted))


def _chunks(text: str, entities: Sequence[Entity]) -> set[object]:
    """What is left of the entities in flat BIO tags, one for each word (run of non-space).

    An entity is tagged from the word with its first character to the word with its last one. Of
    entities that share a word one can be tagged: the longest in words, then the first, then that
    with the first label. GNER has no rule for them, since its data are flat.
    """
    words = tokens(text)
    starts, ends = [start for start, _ in words], [end for _, end in words]
    runs = [
        (range(bisect_right(ends, entity.start), bisect_left(starts, entity.end)), entity.label)
        for entity in entities
    ]
    taken: set[int] = set()
    chunks: set[object] = set()
    for run, label in sorted(
        runs, key=lambda tagged: (-len(tagged[0]), tagged[0].start, tagged[1])
    ):
        if run and taken.isdisjoint(run):
            taken.update(run)
            surface = " ".join(text[slice(*words[i])] for i in run)
            chunks.add((_normalised(surface), _normalised(label)))
    return chunks


PARITY: dict[str, Metric] = {"uniner": uniner, "instructuie": instructuie, "gner": gner}
