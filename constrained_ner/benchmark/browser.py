"""The data of the report's browser, in which a reader looks at documents and their answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from constrained_ner.benchmark.results import ShownAnswer, ShownDocument, entity_to_json
from constrained_ner.documents import Entity


def browsable(documents: Iterable[ShownDocument]) -> list[dict[str, Any]]:
    """Documents as the page's script expects them: hits and false alarms for each way to answer.

    Returns
    -------
    For each document `ways`: from `variant.level` to `hits`, the indices of gold entities that were
    found, `false`, the entities that are not gold, and `error` and `answers` as in the results.
    """
    return [
        {
            "model": document.model,
            "data": document.data,
            "id": document.id,
            "text": document.text,
            "gold": [entity_to_json(entity) for entity in document.gold],
            "ways": {
                str(way): _way(answer, document.gold) for way, answer in document.found.items()
            },
        }
        for document in documents
    ]


def _way(answer: ShownAnswer, gold: tuple[Entity, ...]) -> dict[str, Any]:
    found = dict.fromkeys(answer.entities)
    return {
        "hits": [i for i, entity in enumerate(gold) if entity in found],
        "false": [entity_to_json(entity) for entity in found if entity not in gold],
        "error": answer.error,
        "answers": list(answer.answers),
    }
