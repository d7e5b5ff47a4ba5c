"""How well are texts cut into sentences: by this package, and by others?

    pip install constrained_ner PyRuSH pysbd syntok      # in an environment of its own
    python -m benchmarks.splitters CORPORA -o benchmarks/results/splitters.json

CORPORA is a folder with the corpora as they are distributed; the paths below are looked for in it.
PyRuSH needs an older spaCy than this package's extra does, whence the environment.

A boundary is where a sentence begins, but for the first of a text. Of GENIA's abstracts (train and
dev), put together again from their sentences by single spaces, and of the notes of this package all
boundaries are known. Between the cells of a table none is counted, right or wrong: of the others
nobody expects them. The abstracts of BC5CDR and NCBI-disease (train) have gold entities only: one
that a boundary divides is lost.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import constrained_ner
from benchmarks.page import put
from constrained_ner.atomic import write_json
from constrained_ner.corpora import read
from constrained_ner.documents import Document, Entity
from constrained_ner.pipeline.segments import sentences
from constrained_ner.words import Span, trimmed

from .machine import circumstances

GENIA, SENTENCES = "genia/GENIAcorpus3.02.tgz", 16_692  # of train and dev; test follows
ABSTRACTS = {
    "BC5CDR": "bc5cdr/pubtator/CDR_TrainingSet.PubTator.txt",
    "NCBI-disease": "ncbi_disease/pubtator/NCBItrainset_corpus.txt",
}
NOTES = Path(constrained_ner.__file__).parent / "samples" / "notes.jsonl"
_BEFORE_CELL = re.compile(r"(?:\t| {3})\s*\Z")
PACKAGES = ("constrained_ner", "sentencex", "PyRuSH", "pysbd", "syntok", "spacy")

Splitter = Callable[[str], Iterable[Span]]

# ---- the splitters


def _ours() -> Splitter:
    return sentences


def _sentencex() -> Splitter:
    from sentencex import get_sentence_boundaries

    def split(text: str) -> Iterator[Span]:
        for found in get_sentence_boundaries("en", text):
            yield found["start_index"], found["end_index"]

    return split


def _pyrush() -> Splitter:
    import PyRuSH
    from loguru import logger

    logger.disable("PyRuSH")
    rules = Path(PyRuSH.__file__).parent.parent / "conf" / "rush_rules.tsv"
    rush = PyRuSH.RuSH(str(rules))

    def split(text: str) -> Iterator[Span]:
        for found in rush.segToSentenceSpans(text):
            yield found.begin, found.end

    return split


def _pysbd() -> Splitter:
    from pysbd import Segmenter

    segmenter = Segmenter(language="en", clean=False, char_span=True)

    def split(text: str) -> Iterator[Span]:
        for found in segmenter.segment(text):
            yield found.start, found.end

    return split


def _syntok() -> Splitter:
    from syntok.segmenter import analyze

    def split(text: str) -> Iterator[Span]:
        for paragraph in analyze(text):  # `process` loses the offsets
            for found in paragraph:
                yield found[0].offset, found[-1].offset + len(found[-1].value)

    return split


def _spacy() -> Splitter:
    from spacy.lang.en import English

    nlp = English()
    nlp.add_pipe("sentencizer")

    def split(text: str) -> Iterator[Span]:
        for found in nlp(text).sents:
            yield found.start_char, found.end_char

    return split


SPLITTERS: Mapping[str, Callable[[], Splitter]] = {
    "constrained_ner": _ours,
    "sentencex": _sentencex,
    "PyRuSH": _pyrush,
    "pySBD": _pysbd,
    "syntok": _syntok,
    "spaCy sentencizer": _spacy,
}

# ---- the texts


@dataclass(frozen=True)
class Text:
    """A text and its gold entities.

    Attributes
    ----------
    starts: the offsets where its sentences begin, but for the first; None where they are not known.
    cells: those of cells of tables behind others.
    """

    text: str
    starts: frozenset[int] | None
    entities: tuple[Entity, ...]
    cells: frozenset[int] = frozenset()


def _known(path: Path, most: int | None = None) -> list[Document]:
    return [record for record in islice(read(path), most) if isinstance(record, Document)]


def genia(corpora: Path) -> Iterator[Text]:
    """Abstracts, put together from their sentences; the title is one of them."""
    documents = _known(corpora / GENIA, SENTENCES)
    for _, found in groupby(documents, key=lambda document: document.id.rpartition(":")[0]):
        text, starts, entities = "", [], []
        for sentence in found:
            at = len(text)
            starts.append(at)
            text += sentence.text + " "
            for entity in sentence.entities:
                fragments = tuple((at + start, at + end) for start, end in entity.fragments)
                entities.append(Entity(entity.label, fragments))
        yield Text(text.rstrip(), frozenset(starts[1:]), tuple(entities))


def notes() -> Iterator[Text]:
    """The notes of this package, with the boundaries beside them."""
    gold = [json.loads(line)["segments"] for line in NOTES.read_text("utf-8").splitlines()]
    for document, segments in zip(_known(NOTES), gold, strict=True):
        starts = frozenset(segment["start"] for segment in segments[1:])
        cells = frozenset(at for at in starts if _BEFORE_CELL.search(document.text[:at]))
        yield Text(document.text, starts, document.entities, cells)


def abstracts(path: Path) -> Iterator[Text]:
    for document in _known(path):
        yield Text(document.text, None, document.entities)


# ---- what is counted


def starts_of(text: str, spans: Iterable[Span]) -> frozenset[int]:
    """Where sentences begin, but for the first."""
    found = [span for span in (trimmed(text, *span) for span in spans) if span]
    return frozenset(start for start, _ in found[1:])


def row(texts: list[Text], split: Splitter) -> dict[str, Any]:
    """One splitter on some texts."""
    began = perf_counter()
    found = [starts_of(text.text, split(text.text)) for text in texts]
    seconds = perf_counter() - began
    hits = predicted = gold = cells = cut = 0
    for text, starts in zip(texts, found, strict=True):
        if text.starts is not None:
            counted = starts - text.cells
            hits += len(counted & text.starts)
            predicted += len(counted)
            gold += len(text.starts - text.cells)
            cells += len(starts & text.cells)
        cut += sum(any(e.start < at < e.end for at in starts) for e in text.entities)
    counts: dict[str, Any] = {"boundaries": sum(map(len, found)), "entities_cut": cut}
    if gold:
        counts |= {
            "gold": gold,
            "cells": cells,
            "precision": round(hits / max(1, predicted), 4),
            "recall": round(hits / gold, 4),
            "f1": round(2 * hits / (predicted + gold), 4),
        }
    counts["characters_per_second"] = round(sum(len(t.text) for t in texts) / seconds)
    return counts


def write_table(result: dict[str, Any]) -> None:
    """The table of docs/measurements.md."""
    data = result["data"]
    known = [name for name in data if data[name]["boundaries_known"]]
    heads = ["splitter", *(f"{name}: P / R / F1" for name in known)]
    heads += [*(f"{name}: cut" for name in data), "million characters of notes a second"]
    rows = []
    for splitter in result["splitters"]:
        of = {name: data[name]["rows"][splitter] for name in data}
        scores = [
            " / ".join(f"{100 * of[name][key]:.1f}" for key in ("precision", "recall", "f1"))
            for name in known
        ]
        cut = [str(of[name]["entities_cut"]) for name in data]
        speed = of["notes"]["characters_per_second"] / 1e6
        rows.append([splitter, *scores, *cut, f"{speed:.2f}"])
    put("splitters", heads, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--page", action="store_true", help="write the table into the docs")
    arguments = parser.parse_args()

    texts = {"notes": list(notes()), "GENIA": list(genia(arguments.corpora))}
    for name, path in ABSTRACTS.items():
        texts[name] = list(abstracts(arguments.corpora / path))
    result: dict[str, Any] = {
        **circumstances(PACKAGES),
        "python": platform.python_version(),
        "splitters": list(SPLITTERS),
        "data": {
            name: {
                "texts": len(some),
                "cells": sum(len(text.cells) for text in some),
                "entities": sum(len(text.entities) for text in some),
                "boundaries_known": some[0].starts is not None,
                "rows": {},
            }
            for name, some in texts.items()
        },
    }
    for splitter, make in SPLITTERS.items():
        split = make()
        for name, some in texts.items():
            counts = row(some, split)
            result["data"][name]["rows"][splitter] = counts
            print(splitter, name, counts, flush=True)
    if arguments.output:
        write_json(result, arguments.output)
    if arguments.page:
        write_table(result)


if __name__ == "__main__":
    main()
