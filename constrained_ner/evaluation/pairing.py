"""Predictions beside gold: which document goes with which record, and what goes with none."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constrained_ner.corpora import read
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError
from constrained_ner.evaluation.records import Paired, Record, read_predictions

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

    Parameters
    ----------
    name: of the data set, for reports.
    ignore_extra: leave out predictions without a gold document.

    Raises
    ------
    InputError: a prediction has no gold document, or is about another text.
    """
    broken: list[InputError] = []
    failed: list[str] = []
    waiting: dict[str, deque[Record]] = defaultdict(deque)
    for record in predictions:
        if isinstance(record, InputError):
            broken.append(record)
            continue
        waiting[record.id].append(record)
        if record.error is not None:
            failed.append(f"{record.id}: {record.error}" if record.id else record.error)
    documents: list[Document] = []
    found: list[Record | None] = []
    for document in gold:
        if isinstance(document, InputError):
            broken.append(document)
            continue
        queue = waiting.get(document.id)
        paired = queue.popleft() if queue else None
        if paired and paired.document:
            _check_text(document, paired.document)
        documents.append(document)
        found.append(paired)
    extra = [r.id for queue in waiting.values() for r in queue if r.document is not None]
    if extra and not ignore_extra:
        unread = f"; {len(broken)} records cannot be read, first {broken[0]}" if broken else ""
        raise InputError(
            f"{name}: {len(extra)} predictions have no gold document: {shorten(extra)}: expected "
            f"the same documents on both sides, or --ignore-extra{unread}"
        )
    return DataSet(name, tuple(documents), tuple(found), tuple(failed), tuple(extra), tuple(broken))


def beside_gold(
    records: Iterable[Paired], gold: Iterable[Document]
) -> Iterator[tuple[Mapping[str, Any], Document | None]]:
    """Records as files have them, each with its gold document where there is one; see `pair`.

    Raises
    ------
    InputError: a prediction is about another text.
    """
    waiting: dict[str, deque[Document]] = defaultdict(deque)
    for document in gold:
        waiting[document.id].append(document)
    for record, value in records:
        queue = waiting.get(record.id) if isinstance(record, Record) else None
        of_gold = queue.popleft() if queue else None
        if of_gold and isinstance(record, Record) and record.document:
            _check_text(of_gold, record.document)
        yield value, of_gold


def shorten(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _check_text(gold: Document, predicted: Document) -> None:
    a, b = gold.text, predicted.text
    if a != b:
        at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
        at = min(len(a), len(b)) if at is None else at
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
        gold.name,
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
