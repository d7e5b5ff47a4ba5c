"""Does it help that a document is of one mind about the same words?

    cner predict abstracts.jsonl --min-confidence 0 --conflicts keep -o found.jsonl
    python -m benchmarks.consistency --gold abstracts.jsonl --found found.jsonl

Sentences are asked about one by one, and a name may be marked in one and passed over in the next.
Here the places of a document where the same words stand vote: each has the probability that it has
by itself, 0 where it was passed over. Either they lift (each place gets the mean of all where that
is higher), or they level (each gets the mean). With --abbreviations a short form and the long form
that it is defined by vote together (Schwartz and Hearst 2003, by the package `abbreviations`).
Places inside another entity have no vote. F1 is strict, the threshold of each half of the documents
is the best one of the other half. Several pairs of --gold and --found are counted one by one.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from constrained_ner.benchmark.together import Asked, Confidences
from constrained_ner.corpora import read
from constrained_ner.documents import Document, Entity
from constrained_ner.evaluation import Counts, paired_test
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.words import Span

from .samples import halves


def agreed(
    text: str,
    probabilities: Confidences,
    asked: Sequence[Span],
    *,
    level: bool = False,
    forms: Mapping[str, str] | None = None,
) -> dict[Entity, float]:
    """The probabilities after the vote, of the entities that there were and of new ones.

    Parameters
    ----------
    asked: the parts of the text that the model was asked about; places elsewhere have no vote.
    level: give each place the mean. `forms`: by short form the long one.
    """
    found = dict(probabilities)
    taken = [span for entity in probabilities for span in entity.fragments]
    same: dict[tuple[str, str], set[str]] = {}
    for entity in probabilities:
        surface = _words(entity, text)
        long = (forms or {}).get(surface, surface)
        key = long.casefold() if _any_case(long) else long
        same.setdefault((entity.label, key), set()).add(surface)
    for short, long in (forms or {}).items():
        for (_, key), surfaces in same.items():
            if key == long.casefold():
                surfaces |= {short, long}
    for (label, _), surfaces in sorted(same.items()):
        places = {
            entity
            for surface in surfaces
            for span in _places(surface, text)
            if (entity := Entity(label, (span,))) in probabilities
            or (_within(span, asked) and not _overlaps(span, taken))
        }
        if len(places) < 2:
            continue
        mean = sum(probabilities.get(entity, 0.0) for entity in places) / len(places)
        for entity in places:
            found[entity] = mean if level else max(found.get(entity, 0.0), mean)
    return found


def _words(entity: Entity, text: str) -> str:
    return " ".join(entity.surface(text).split())


def _any_case(surface: str) -> bool:
    """Whether it is the same however it is written: `Fever` is, `ALL` and `cAMP` are not."""
    return surface[1:] == surface[1:].lower()


def _places(surface: str, text: str) -> Iterator[Span]:
    """Where it stands in the text, between word boundaries."""
    pattern = r"\s+".join(map(re.escape, surface.split()))
    flags = re.IGNORECASE if _any_case(surface) else 0
    for match in re.finditer(rf"(?<!\w){pattern}(?!\w)", text, flags):
        yield match.span()


def _within(span: Span, parts: Sequence[Span]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in parts)


def _overlaps(span: Span, spans: Sequence[Span]) -> bool:
    return any(start < span[1] and span[0] < end for start, end in spans)


def short_forms(text: str) -> dict[str, str]:
    from abbreviations import schwartz_hearst

    found: dict[str, str] = schwartz_hearst.extract_abbreviation_definition_pairs(doc_text=text)
    return {short: " ".join(long.split()) for short, long in found.items()}


def measure(gold: Path, found: Path, *, abbreviations: bool) -> None:
    documents = {one.id: one for one in read(gold) if isinstance(one, Document)}
    with found.open(encoding="utf-8") as file:
        predictions = [Prediction.from_json(json.loads(line)) for line in file]
    labels = frozenset(label for p in predictions for r in p.replies for label in r.labels)
    asked = [Asked(documents[p.id], labels, {}) for p in predictions]
    plain = [p.confidences for p in predictions]
    ways: dict[str, Sequence[Confidences]] = {"each by itself": plain}
    given: list[dict[str, Any]] = [{}, {"level": True}]
    for settings in given:
        name = "level" if settings else "lift"
        for with_forms in (False, True)[: 1 + abbreviations]:
            ways[f"{name}{', short forms' * with_forms}"] = [
                agreed(
                    p.text,
                    p.confidences,
                    [reply.segment for reply in p.replies],
                    forms=short_forms(p.text) if with_forms else None,
                    **settings,
                )
                for p in predictions
            ]
    first: list[Counts] | None = None
    print(f"{found}: {len(asked)} documents, {sum(len(one.gold) for one in asked)} entities")
    for name, scores in ways.items():
        counts = halves(asked, scores)
        first = first or counts
        total = sum(counts, Counts()).scores
        tested = paired_test(first, counts)
        difference = tested and (tested.f1.difference, tested.f1.interval, tested.f1.p)
        print(f"  {name}: {[round(x or 0, 4) for x in total]} {difference}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gold", type=Path, action="append", required=True)
    parser.add_argument("--found", type=Path, action="append", required=True)
    parser.add_argument("--abbreviations", action="store_true")
    given = parser.parse_args()
    for gold, found in zip(given.gold, given.found, strict=True):
        measure(gold, found, abbreviations=given.abbreviations)


if __name__ == "__main__":
    main()
