"""Answers that say the same again and again are closed, and no other ones."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_ner.documents import Entity
from constrained_ner.engines.base import Answer, Request
from constrained_ner.engines.completion import complete, shortest_answer
from constrained_ner.engines.models import LoadedModel
from constrained_ner.engines.reference import generate
from constrained_ner.engines.sequence import ConstrainedSequence
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import CnerError
from constrained_ner.formats import FORMATS, Format, Options, get_format
from constrained_ner.formats.families.terms import SurfaceFormat
from constrained_ner.formats.grammar import Grammar, Level, RepetitionGuard
from constrained_ner.formats.repetition import REPEATS
from tests.support.models import tiny
from tests.support.steered import Led, LedSpeculative
from tests.support.strategies import cases, examples

TERMS = [name for name, format in FORMATS.items() if isinstance(format, SurfaceFormat)]
CONTIGUOUS: dict[str, Format] = {
    **{name: FORMATS[name] for name in [*TERMS, "multi_brat"]},
    "multi_brat by offsets": get_format("multi_brat", Options(anchor="offsets")),
    "multi_bio": get_format("multi_bio", Options(words="fine")),
}
FRAGMENTED: dict[str, Format] = {
    f"{name} of fragments": get_format(name, Options(max_fragments=2))
    for name in [*TERMS, "multi_brat"]
}
GUARDED = CONTIGUOUS | FRAGMENTED
TEXT = 'Asthma; "asthma"\nand knee pain, asthma.'
ENDS = re.compile(r'["}\n]|$')


def asked(name: str) -> tuple[str, ...]:
    return ("Disease",) if GUARDED[name].one_label else ("Anatomy", "Disease")


def grammar_of(name: str, text: str = TEXT) -> Grammar:
    return GUARDED[name].grammar(text, asked(name), Level.FAITHFUL)


def repeated(name: str, surface: str, times: int) -> str:
    """An answer that says one thing so often."""
    start = TEXT.index(surface)
    entity = Entity("Disease", ((start, start + len(surface)),))
    format = GUARDED[name]
    if name == "multi_bio":  # which writes each entity once
        layer = format.write(TEXT, [entity], asked(name)).partition(": ")[2]
        return "\n".join(f"Layer {i}: {layer}" for i in range(1, times + 1))
    return format.write(TEXT, [entity] * times, asked(name))


def said(name: str, answer: str) -> int:
    """How many items an answer has."""
    read = GUARDED[name].decode(answer, TEXT, asked(name))
    return len(read.entities) + len(read.problems)


def allowed(name: str, surface: str) -> int:
    """How many items may say a surface before no further one begins."""
    if name == "multi_bio":
        return 1 + 1  # a layer, and one that repeats it
    if name == "multi_brat by offsets":
        return 1 + REPEATS
    # Two words could be one fragment or two, by the guard's rough count.
    there = {"knee pain": 1 + (name in FRAGMENTED), "asthma": 2}
    return there[surface] + REPEATS


@pytest.mark.parametrize("name", GUARDED)
@examples(30)
@given(data=st.data())
def test_what_annotators_write_is_left_alone(name: str, data: st.DataObject) -> None:
    document, labels = data.draw(cases(GUARDED[name], Level.FAITHFUL))
    grammar = GUARDED[name].grammar(document.text, labels, Level.FAITHFUL)
    answer = GUARDED[name].encode(document, labels, Level.FAITHFUL)
    assert grammar.repetition_guard is not None
    for match in ENDS.finditer(answer):
        assert grammar.repetition_guard.tightened(answer[: match.end()]) is None


@pytest.mark.parametrize("name", GUARDED)
def test_as_often_as_the_text_says_it_and_a_few_times_more(
    name: str, vocabulary: Vocabulary
) -> None:
    for surface in ("knee pain", "asthma"):
        row = ConstrainedSequence(vocabulary, grammar_of(name), 2000)
        for token in vocabulary.tokenize(repeated(name, surface, 20)):
            if row.matcher.validate_tokens([token]) == 0:
                break
            row.take(token)
        for token in complete(row.matcher, row.tokens, row.grammar, vocabulary):
            row.take(token)
        assert row.ended
        items = said(name, vocabulary.text_of(row.tokens))
        # One more where a token or the format began it before the last one was known to be whole.
        assert allowed(name, surface) <= items <= allowed(name, surface) + 1


def test_there_is_no_guard_where_repeats_are_not_bounded_or_cannot_be() -> None:
    """The syntax level knows no text; tags copy it once, and spans go on in its order."""
    assert FORMATS["multi_term"].grammar(TEXT, ("Disease",), Level.SYNTAX).repetition_guard is None
    assert FORMATS["multi_tag"].grammar(TEXT, ("Disease",), Level.FAITHFUL).repetition_guard is None


@pytest.mark.parametrize("name", CONTIGUOUS)
def test_both_decoders_close_at_the_same_place(name: str) -> None:
    model = tiny("llama")
    vocabulary, grammar = model.vocabulary, grammar_of(name)
    gold = (*vocabulary.tokenize(repeated(name, "asthma", 25)), vocabulary.ends[0])
    least = len(shortest_answer(vocabulary.matcher(grammar), grammar, vocabulary))
    ahead = partial(GUARDED[name].propose_draft, text=TEXT)
    # Some budgets end before the answer is closed, some there, some after it.
    budgets = [least, least + 7, *range(least + 30, least + 90, 15), 1000]
    requests = [
        Request(
            vocabulary.tokenize("Asthma?"),
            budget,
            grammar,
            kind=name,
            propose_draft=ahead,
            key=gold,
        )
        for budget in budgets
    ]
    found = [
        {request.budget: answer for request, answer in asked_of(model, 3, requests, record=record)}
        for record in (False, True)
    ]
    for request in requests:
        led = Led(model, request, gold)
        (expected,) = generate(model, [request.prompt], [request.budget], processor=led)
        for answer in (answers[request.budget] for answers in found):
            assert isinstance(answer, Answer)
            assert answer.tokens == expected.tokens
            assert len(answer.tokens) <= request.budget
            assert said(name, answer.text) <= allowed(name, "asthma") + 1
            if request.budget == 1000:  # the budget has nothing to do with it
                assert len(answer.tokens) < len(gold) / 2
                assert not answer.forced


def asked_of(
    model: LoadedModel, rows: int, requests: Sequence[Request], *, record: bool
) -> Iterator[tuple[Request, Answer | CnerError]]:
    engine, waiting = LedSpeculative(model, rows, record=record), deque(requests)
    return engine.decode(lambda: waiting.popleft() if waiting else None)


@pytest.mark.parametrize("name", CONTIGUOUS)
def test_where_there_is_no_tighter_grammar_the_answer_goes_on(name: str) -> None:
    """What was drafted stays drafted: the matcher is the same, though the grammar has changed."""
    model = tiny("llama")
    vocabulary, grammar = model.vocabulary, grammar_of(name)
    other, guard = grammar_of(name, "Nothing of it."), grammar.repetition_guard
    assert guard is not None

    def in_vain(written: str) -> Grammar | None:
        return other if guard.tightened(written) else None

    given = replace(grammar, repetition_guard=RepetitionGuard(guard.item_end, in_vain))
    gold = (*vocabulary.tokenize(repeated(name, "asthma", 12)), vocabulary.ends[0])
    ahead = partial(GUARDED[name].propose_draft, text=TEXT)
    request = Request(
        vocabulary.tokenize("Asthma?"), 1000, given, kind=name, propose_draft=ahead, key=gold
    )
    (expected,) = generate(model, [request.prompt], [1000], processor=Led(model, request, gold))
    for record in (False, True):
        ((_, answer),) = asked_of(model, 1, [request], record=record)
        assert isinstance(answer, Answer)
        assert answer.tokens == expected.tokens
        assert said(name, answer.text) == 12
