"""The laws of the twelve formats, and the cases in `cases/`: golden answers and broken ones."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from itertools import combinations, combinations_with_replacement, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import constrained_ner
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import (
    AnswerError,
    GrammarError,
    InexpressibleError,
    LabelError,
    UnknownNameError,
)
from constrained_ner.formats import FORMATS, Feature, Format, Options, ProblemKind, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.labels import slug
from constrained_ner.pipeline.conversation import Conversation
from constrained_ner.pipeline.prompts import Target
from constrained_ner.words import on_boundaries, one_line, units
from tests.support.alignment import places
from tests.support.matching import reject
from tests.support.strategies import cases, labels, mutations, raw_cases, strings

CASES = Path(__file__).parent / "cases"
ROOT = Path(constrained_ner.__file__).parent
BY_POSITION = ("single_span", "multi_span", "single_tag", "multi_tag", "multi_bio", "multi_brat")
BY_SURFACE = tuple(name for name in FORMATS if name not in BY_POSITION)

Case = dict[str, Any]

every_format = pytest.mark.parametrize("name", list(FORMATS))


def load(kind: str) -> list[Any]:
    """The cases of one kind, of all formats, for `parametrize`."""
    return [
        pytest.param(path.stem, case, id=f"{path.stem}-{i}")
        for path in sorted(CASES.glob("*.json"))
        for i, case in enumerate(json.loads(path.read_text(encoding="utf-8"))[kind], 1)
    ]


def format_of(name: str, case: Case) -> Format:
    return get_format(name, Options(**case.get("options", {})))


def entities_of(case: Case) -> tuple[Entity, ...]:
    return tuple(
        Entity(label, tuple((start, end) for start, end in fragments))
        for label, fragments in case["entities"]
    )


# ---- guesses


@pytest.mark.parametrize(
    ("name", "written", "ahead"),
    [
        ("multi_brat", "Answer:\nT1 protein 5", " 9 IL-2"),
        ("multi_brat", "Answer:\nT1 protein 2", ""),  # 21 or 26
        ("multi_brat", "Answer:\nT1 protein 21", " 25 CD28"),
        ("multi_brat", "Answer:\nT1 protein 21 ", "25 CD28"),
        ("multi_brat", "Answer:\nT1 protein 21 3", "2 CD28 and 12"),
        ("multi_brat", "Answer:\nT1 protein 33 47", " other proteins"),
        ("multi_brat", "Answer:\nT1 protein 21 25 C", ""),
        ("multi_brat", "Answer:\nT1 protein 99", ""),
        ("single_span", "Answer: [[21", ", 25]"),
        ("single_span", "Answer: [[5, 9], [21, ", "25]"),
        ("multi_span", 'Answer: [{"span": [5', ", 9]"),
        ("multi_span", 'Answer: [{"span": [5, 1', "9]"),
        ("multi_term", 'Answer: [{"text": "CD', ""),
    ],
)
def test_offsets_of_words_are_guessed(name: str, written: str, ahead: str) -> None:
    text = "The (IL-2) receptor, CD28 and 12 other\nproteins."
    assert FORMATS[name].propose_draft(written, text) == ahead


@every_format
@given(data=st.data())
def test_guesses_are_there_for_any_answer(name: str, data: st.DataObject) -> None:
    format = FORMATS[name]
    document, asked = data.draw(cases(format))
    answer = format.encode(document, asked)
    for text in (answer, data.draw(mutations(answer))):
        for end in range(len(text) + 1):
            assert isinstance(format.propose_draft(text[:end], document.text), str)


# ---- what belongs together


def test_each_format_has_a_module_a_structure_and_cases() -> None:
    modules = {path.stem for path in (ROOT / "formats").glob("[a-z]*.py")}
    structures = {path.stem for path in (ROOT.parent / "grammars").glob("*.lark")}
    tested = {path.stem for path in CASES.glob("*.json")}
    assert structures == tested == set(FORMATS) <= modules
    assert all(format.name == name for name, format in FORMATS.items())


def test_each_format_has_enough_cases() -> None:
    for path in CASES.glob("*.json"):
        kinds = json.loads(path.read_text(encoding="utf-8"))
        assert len(kinds["golden"]) >= 3, path.stem
        assert len(kinds["accepted"]) >= 4, path.stem
        assert len(kinds["rejected"]) >= 6, path.stem
        assert len(kinds["lenient"]) >= 5, path.stem


# ---- cases


@pytest.mark.parametrize(("name", "case"), load("golden"))
def test_golden_bytes(name: str, case: Case) -> None:
    format, text, labels = format_of(name, case), case["text"], case["labels"]
    document = Document("golden", text, entities_of(case))
    assert format.encode(document, labels) == case["answer"]
    for strict in (True, False):
        decoded = format.decode(case["answer"], text, labels, strict=strict)
        assert decoded.entities == document.entities
        assert decoded.problems == ()
    for level in (Level.SYNTAX, Level.FAITHFUL):
        assert reject(format.grammar(text, labels, level), case["answer"]) is None


@pytest.mark.parametrize(("name", "case"), load("accepted"))
def test_accepted(name: str, case: Case) -> None:
    format, text, labels = format_of(name, case), case["text"], case["labels"]
    for level in (Level.SYNTAX, Level.FAITHFUL):
        assert reject(format.grammar(text, labels, level), case["answer"]) is None
    assert set(kinds(format.decode(case["answer"], text, labels).problems)) <= {"duplicate"}


@pytest.mark.parametrize(("name", "case"), load("rejected"))
def test_rejected(name: str, case: Case) -> None:
    format, text, labels = format_of(name, case), case["text"], case["labels"]
    faithful = reject(format.grammar(text, labels, Level.FAITHFUL), case["answer"])
    assert faithful is not None
    assert faithful == case["faithful"]
    syntax = reject(format.grammar(text, labels, Level.SYNTAX), case["answer"])
    assert syntax == case["syntax"]
    if syntax is None:
        format.decode(case["answer"], text, labels)
    else:
        with pytest.raises(AnswerError) as error:
            format.decode(case["answer"], text, labels)
        assert error.value.format == name
        assert 0 <= error.value.position <= syntax
        assert f"at offset {error.value.position}," in str(error.value)
        assert error.value.expected


@pytest.mark.parametrize(("name", "case"), load("lenient"))
def test_lenient(name: str, case: Case) -> None:
    format = format_of(name, case)
    decoded = format.decode(case["answer"], case["text"], case["labels"], strict=False)
    assert decoded.entities == entities_of(case)
    assert kinds(decoded.problems) == sorted(case["problems"])


def kinds(problems: Any) -> list[str]:
    return sorted(problem.kind for problem in problems)


# ---- writing and reading


@pytest.mark.parametrize("name", BY_POSITION)
@given(data=st.data())
def test_round_trip_by_position(name: str, data: st.DataObject) -> None:
    format = FORMATS[name]
    document, labels = data.draw(cases(format))
    answer = format.encode(document, labels)
    decoded = format.decode(answer, document.text, labels)
    assert decoded.entities == document.entities
    assert decoded.problems == ()
    assert format.decode(answer, document.text, labels, strict=False) == decoded


@pytest.mark.parametrize("name", BY_SURFACE)
@given(data=st.data())
def test_round_trip_by_surface(name: str, data: st.DataObject) -> None:
    """Where each surface names one place, the document comes back; where each entity is one that
    its surface may name, the same answer comes back, and else from the second time on."""
    format = FORMATS[name]
    document, labels = data.draw(cases(format))
    text = document.text
    answer = format.encode(document, labels)
    decoded = format.decode(answer, text, labels)
    assert format.decode(answer, text, labels, strict=False) == decoded

    # Only multi_triple writes line breaks as spaces, and aligns so.
    seen = one_line(text) if name == "multi_triple" else text
    nameable = [places(entity.surface(seen), seen) for entity in document.entities]
    pairs = list(zip(document.entities, nameable, strict=True))
    if all(found == [entity.fragments] for entity, found in pairs):
        assert decoded.entities == document.entities
    again = format.encode(Document("again", text, decoded.entities), labels)
    if all(entity.fragments in found for entity, found in pairs):
        assert decoded.problems == ()
        assert again == answer
    thrice = format.decode(again, text, labels)
    assert thrice.problems == ()
    assert format.encode(Document("thrice", text, thrice.entities), labels) == again


@every_format
@given(data=st.data())
def test_settling_is_a_fixed_point(name: str, data: st.DataObject) -> None:
    format = FORMATS[name]
    document, labels = data.draw(cases(format))
    answer = data.draw(mutations(format.encode(document, labels), labels))
    try:
        settled = format.settle(answer, document.text, labels)
    except AnswerError:
        return
    again = format.settle(settled.answer, document.text, labels)
    assert again.answer == settled.answer
    assert again.problems == ()


@every_format
@given(data=st.data())
def test_what_cannot_be_written_is_named_and_counted(name: str, data: st.DataObject) -> None:
    format = FORMATS[name]
    document, labels = data.draw(raw_cases(format))
    asked = [entity for entity in document.entities if entity.label in labels]
    kept, dropped = format.expressible(document, labels)
    assert sorted([*kept, *(entity for entity, _ in dropped)], key=lambda e: e.key) == asked
    if dropped:
        with pytest.raises(InexpressibleError) as error:
            format.encode(document, labels)
        assert format.name in str(error.value)
        assert dropped[0][0].describe(document.text) in str(error.value)
    else:
        format.encode(document, labels)
    format.encode(Document("kept", document.text, kept), labels)


@pytest.mark.parametrize(
    ("feature", "entities", "label_set"),
    [
        (Feature.NESTED, [("x", [(0, 5)]), ("x", [(2, 3)])], ["x"]),
        (Feature.SAME_SPAN, [("x", [(0, 1)]), ("y", [(0, 1)])], ["x", "y"]),
        (Feature.CROSSING, [("x", [(0, 3)]), ("x", [(2, 5)])], ["x"]),
        (Feature.DISCONTINUOUS, [("x", [(0, 1), (4, 5)])], ["x"]),
    ],
)
@every_format
def test_what_each_format_can_write(
    name: str, feature: Feature, entities: list[Any], label_set: list[str]
) -> None:
    format = FORMATS[name]
    document = Document("d", "a b c", tuple(Entity(a, tuple(b)) for a, b in entities))
    dropped = [
        d for question in format.questions(label_set) for d in _dropped(format, question, document)
    ]
    # A format for one label at a time writes two labels in two answers.
    separate = feature is Feature.SAME_SPAN and format.one_label
    assert (not dropped) == (feature in format.expresses or separate)


def _dropped(format: Format, question: tuple[str, ...], document: Document) -> Any:
    return format.expressible(document, question)[1]


# ---- any string


@every_format
@given(data=st.data())
def test_any_string_is_read(name: str, data: st.DataObject) -> None:
    """Lenient reading raises on none, strict reading nothing but an `AnswerError`."""
    format = FORMATS[name]
    document, labels = data.draw(cases(format))
    answer = data.draw(
        st.one_of(mutations(format.encode(document, labels), labels), strings()), label="answer"
    )
    readings = [format.decode(answer, document.text, labels, strict=False)]
    with suppress(AnswerError):
        readings.append(format.decode(answer, document.text, labels))
    for decoded in readings:
        for entity in decoded.entities:
            assert entity.label in labels
            assert entity.end <= len(document.text)
        assert list(decoded.entities) == sorted(set(decoded.entities), key=lambda e: e.key)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("single_span", "Answer: [[{digits}, 1]]"),
        ("single_span", "Answer: [[0, {digits}]]"),
        ("multi_span", 'Answer: [{{"span": [0, {digits}], "type": "x"}}]'),
        ("multi_brat", "Answer:\nT1 x {digits} {digits} b"),
        ("multi_brat", "Answer:\nT{digits} x 0 1;{digits} {digits} b"),
        ("multi_bio", "Layer 1: O\nLayer {digits}: O"),
    ],
)
def test_more_digits_than_python_reads(name: str, answer: str, strict: bool) -> None:
    format = FORMATS[name]
    decoded = format.decode(answer.format(digits="9" * 5000), "a", ["x"], strict=strict)
    assert decoded.entities == ()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("single_term", "Answer: [" + "[" * 100_000),
        ("single_span", "Answer: [" + "9" * 5000 + "]"),
        ("multi_term", "Answer: [" + '{"text": ' * 20_000),
        ("single_code", "entity_list.append(" + "[" * 100_000 + ")"),
        ("single_code", "entity_list.append([" + "9" * 5000 + "])"),
        ("multi_tag", "Answer: " + "<x>" * 5000 + "a" + "</x>" * 5000),
    ],
)
def test_hostile_answers_are_survived(name: str, answer: str) -> None:
    """What is made of them lies in the text, and that something is wrong is said."""
    decoded = FORMATS[name].decode(answer, "a", ["x"], strict=False)
    assert set(decoded.entities) <= {Entity("x", ((0, 1),))}
    assert decoded.problems


@pytest.mark.parametrize("name", ["single_tag", "multi_tag"])
def test_deep_nesting_is_read_strictly(name: str) -> None:
    format = FORMATS[name]
    opening, closing = ("@@", "##") if name == "single_tag" else ("<x>", "</x>")
    decoded = format.decode(f"Answer: {opening * 3000}a{closing * 3000}", "a", ["x"])
    assert decoded.entities == (Entity("x", ((0, 1),)),)
    assert {problem.kind for problem in decoded.problems} == {ProblemKind.DUPLICATE}


# ---- labels and options


@every_format
def test_labels_are_checked(name: str) -> None:
    format = FORMATS[name]
    document = Document("d", "a")
    bad: list[list[str]] = [[], [""], [" "], ["x", "x"], ["\ud800"], [" x"]]
    if format.one_label:
        bad.append(["x", "y"])
    for label_set in bad:
        with pytest.raises(LabelError):
            format.encode(document, label_set)
        with pytest.raises(LabelError):
            format.decode("Answer:", "a", label_set)
        with pytest.raises(LabelError):
            format.grammar("a", label_set, Level.SYNTAX)
    assert format.questions(["x", "y"]) == ([("x",), ("y",)] if format.one_label else [("x", "y")])


@every_format
@given(label=labels())
def test_instructions_name_the_labels(name: str, label: str) -> None:
    """In the prompt, as the answers spell them."""
    format = FORMATS[name]
    instruction = format.instruction([label])
    assert instruction.endswith(".")
    assert "\n" not in instruction or "\n" in label
    (question,) = Conversation(format, "a text", Target((label,))).messages()
    assert label in question["content"] or slug(label) in question["content"]
    if not format.one_label:
        written = format.write("a", [Entity(label, ((0, 1),))], [label])
        assert any(
            spelt in written
            for spelt in (label, slug(label), json.dumps(label, ensure_ascii=False)[1:-1])
            if spelt in instruction or spelt != label
        )


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match=r"single_tag.*single_term"):
        get_format("xml")
    with pytest.raises(UnknownNameError, match="word, character"):
        Options(boundaries="byte")
    most: Any
    for most in (0, 9, 2.5, True, "2"):
        with pytest.raises(UnknownNameError, match=f"max_fragments is {most!r}: expected 1 to 8"):
            Options(max_fragments=most)


@every_format
def test_a_level_may_be_given_by_its_name(name: str) -> None:
    format, text = FORMATS[name], "knee pain"
    given: Any
    for given in ("syntax", "faithful"):
        level = Level.parse(given)
        by_name, by_level = (format.grammar(text, ["x"], one) for one in (given, level))
        assert by_name.source == by_level.source
        inside = Document("", text, (Entity("x", ((1, 4),)),))
        assert format.expressible(inside, ["x"], given) == format.expressible(inside, ["x"], level)
    given = "free"
    with pytest.raises(GrammarError, match="the free level has no grammar"):
        format.grammar(text, ["x"], given)
    given = "strict"
    with pytest.raises(UnknownNameError, match="unknown level 'strict'"):
        format.grammar(text, ["x"], given)


def test_paper_order() -> None:
    text = "b A a"
    entities = [Entity("x", ((0, 1),)), Entity("x", ((2, 3),)), Entity("x", ((4, 5),))]
    document = Document("d", text, tuple(entities))
    assert FORMATS["single_term"].encode(document, ["x"]) == 'Answer: ["b", "A", "a"]'
    paper = get_format("single_term", Options(order="paper"))
    assert paper.encode(document, ["x"]) == 'Answer: ["A", "a", "b"]'


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_what_is_written_in_the_papers_order_is_let_through(name: str, data: st.DataObject) -> None:
    format = get_format(name, Options(order="paper"))
    document, labels = data.draw(cases(format))
    kept, _ = format.expressible(document, labels, Level.FAITHFUL)
    answer = format.encode(replace(document, entities=kept), labels, Level.FAITHFUL)
    assert reject(format.grammar(document.text, labels, Level.FAITHFUL), answer) is None


@every_format
@given(data=st.data())
def test_what_is_written_in_the_papers_order_is_read(name: str, data: st.DataObject) -> None:
    format = get_format(name, Options(order="paper"))
    document, labels = data.draw(cases(format))
    decoded = format.decode(format.encode(document, labels), document.text, labels)
    if Feature.OFFSETS in format.expresses:  # else a surface may be read elsewhere
        assert set(decoded.entities) == set(document.entities)


@given(text=st.text("ab \t", min_size=1, max_size=9).filter(str.strip), data=st.data())
def test_masked_offsets_count_where_a_mask_would_have_made_the_surface(
    text: str, data: st.DataObject
) -> None:
    """The mask of multi_brat lets any offsets through, and those inside words may read, too."""
    format = get_format("multi_brat", Options(max_fragments=2))
    edges = [0, *(end for _, end in units(text))]
    spans = [(s, e) for s, e in combinations(edges, 2) if text[s:e] == text[s:e].strip() and s < e]
    pairs = [(one, two) for one, two in product(spans, spans) if one[1] <= two[0]]
    chosen = data.draw(st.sampled_from([*((span,) for span in spans), *pairs]))
    surface = " ".join(text[s:e] for s, e in chosen)
    anywhere = [
        ((a, b), (c, d)) if len(chosen) == 2 else ((a, b),)
        for a, b, c, d in combinations_with_replacement(range(len(text) + 1), 4)
        if (len(chosen) == 2 or c == d == len(text))
    ]
    reading = [p for p in anywhere if " ".join(text[s:e] for s, e in p) == surface]
    written = data.draw(st.sampled_from([p for p in reading if all(s < e for s, e in p)]))
    offsets = ";".join(f"{s} {e}" for s, e in written)
    answer = f"Answer:\nT1 x {offsets} {surface}"
    assert reject(format.grammar(text, ["x"], Level.FAITHFUL), answer) is None
    settled = format.settle(answer, text, ["x"], Level.FAITHFUL)
    (entity,) = settled.entities
    assert settled.problems == ()
    assert entity.surface(text) == surface
    for start, end in entity.fragments:
        assert on_boundaries(start, end, text)
        assert text[start:end] == text[start:end].strip()


def test_what_crosses_only_what_cannot_be_written_is_written() -> None:
    format = get_format("single_tag")
    one, other = Entity("x", ((1, 4),)), Entity("x", ((3, 6),))  # the first stands behind an @
    kept, dropped = format.expressible(Document("", "@a b c", (one, other)), ["x"])
    assert kept == (other,)
    assert [entity for entity, _ in dropped] == [one]
    again, _ = format.expressible(Document("", "a, b c", (one, other)), ["x"])
    assert again == (one,)


@given(spans=st.lists(st.tuples(st.integers(0, 11), st.integers(1, 12)), max_size=12))
def test_tags_hold_what_crosses_nothing_before_it(spans: list[tuple[int, int]]) -> None:
    text = "abcdefghijkl"
    entities = tuple({Entity("x", ((s, e),)) for s, e in spans if s < e})
    document = Document("", text, entities)
    expected: list[Entity] = []
    for one in document.entities:
        if not any(o.start < one.start < o.end < one.end for o in expected):
            expected.append(one)
    kept, dropped = get_format("multi_tag").expressible(document, ["x"])
    assert list(kept) == expected
    assert {entity for entity, _ in dropped} == {*entities} - {*expected}


@pytest.mark.parametrize("name", ["single_tag", "multi_tag"])
def test_tags_of_an_answer_that_does_not_parse_are_contiguous_too(name: str) -> None:
    format, text = FORMATS[name], "left and right knee pain today"
    before, after = format.markers(["D"])[0]
    answer = f"Answer: Left and right knee pain today {before}left knee pain{after}"
    for broken in (answer, answer + after):
        decoded = format.decode(broken, text, ["D"], strict=False)
        assert decoded.entities == ()
        assert ProblemKind.NOT_IN_TEXT in {problem.kind for problem in decoded.problems}
