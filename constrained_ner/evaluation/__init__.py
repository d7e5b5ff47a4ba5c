"""Metrics: from gold and predicted entities to counts, scores, intervals and tests.

A metric takes a text, its gold and its predicted entities, and returns `Counts`. Counts add up:
over documents to micro scores, and in `resampling` over resampled documents to intervals.
"""

from constrained_ner.evaluation.counts import Counts, Metric, Scores, average
from constrained_ner.evaluation.matching import (
    METRICS,
    discontinuous,
    nested,
    of_label,
    overlap,
    partial,
    plain,
    strict,
    subset,
    text_multiset,
    text_set,
)
from constrained_ner.evaluation.parity import PARITY, gner, instructuie, uniner
from constrained_ner.evaluation.resampling import Difference, intervals, paired_test

__all__ = [
    "METRICS",
    "PARITY",
    "Counts",
    "Difference",
    "Metric",
    "Scores",
    "average",
    "discontinuous",
    "gner",
    "instructuie",
    "intervals",
    "nested",
    "of_label",
    "overlap",
    "paired_test",
    "partial",
    "plain",
    "strict",
    "subset",
    "text_multiset",
    "text_set",
    "uniner",
]
