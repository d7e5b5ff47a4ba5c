"""The completeness law: gold answers pass through the masks."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from constrained_ner.corpora import read
from constrained_ner.documents import Document, Entity
from constrained_ner.engines.models import LanguageModel
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.evaluation.coverage import Checker, Coverage
from constrained_ner.formats import FORMATS, Options, get_format
from constrained_ner.formats.grammar import Grammar, Level
from constrained_ner.pipeline.budget import derived_budget
from constrained_ner.words import tokens

LEVELS = [Level.SYNTAX, Level.FAITHFUL]
LABELS = ("Anatomy", "Chemical", "Disease", "Gene")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("level", LEVELS)
def test_the_samples_pass(
    name: str, level: Level, vocabulary: Vocabulary, samples: list[Document]
) -> None:
    format = get_format(name, Options(max_fragments=3))
    report = Checker(format, LABELS, level, vocabulary).check(samples)
    assert report.passed, report.rejections + report.failed
    assert report.accepted == report.answers == len(samples) * len(format.questions(LABELS))
    assert report.entities == sum(len(document.entities) for document in samples)
    assert report.expressible == report.entities - report.dropped.total()
    assert report.share < 1


class Narrow(type(FORMATS["multi_term"])):  # type: ignore[misc]
    """multi_term with a grammar that lets no second item through."""

    def grammar(self, text: str, labels: tuple[str, ...], level: Level) -> Grammar:
        whole = super().grammar(text, labels, level)
        lines = [
            'more: ""' if line.startswith("more:") else line for line in whole.source.splitlines()
        ]
        narrow: Grammar = replace(whole, source="\n".join(lines))
        return narrow


@pytest.mark.parametrize("level", LEVELS)
def test_a_refused_answer_is_reported_with_its_place(level: Level, vocabulary: Vocabulary) -> None:
    text = "knee pain"
    document = Document("d7", text, (Entity("a", ((0, 4),)), Entity("a", ((5, 9),))))
    report = Checker(Narrow(), ("a",), level, vocabulary).check([document])
    assert not report.passed
    assert report.accepted == 0
    # The token that was refused holds the comma after the first item.
    first = 'Answer: [{"text": "knee", "type": "a"}'
    match = re.match(r"d7: at offset (\d+), after .*: '(.*)'$", report.rejections[0])
    assert match
    assert int(match[1]) <= len(first) < int(match[1]) + len(match[2])


def test_losses_are_counted_by_cause(vocabulary: Vocabulary) -> None:
    text = "knee pain and knee pain"
    document = Document("d", text, (Entity("a", ((14, 18),)),))
    report = Checker(FORMATS["single_term"], ("a",), Level.FAITHFUL, vocabulary).check([document])
    assert report.passed
    assert dict(report.lost) == {"repeated surface, another mention meant": 1}
    report = Checker(FORMATS["single_span"], ("a",), Level.FAITHFUL, vocabulary).check([document])
    assert not report.lost


CORPORA = [
    "anatem/iob_tsv/test.tsv",
    "anatem/original/anatem-1.0.2-standoff.tar.gz",
    "bc2gm/conll/test.tsv",
    "bc5cdr/iob_tsv/test.tsv",
    "genia/nested_iob2/genia.test.iob2",
    "ncbi_disease/iob_tsv/test.tsv",
    "ncbi_disease/ncbi-disease-standoff.tar.gz",
    "pgxcorpus/PGxCorpus.tar",
]


@pytest.mark.parametrize("path", CORPORA)
def test_the_beginning_of_every_corpus_passes(
    path: str, published: Path, smollm2: LanguageModel
) -> None:
    """All of it is for `cner check`; the committed results are in `benchmarks/results`."""
    count = 4 if "standoff" in path else 12
    # An archive may begin with a text that is no document of the corpus.
    annotated = (
        record
        for record in read(published / path)
        if isinstance(record, Document) and record.entities
    )
    documents = list(islice(annotated, count))
    labels = sorted({entity.label for document in documents for entity in document.entities})
    assert labels
    for name in FORMATS:
        format = get_format(name, Options(max_fragments=3 if "pgx" in path else 1))
        for level in LEVELS:
            checker = Checker(format, labels, level, smollm2.vocabulary)
            report: Coverage = checker.check(documents)
            assert report.passed, (name, level, report.rejections, report.failed)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("acute renal failure occurred", ("Anatomy", "Chemical", "Disease", "Gene", "Finding")),
        ("pain", tuple("abcdefghij")),
        ("knee pain", ("L" * 150,)),
        ("knee pain and gout", ("\N{GRINNING FACE}" * 20, "x")),
    ],
)
@pytest.mark.parametrize("name", FORMATS)
def test_the_derived_budget_holds_every_word_with_every_label(
    name: str, text: str, labels: tuple[str, ...], vocabulary: Vocabulary
) -> None:
    format = FORMATS[name]
    for asked in format.questions(labels):
        every = (Entity(label, (word,)) for word in tokens(text) for label in asked)
        document = Document("d", text, tuple(sorted(every, key=lambda entity: entity.key)))
        kept, _ = format.expressible(document, asked, Level.FAITHFUL)
        gold = vocabulary.tokenize(format.encode(replace(document, entities=kept), asked))
        assert kept
        assert len(gold) < derived_budget(format, text, asked, vocabulary)
