"""The grammars: two engines that agree, and a faithful level that lies within the syntax level."""

from __future__ import annotations

import json
import subprocess
import sys
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from constrained_ner.documents import Document, Entity
from constrained_ner.errors import AnswerError, GrammarError, UnknownNameError
from constrained_ner.formats import FORMATS, Format, Options, ProblemKind, get_format
from constrained_ner.formats.fillings import (
    MAX_FRAGMENTED_UNITS,
    MAX_OFFSET_UNITS,
    MAX_SPAN_UNITS,
    MAX_TAGGED_UNITS,
    item_bound,
    number_up_to,
)
from constrained_ner.formats.fillings import quote as lark_literal
from constrained_ner.formats.grammar import Grammar, Level, Structure, load_schema, load_structure
from constrained_ner.formats.parsing import parse
from constrained_ner.words import on_boundaries, tokens
from tests.support.matching import byte_matcher, reject
from tests.support.strategies import cases, examples, label_sets, mutations, texts

every_format = pytest.mark.parametrize("name", list(FORMATS))

SCHEMAS = ("conv_term", "single_term", "multi_term", "single_span", "multi_span")
WITH_FRAGMENTS = (
    *("conv_term", "single_term", "multi_term"),
    *("single_code", "multi_code", "multi_triple", "multi_brat"),
)
FAITHFUL: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in FORMATS),
    *((name, {"boundaries": "character"}) for name in FORMATS if name != "multi_bio"),
    *((name, {"max_fragments": 3}) for name in WITH_FRAGMENTS),
    ("multi_brat", {"anchor": "offsets"}),
    ("multi_brat", {"anchor": "offsets", "max_fragments": 2}),
    ("multi_bio", {"words": "fine"}),
]
every_faithful = pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(name, o, id="-".join(map(str, [name, *o.values()]))) for name, o in FAITHFUL],
)


def sample_labels(count: int) -> list[str]:
    random = Random(count)
    letters = "abcdefghijklmnopqrstuvwxyz_"
    return ["".join(random.choices(letters, k=13)) + f"{i:02}" for i in range(count)]


# ---- two engines


@every_format
@examples(40)
@given(data=st.data())
def test_lark_and_llguidance_agree(name: str, data: st.DataObject) -> None:
    format = FORMATS[name]
    document, labels = data.draw(cases(format))
    answer = format.encode(document, labels)
    grammar = format.grammar(document.text, labels, Level.SYNTAX)
    assert reject(grammar, answer) is None
    format.tree(answer, labels)

    markers = [marker for pair in format.markers(labels) for marker in pair]
    other = data.draw(mutations(answer, [*labels, *markers]), label="answer")
    rejection = reject(grammar, other)
    try:
        format.tree(other, labels)
        position = None
    except AnswerError as error:
        position = error.position
    assert (position is None) == (rejection is None)
    if position is not None and rejection is not None:
        assert position <= rejection


@every_format
@pytest.mark.parametrize("count", [1, 5, 36, 300])
def test_many_labels(name: str, count: int) -> None:
    format = FORMATS[name]
    labels = sample_labels(count)
    questions = format.questions(labels)
    for question in questions[:1] if format.one_label else questions:
        text = "a b c"
        entities = [
            Entity(label, ((i % 3 * 2, i % 3 * 2 + 1),)) for i, label in enumerate(question)
        ]
        document = Document("d", text, tuple(entities))
        kept, dropped = format.expressible(document, question, Level.FAITHFUL)
        answer = format.encode(Document("d", text, kept), question, Level.FAITHFUL)
        assert format.decode(answer, text, question).entities == kept
        for level in (Level.SYNTAX, Level.FAITHFUL):
            assert reject(format.grammar(text, question, level), answer) is None
        # Tags of 36 labels nest no more than nine deep: the stack is a parameter of 64 bits. And
        # no answer has more than 60 items for so short a text.
        assert not dropped or (name, count) == ("multi_tag", 36) or count > 60


@given(text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_literals_in_both_engines(text: str) -> None:
    # In the sources that lark reads, labels are escaped before they become literals.
    source = f"start: {lark_literal(json.dumps(text, ensure_ascii=False))}\n"
    answer = json.dumps(text, ensure_ascii=False)
    parse("literal", source, answer)
    assert byte_matcher(source).try_consume_tokens(list(answer.encode())) == len(answer.encode())
    raw = byte_matcher(f"start: {lark_literal(text)}\n")
    assert raw.try_consume_tokens(list(text.encode())) == len(text.encode())


def test_errors_say_where_and_what() -> None:
    with pytest.raises(AnswerError) as error:
        FORMATS["single_term"].decode('Answer: ["a" "b"]', "a", ["x"])
    assert error.value.position == 12
    assert str(error.value) == (
        "single_term: not an answer of this format: at offset 12, after 'Answer: [\"a\"', "
        "found ' \"b\"]'; expected ', ' or ']'"
    )
    with pytest.raises(AnswerError, match=r"the answer ends; expected .*', '"):
        FORMATS["single_term"].decode('Answer: ["a"', "a", ["x"])
    with pytest.raises(AnswerError, match=r"found ' '; expected the end"):
        FORMATS["single_term"].decode("Answer: [] ", "a", ["x"])


# ---- the faithful level


@every_faithful
@given(data=st.data())
def test_gold_is_allowed(name: str, options: dict[str, Any], data: st.DataObject) -> None:
    format = get_format(name, Options(**options))
    document, labels = data.draw(cases(format, Level.FAITHFUL))
    grammar = faithful(format, document.text, labels)
    if grammar is None:
        return
    answer = format.encode(document, labels, Level.FAITHFUL)
    assert reject(grammar, answer) is None
    assert reject(grammar, grammar.empty) is None
    assert format.decode(grammar.empty, document.text, labels).entities == ()


@every_faithful
@examples(20)
@given(data=st.data(), random=st.randoms(use_true_random=True))  # a draw a byte takes longer
def test_faithful_answers(
    name: str, options: dict[str, Any], data: st.DataObject, random: Random
) -> None:
    """They are syntax answers, of nothing but the text's own pieces, and never run into a wall."""
    format = get_format(name, Options(**options))
    labels = data.draw(label_sets(1 if format.one_label else 3))
    text = data.draw(texts())
    grammar = faithful(format, text, labels)
    if grammar is None:
        return
    answer = random_walk(grammar, random)
    if answer is None:
        return
    syntax = format.grammar(text, labels, Level.SYNTAX)
    assert reject(syntax, answer) is None, answer
    parse(name, syntax.source, answer)
    allowed = {ProblemKind.DUPLICATE}
    decoded = format.decode(answer, text, labels, level=Level.FAITHFUL)
    assert {problem.kind for problem in decoded.problems} <= allowed
    boundaries = "character" if options.get("words") == "fine" else format.options.boundaries
    for entity in decoded.entities:
        assert entity.label in labels
        for start, end in entity.fragments:
            assert on_boundaries(start, end, text, boundaries)
    settled = format.settle(answer, text, labels, Level.FAITHFUL)
    assert {problem.kind for problem in settled.problems} <= {*allowed, ProblemKind.DROPPED}
    assert reject(syntax, settled.answer) is None
    if name == "multi_bio":
        words = len(tokens(text, format.options.words))
        assert {len(line.split(": ")[1].split(" ")) for line in answer.split("\n")} == {words}


def faithful(format: Format, text: str, labels: tuple[str, ...]) -> Grammar | None:
    """None where the parameter of the engine's rules is too narrow for the text, which is said."""
    try:
        return format.grammar(text, labels, Level.FAITHFUL)
    except GrammarError as error:
        if format.options.anchor == "offsets" and "too long" in str(error):
            return None
        raise


def random_walk(grammar: Grammar, random: Random, most: int = 300) -> str | None:
    """Random bytes among those allowed, until a coin says stop; None where it takes too long."""
    matcher = byte_matcher(grammar.source)
    walked = bytearray()
    while not (matcher.is_accepting() and random.random() < 0.3):
        mask = matcher.compute_bitmask()
        allowed = [i for i in range(256) if mask[i // 8] >> (i % 8) & 1]
        if matcher.is_accepting() and not allowed:
            break
        assert allowed, bytes(walked)
        byte = random.choice(allowed)
        assert matcher.consume_token(byte), bytes(walked)
        walked.append(byte)
        if len(walked) == most:
            return None
    return walked.decode()


@every_format
@given(data=st.data())
def test_grammars_are_pure_functions(name: str, data: st.DataObject) -> None:
    document, labels = data.draw(cases(FORMATS[name]))
    for level in (Level.SYNTAX, Level.FAITHFUL):
        one, two = (
            get_format(name, Options()).grammar(document.text, labels, level) for _ in range(2)
        )
        assert one.source == two.source
        assert one.source.startswith("start:")
        assert (one.format, one.level, one.empty) == (name, level, two.empty)
    syntax = FORMATS[name].grammar("another text", labels, Level.SYNTAX)
    assert syntax.source == FORMATS[name].grammar(document.text, labels, Level.SYNTAX).source


# ---- bounds and errors


@every_format
@pytest.mark.parametrize("text", ["", " ", "\n\t\u2028\u3000"])
def test_nothing_to_point_at(name: str, text: str) -> None:
    with pytest.raises(GrammarError, match="nothing to point at"):
        FORMATS[name].grammar(text, ["x"], Level.FAITHFUL)


@every_format
def test_the_free_level_has_no_grammar(name: str) -> None:
    with pytest.raises(GrammarError, match="free"):
        FORMATS[name].grammar("a", ["x"], Level.FREE)


def test_levels_by_name() -> None:
    assert Level.parse("faithful") is Level.FAITHFUL
    with pytest.raises(UnknownNameError, match="free, syntax, faithful"):
        Level.parse("strict")


@pytest.mark.parametrize("name", WITH_FRAGMENTS)
def test_too_long_for_fragments(name: str) -> None:
    format = get_format(name, Options(max_fragments=2))
    text = "a." * (MAX_FRAGMENTED_UNITS // 4)
    byte_matcher(format.grammar(text, ["x"], Level.FAITHFUL).source)
    expected = (
        f"^{name}: the text is too long for surfaces of 2 fragments: its 2 words are 3002 units, "
        "and at most 3000 fit; .* or allow fewer fragments$"
    )
    with pytest.raises(GrammarError, match=expected):
        format.grammar(f"{text[:-1]} a.", ["x"], Level.FAITHFUL)


def test_long_texts_do_not_crash_on_a_small_stack() -> None:
    """Where a grammar nests too deeply the process ends, without an exception."""
    script = """
import threading
from constrained_ner.formats.fillings import MAX_FRAGMENTED_UNITS
from constrained_ner.formats import FORMATS, Options, get_format
from constrained_ner.formats.grammar import Level
from tests.support.matching import byte_matcher

def work():
    for name in FORMATS:
        for fragments in (1, 2, 8):
            text = "a." * (min(1500, MAX_FRAGMENTED_UNITS // fragments) // 2)
            format = get_format(name, Options(max_fragments=fragments))
            byte_matcher(format.grammar(text, ["x"], Level.FAITHFUL).source).compute_bitmask()
    print("done")

threading.stack_size(512 * 1024)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert ran.stdout == "done\n", (ran.returncode, ran.stderr[-500:])


@pytest.mark.parametrize("name", ["single_span", "multi_span"])
def test_too_long_for_spans(name: str) -> None:
    text = " ".join("a" * (MAX_SPAN_UNITS + 1))
    assert FORMATS[name].text_obstacle(text[2:]) is None
    expected = (
        f"^{name}: the text is too long for offsets in text order: its 4001 words are 4001 units, "
        r"and at most 4000 fit; ask about sentences or windows of it \(--segment\)$"
    )
    with pytest.raises(GrammarError, match=expected):
        FORMATS[name].grammar(text, ["x"], Level.FAITHFUL)


def test_too_long_for_offsets_first() -> None:
    format = get_format("multi_brat", Options(anchor="offsets", max_fragments=8))
    byte_matcher(format.grammar("a b c d", ["x"], Level.FAITHFUL).source)
    byte_matcher(format.grammar("a b c d e f g h", ["x"], Level.FAITHFUL).source)
    with pytest.raises(GrammarError, match="9 words are 17 units, and at most 15 fit"):
        format.grammar("a b c d e f g h i", ["x"], Level.FAITHFUL)


@every_faithful
@pytest.mark.parametrize("words", [0, 1, 5, 10, 50, 1500, 4500])
def test_where_there_is_no_grammar_nothing_can_be_written(
    name: str, options: dict[str, Any], words: int
) -> None:
    format = get_format(name, Options(**options))
    text = " ".join(["a"] * words)
    document = Document("d", text, (Entity("x", ((0, 1),)),) if words else ())
    kept, dropped = format.expressible(document, ["x"], Level.FAITHFUL)
    obstacle = format.text_obstacle(text)
    if obstacle is None:
        assert format.grammar(text, ["x"], Level.FAITHFUL).source
        assert kept == document.entities
    else:
        with pytest.raises(GrammarError, match=f"^{name}: {obstacle.cause}: "):
            format.grammar(text, ["x"], Level.FAITHFUL)
        assert dropped == [(entity, obstacle.cause) for entity in document.entities]
    assert format.expressible(document, ["x"]) == (document.entities, [])


@every_format
def test_what_exceeds_the_bounds_is_counted(name: str) -> None:
    """More entities than a faithful answer may hold: the rest is reported, not refused later."""
    format = FORMATS[name]
    labels = ["x"] if format.one_label else sample_labels(30)
    text = " ".join("abcdefghijklmn")
    spans = [(i, j) for i in range(0, 27, 2) for j in range(i + 1, 28, 2)]
    entities = [Entity(label, (span,)) for span in spans for label in labels]
    kept, dropped = format.expressible(Document("d", text, tuple(entities)), labels, Level.FAITHFUL)
    assert dropped
    assert len(kept) + len(dropped) == len(entities)
    answer = format.encode(Document("d", text, kept), labels, Level.FAITHFUL)
    assert reject(format.grammar(text, labels, Level.FAITHFUL), answer) is None


@pytest.mark.parametrize(
    ("units", "labels", "fragments", "expected"),
    [(1, 1, 1, 1), (2, 1, 1, 3), (2, 2, 1, 6), (2, 1, 2, 4), (10, 36, 1, 60), (10_000, 2, 1, 1000)],
)
def test_item_bound(units: int, labels: int, fragments: int, expected: int) -> None:
    assert item_bound(units, labels, fragments) == expected


def no_closers(partial: str) -> tuple[str, ...]:
    return ()


@pytest.mark.parametrize("largest", [0, 1, 9, 10, 19, 97, 100, 109, 1000, 2345])
def test_number_up_to(largest: int) -> None:
    grammar = Grammar(
        "number", Level.FAITHFUL, f"start: N\nN: /{number_up_to(largest)}/\n", "0", no_closers, 0
    )
    near = {0, 1, largest - 1, largest, largest + 1, largest + 10, largest * 10, largest // 2}
    for number in sorted(n for n in near if n >= 0):
        assert (reject(grammar, str(number)) is None) == (number <= largest)
        assert reject(grammar, f"0{number}") is not None


# ---- structures


def test_structures_are_checked() -> None:
    with pytest.raises(GrammarError, match="first definition"):
        Structure("s", 'item: "a"\n')
    with pytest.raises(GrammarError, match="not a definition"):
        Structure("s", 'start: "a"\n| "b"\n')
    structure = Structure("s", '// a comment\nstart: "a"\n  | item\n\nitem: "b"\n')
    assert structure.body("start") == '"a"\n  | item'
    assert structure.fill({"item": 'item: "c"'}) == 'start: "a"\n  | item\nitem: "c"\n'
    with pytest.raises(GrammarError, match="no definition 'other'"):
        structure.fill({"other": 'other: "c"'})


@every_format
def test_the_files_are_grammars_as_they_stand(name: str) -> None:
    source = load_structure(name).fill({})
    byte_matcher(source)
    with pytest.raises(AnswerError):
        parse(name, source, "no answer at all")


def test_the_engine_refuses_nonsense() -> None:
    with pytest.raises(GrammarError, match="refuses"):
        byte_matcher("start: nowhere\n")


# ---- schemas

numbers = st.integers(-2, 100) | st.integers(10**18, 10**20)
scalars = st.one_of(numbers, st.booleans(), st.none(), st.text(max_size=5))
spans = st.one_of(
    st.lists(numbers, max_size=3), st.lists(st.integers(0, 99), min_size=2, max_size=2), scalars
)


def items(name: str, labels: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """Items of the format and what is nearly so; keys in the format's order."""
    if name in ("single_term", "conv_term"):
        return st.one_of(st.text(max_size=8), st.text(max_size=8), scalars, st.lists(scalars))
    if name == "single_span":
        return spans
    label = st.one_of(
        st.sampled_from(labels), st.sampled_from(labels).map(lambda x: x + "x"), scalars
    )
    key, value = (
        ("text", st.one_of(st.text(max_size=8), scalars))
        if name == "multi_term"
        else (
            "span",
            spans,
        )
    )
    whole = st.fixed_dictionaries({key: value, "type": label})
    part = st.fixed_dictionaries({}, optional={key: value, "type": label, "more": scalars})
    # Of the order of the keys a schema says nothing.
    item = st.one_of(whole, whole, whole, part)
    ordered = item.map(lambda d: {k: d[k] for k in (key, "type", "more") if k in d})
    return st.one_of(ordered, ordered, ordered, scalars)


@pytest.mark.parametrize("name", SCHEMAS)
@examples(80)
@given(data=st.data())
def test_schema_and_structure_agree(name: str, data: st.DataObject) -> None:
    format = FORMATS[name]
    labels = data.draw(label_sets(1 if format.one_label else 3))
    schema = format.schema(labels)
    assert schema is not None
    item = items(name, labels)
    value = data.draw(st.one_of(st.lists(item, max_size=3), st.lists(item, max_size=1), item))
    valid = Draft202012Validator(schema).is_valid(value)
    answer = "Answer: " + json.dumps(value, ensure_ascii=False)
    assert valid == (reject(format.grammar("a", labels, Level.SYNTAX), answer) is None)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_schemas(name: str) -> None:
    stored = load_schema(name)
    assert stored is not None
    Draft202012Validator.check_schema(stored)
    before = json.dumps(stored)
    labels = ["x"] if FORMATS[name].one_label else ["x", 'y "z"']
    filled = FORMATS[name].schema(labels)
    assert filled is not None
    Draft202012Validator.check_schema(filled)
    assert json.dumps(load_schema(name)) == before, "the file's schema is a template: keep it"
    assert ('y \\"z\\"' in json.dumps(filled)) == (not FORMATS[name].one_label)


def test_only_the_json_formats_have_schemas() -> None:
    assert {name for name, format in FORMATS.items() if format.schema(["x"])} == set(SCHEMAS)


@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        ("multi_tag", {}, MAX_TAGGED_UNITS),
        ("single_tag", {}, MAX_TAGGED_UNITS),
        ("multi_brat", {"anchor": "offsets"}, MAX_OFFSET_UNITS),
        ("multi_brat", {"anchor": "offsets", "max_fragments": 2}, MAX_OFFSET_UNITS // 2),
    ],
)
def test_what_the_engine_can_hold_of_a_long_text(
    name: str, options: dict[str, Any], most: int
) -> None:
    format = get_format(name, Options(**options))
    text = "a " * (most // 2 - 1) + "a."
    assert len(format.units(text)) == most
    byte_matcher(format.grammar(text, ["x"], Level.FAITHFUL).source)
    with pytest.raises(GrammarError, match=f"at most {most} fit"):
        format.grammar(f"{text} a", ["x"], Level.FAITHFUL)
