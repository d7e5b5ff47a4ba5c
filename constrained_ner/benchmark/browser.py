"""Documents with all their answers, for a reader to look at errors."""

from __future__ import annotations

from typing import Any


def browsable(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the page's script shows: of each way to answer the hits and the false alarms.

    Returns
    -------
    For each document `ways`: from `variant.level` to `hits`, the indices of gold entities that were
    found, `false`, the entities that are not gold, and `error` and `answers` as in the results.
    """
    found = []
    for document in documents:
        gold = [_key(entity) for entity in document["gold"]]
        ways = {}
        for way, answer in document["found"].items():
            predicted = {_key(entity): entity for entity in answer["entities"]}
            ways[way] = {
                "hits": [i for i, key in enumerate(gold) if key in predicted],
                "false": [entity for key, entity in predicted.items() if key not in gold],
                "error": answer["error"],
                "answers": answer["answers"],
            }
        kept = {key: document[key] for key in ("model", "data", "id", "text", "gold")}
        found.append({**kept, "ways": ways})
    return found


def _key(entity: list[Any]) -> tuple[str, tuple[tuple[int, ...], ...]]:
    label, fragments = entity
    return label, tuple(tuple(fragment) for fragment in fragments)
