"""Predictions beside gold: which document goes with which record, and what goes with none."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from constrained_ner.corpora import corpus_name, read, readable
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError
from constrained_ner.evaluation.records import Record, read_predictions
from constrained_ner.words import shared_prefix

Pair = tuple[str, tuple[Entity, ...], tuple[Entity, ...]]


@dataclass(frozen=True)
class DataSet:
    """Gold documents, and the prediction for each; None where there is none.

    Attributes
    ----------
    failed: why predictions failed. `extra`: ids of predictions without a gold document.
    broken: records of either side that cannot be read.
    """

    name: str
    gold: tuple[Document, ...]
    predictions: tuple[Record | None, ...]
    failed: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    broken: tuple[InputError, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids of gold documents without a prediction."""
        both = zip(self.gold, self.predictions, strict=True)
        return tuple(document.id for document, record in both if record is None)

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of gold and predictions, sorted."""
        return tuple(
            sorted({e.label for _, gold, predicted in self.pairs() for e in gold + predicted})
        )

    def pairs(self, labels: Sequence[str] | None = None) -> list[Pair]:
        """Text, gold and predicted entities of each document, those of the labels only."""

        def chosen(entities: tuple[Entity, ...]) -> tuple[Entity, ...]:
            return tuple(e for e in entities if labels is None or e.label in labels)

        return [
            (
                document.text,
                chosen(document.entities),
                chosen(record.document.entities) if record and record.document else (),
            )
            for document, record in zip(self.gold, self.predictions, strict=True)
        ]


def pair(
    name: str,
    gold: Iterable[Document | InputError],
    predictions: Iterable[Record | InputError],
    *,
    ignore_extra: bool = False,
) -> DataSet:
    """Pair by id; the k-th document with an id goes with the k-th prediction with that id.

    Ids that readers make of a file's name are compared without the name, see `_keys`.

    Parameters
    ----------
    name: of the data set, for reports.
    ignore_extra: leave out predictions without a gold document.

    Raises
    ------
    InputError: a prediction has no gold document, or is about another text; or none has one.
    """
    broken: list[InputError] = []
    documents = list(readable(gold, broken))
    records = list(readable(predictions, broken))
    failed = tuple(
        f"{r.id}: {r.error}" if r.id else r.error for r in records if r.error is not None
    )
    found, left = _beside(documents, records)
    for document, record in zip(documents, found, strict=True):
        if record and record.document:
            _check_text(document, record.document)
    extra = tuple(record.id for record in left if record.document is not None)
    foreign = bool(documents and any(record.id for record in records)) and not any(found)
    if foreign or (extra and not ignore_extra):
        unread = f"; {len(broken)} records cannot be read, first {broken[0]}" if broken else ""
        otherwise = ", or --ignore-extra" if any(found) else ", with the same ids"
        raise InputError(
            f"{name}: {len(left)} predictions have no gold document: "
            f"{shorten([record.id for record in left])}: expected "
            f"the same documents on both sides{otherwise}{unread}"
        )
    return DataSet(name, tuple(documents), tuple(found), failed, extra, tuple(broken))


def beside_gold(
    records: Iterable[Record | InputError], gold: Iterable[Document]
) -> list[tuple[Record | InputError, Document | None]]:
    """Records in their order, each with its gold document where there is one; see `pair`.

    Raises
    ------
    InputError: a prediction is about another text, or none has a gold document.
    """
    shown, documents = list(records), list(gold)
    readable = [record for record in shown if isinstance(record, Record)]
    found, _ = _beside(readable, documents)
    if documents and readable and not any(found):
        raise InputError(
            f"none of the documents is in the gold annotation: {shorten([r.id for r in readable])} "
            f"on one side, {shorten([d.id for d in documents])} on the other: expected the same ids"
        )
    of_record = iter(found)
    pairs = [(one, next(of_record) if isinstance(one, Record) else None) for one in shown]
    for record, document in pairs:
        if document and isinstance(record, Record) and record.document:
            _check_text(document, record.document)
    return pairs


R = TypeVar("R", Document, Record)
S = TypeVar("S", Document, Record)


def _beside(one: Sequence[R], other: Sequence[S]) -> tuple[list[S | None], list[S]]:
    """For each of one side what goes with it on the other, and what is left there."""
    keys, other_keys = _keys([each.id for each in one], [each.id for each in other])
    waiting: dict[str, deque[S]] = defaultdict(deque)
    for key, each in zip(other_keys, other, strict=True):
        waiting[key].append(each)
    found: list[S | None] = []
    for key in keys:
        queue = waiting.get(key)
        found.append(queue.popleft() if queue else None)
    return found, [each for queue in waiting.values() for each in queue]


def _keys(one: list[str], other: list[str]) -> tuple[list[str], list[str]]:
    """What to pair by: ids; or only their numbers, where ids have to differ.

    A document without an id of its own is called after its file, `gold:7`, and a file that is one
    document has its name. Where all ids of both sides are so, and no id is on both sides, the names
    say nothing. Whether the texts are the same is checked all the same.
    """
    if not set(one) & set(other):
        numbers, other_numbers = _numbers(one), _numbers(other)
        if numbers and other_numbers:
            return numbers, other_numbers
    return one, other


def _numbers(ids: list[str]) -> list[str] | None:
    """Of ids that are one name and a number; the same for a single id without one; else None."""
    if len(ids) == 1 and ids[0] and ":" not in ids[0]:
        return ["1"]
    parts = [id.rpartition(":") for id in ids]
    one_name = len({name for name, _, _ in parts}) == 1
    if one_name and all(name and number.isdecimal() for name, _, number in parts):
        return [number for _, _, number in parts]
    return None


def shorten(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more


def _check_text(gold: Document, predicted: Document) -> None:
    a, b = gold.text, predicted.text
    if a != b:
        at = shared_prefix(a, b)
        raise InputError(
            f"document {gold.id!r}: the texts of gold and prediction differ at offset {at}: "
            f"{a[at : at + 20]!r} and {b[at : at + 20]!r}: expected the same text"
        )


def load(
    gold: Path,
    predictions: Path,
    gold_format: str | None = None,
    prediction_format: str | None = None,
    *,
    ignore_extra: bool = False,
) -> DataSet:
    """Read and pair two files; see `pair`."""
    return pair(
        corpus_name(gold),
        read(gold, gold_format),
        read_predictions(predictions, prediction_format),
        ignore_extra=ignore_extra,
    )


def pool(data_sets: Sequence[DataSet]) -> DataSet:
    """One data set of all their documents."""
    return DataSet(
        "pooled",
        tuple(document for data in data_sets for document in data.gold),
        tuple(record for data in data_sets for record in data.predictions),
        tuple(reason for data in data_sets for reason in data.failed),
        tuple(id for data in data_sets for id in data.extra),
        tuple(error for data in data_sets for error in data.broken),
    )
