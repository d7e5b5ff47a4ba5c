"""The completeness law: gold answers pass through the masks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from constrained_ner.corpora import read
from constrained_ner.documents import Document, Entity
from constrained_ner.engines.models import LoadedModel
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.evaluation.ceiling import ceiling
from constrained_ner.evaluation.coverage import Checker, Coverage
from constrained_ner.evaluation.records import Setting
from constrained_ner.formats import FORMATS, Options, get_format
from constrained_ner.formats.grammar import Grammar, Level
from constrained_ner.formats.multi_term import MultiTerm
from constrained_ner.pipeline.budget import derived_budget
from constrained_ner.words import tokens
from tests.support.matching import reject

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


def long_document(words: int) -> Document:
    """One with mentions at both ends and in the middle, of which one lies in another."""
    text = " ".join(f"w{i % 89}" for i in range(words))
    spans, middle = tokens(text), words // 2

    def entity(label: str, first: int, last: int) -> Entity:
        return Entity(label, ((spans[first][0], spans[last][1]),))

    found = [
        entity("a", 0, 0),
        entity("a", middle, middle + 2),
        entity("b", middle + 1, middle + 1),
    ]
    return Document(f"{words} words", text, (*found, entity("b", words - 2, words - 1)))


@pytest.mark.parametrize("words", [50, 750])
@pytest.mark.parametrize("name", FORMATS)
def test_long_texts_pass(name: str, words: int, vocabulary: Vocabulary) -> None:
    document = long_document(words)
    report = Checker(FORMATS[name], ("a", "b"), Level.FAITHFUL, vocabulary).check([document])
    assert report.passed, report.rejections + report.failed
    assert report.accepted == len(FORMATS[name].questions(("a", "b")))
    assert report.expressible == report.entities == 4


@pytest.mark.parametrize("name", FORMATS)
def test_texts_of_3000_words_pass(name: str) -> None:
    """By bytes: masks of the span formats take a second each."""
    format, document = FORMATS[name], long_document(3000)
    labels = format.questions(("b", "a"))[0]
    asked = [entity for entity in document.entities if entity.label in labels]
    gold = replace(document, entities=tuple(asked))
    answer = format.encode(gold, labels, Level.FAITHFUL)
    assert reject(format.grammar(document.text, labels, Level.FAITHFUL), answer) is None


@pytest.mark.parametrize("name", ["multi_term", "multi_triple", "multi_brat", "multi_tag"])
def test_mentions_in_a_text_without_a_grammar_are_not_expressible(
    name: str, vocabulary: Vocabulary
) -> None:
    short, long = long_document(50), long_document(760)
    options = Options(max_fragments=4)
    format = get_format(name, options)
    report = Checker(format, ("a", "b"), Level.FAITHFUL, vocabulary).check([short, long])
    highest = ceiling([short, long], ("a", "b"), Setting(name, Level.FAITHFUL, options))
    assert report.entities == highest.entities == 8
    if name == "multi_tag":  # it has no fragments
        assert report.expressible == highest.expressible == 8
        return
    assert report.answers == report.accepted == 1
    assert report.expressible == highest.expressible == 4
    causes = {"the text is too long for surfaces of 4 fragments": 4}
    assert report.dropped == highest.dropped == causes
    assert not report.passed
    assert re.match(
        f"760 words: {name}: .* 760 words are 1519 units, and at most 1500", report.failed[0]
    )


class Refused(MultiTerm):
    """multi_term with a grammar that the engine does not take."""

    def grammar(self, text: str, labels: Sequence[str], level: Level) -> Grammar:
        return replace(super().grammar(text, labels, level), source="start: nowhere\n")


@pytest.mark.parametrize("level", LEVELS)
def test_a_grammar_that_the_engine_refuses_expresses_nothing(
    level: Level, vocabulary: Vocabulary
) -> None:
    report = Checker(Refused(), ("a", "b"), level, vocabulary).check([long_document(50)])
    assert (report.entities, report.expressible, report.answers) == (4, 0, 0)
    assert report.dropped == {"the engine refuses the grammar": 4}
    assert "refuses" in report.failed[0]


class Narrow(MultiTerm):
    """multi_term with a grammar that lets no second item through."""

    def grammar(self, text: str, labels: Sequence[str], level: Level) -> Grammar:
        whole = super().grammar(text, labels, level)
        lines = [
            'more: ""' if line.startswith("more:") else line for line in whole.source.splitlines()
        ]
        return replace(whole, source="\n".join(lines))


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
    path: str, published: Path, smollm2: LoadedModel
) -> None:
    """All of it is for `cner check`; the committed results are in `benchmarks/results`."""
    count = 1 if "standoff" in path else 6  # whole abstracts, or sentences
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
