"""One mind about the same words of a document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_ner.documents import Document, Entity, text_order
from constrained_ner.engines.models import LoadedModel
from constrained_ner.errors import InputError
from constrained_ner.formats import get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.consistency import LEAST, consistent
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.prompts import Target
from tests.support.commands import cner
from tests.support.strategies import texts

TEXT = "Fever came. The fever went; FEVER (high  fever) is no feverfew. ALL or all?"


def entity(surface: str, number: int = 0, label: str = "D", text: str = TEXT) -> Entity:
    start = -1
    for _ in range(number + 1):
        start = text.index(surface, start + 1)
    return Entity(label, ((start, start + len(surface)),))


def voted(
    probabilities: dict[Entity, float], text: str = TEXT, label: str = "D"
) -> dict[Entity, float]:
    return consistent(text, probabilities, {label: [(0, len(text))]})


def test_places_of_the_same_words_vote() -> None:
    first, second = entity("Fever"), entity("fever")
    found = voted({first: 0.9, second: 0.6})
    # They are words of any case, so FEVER is one of them; feverfew is another word.
    third, fourth = entity("FEVER"), entity("fever", 1)
    assert found == dict.fromkeys((first, second, third, fourth), pytest.approx(1.5 / 4))


def test_white_space_stands_nowhere_else() -> None:
    """An answer without a mask may mark it."""
    blank, fever = Entity("D", ((5, 6),)), entity("Fever")
    assert voted({blank: 1.0})[blank] == 1.0
    assert voted({blank: 1.0, fever: 0.9})[fever] == pytest.approx(0.9 / 4)


@pytest.mark.parametrize("broken", ["post-\noperative pain", "post-operative\npain"])
def test_words_are_the_same_where_a_line_ends_inside_them(broken: str) -> None:
    text = f"post-operative pain. Then {broken} and post-operative pain."
    every = dict.fromkeys(
        (
            entity("post-operative pain", text=text),
            entity(broken, text=text),
            entity("post-operative pain", 1, text=text),
        ),
        pytest.approx(0.3),
    )
    for marked in every:
        assert voted({marked: 0.9}, text) == every


def test_names_are_the_same_as_they_are_written_only() -> None:
    assert voted({entity("ALL"): 0.8}) == {entity("ALL"): 0.8}
    assert voted({entity("all"): 0.8}) == dict.fromkeys(
        (entity("ALL"), entity("all")), pytest.approx(0.4)
    )


@pytest.mark.parametrize("symbol", ["As", "K", "Ras", "He"])
def test_symbols_are_no_words_at_the_beginning_of_a_sentence(symbol: str) -> None:
    text = f"{symbol} is toxic, as {symbol.lower()} is not."
    marked = entity(symbol, text=text)
    assert voted({marked: 0.9}, text) == {marked: 0.9}


def test_spaces_of_any_kind_are_the_same() -> None:
    text = "knee pain, knee\n pain"
    found = voted({entity("knee pain", text=text): 1.0}, text)
    assert found == dict.fromkeys(
        (entity("knee pain", text=text), entity("knee\n pain", text=text)), 0.5
    )


def test_a_mark_on_a_letter_is_a_part_of_its_word() -> None:
    text = "ma\u0301 and ma."
    alone = entity("ma", 1, text=text)
    assert voted({alone: 0.9}, text) == {alone: 0.9}


def test_places_in_other_entities_have_no_vote() -> None:
    first, longer = entity("Fever"), entity("high  fever")
    found = voted({first: 0.9, longer: 0.5})
    assert found[longer] == 0.5
    assert entity("fever", 1) not in found
    assert found[first] == pytest.approx(0.9 / 3)


def test_places_that_nobody_asked_about_have_no_vote() -> None:
    first = entity("Fever")
    end = TEXT.index("FEVER")
    found = consistent(TEXT, {first: 0.8}, {"D": [(0, 10), (10, end)], "G": [(0, len(TEXT))]})
    assert found == dict.fromkeys((first, entity("fever")), pytest.approx(0.4))


def test_a_place_that_another_label_has_goes_to_the_more_probable_one() -> None:
    text = "fever x fever y fever"
    places = [entity("fever", i, "D", text).fragments[0] for i in range(3)]
    asked = {label: [(0, len(text))] for label in "DG"}

    def marked(*labels: str, p: float = 0.9, other: float = 0.05) -> dict[Entity, float]:
        return {
            Entity(label, (place,)): p if label == "D" else other
            for label, place in zip(labels, places, strict=False)
        }

    # What is faint is as good as passed over, also by another label.
    every = {Entity("D", (place,)): pytest.approx(0.6) for place in places}
    assert consistent(text, marked("D", "D", "G"), asked) == every
    assert consistent(text, marked("D", "D"), asked) == every
    # A place that both have stays both's.
    both = {Entity("D", (places[0],)): 0.9, Entity("G", (places[0],)): 0.6}
    found = consistent(text, both, asked)
    assert {e for e in found if e.fragments == (places[0],)} == set(both)


def test_a_faint_mark_is_no_worse_than_none() -> None:
    text = "colon cancer. Colon Cancer. COLON CANCER."
    names = "colon cancer", "Colon Cancer", "COLON CANCER"
    small, title, loud = (entity(words, 0, "D", text) for words in names)
    for faint in ({}, {title: 0.0}, {loud: 0.0}, {title: 0.0, loud: 0.0}):
        assert voted({small: 0.9, **faint}, text) == dict.fromkeys(
            (small, title, loud), pytest.approx(0.3)
        )


def test_discontinuous_entities_stay() -> None:
    split = Entity("D", ((0, 5), (16, 21)))
    assert voted({split: 0.7}) == {split: 0.7}


@given(texts(), st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.floats(0, 1))))
def test_whatever_the_text(text: str, drawn: list[tuple[int, int, float]]) -> None:
    probabilities = {
        Entity("D", ((start, start + size),)): p
        for start, size, p in drawn
        if start + size <= len(text) and text[start : start + size].strip()
    }
    found = voted(probabilities, text)
    assert set(probabilities) <= set(found)
    assert all(0 <= p <= 1 for p in found.values())
    assert all(0 <= a < b <= len(text) for e in found for a, b in e.fragments)
    # Nothing is made more probable in all than it was, and of one label nothing less.
    assert sum(found.values()) == pytest.approx(sum(probabilities.values()))


def test_predictions_of_one_mind(tiny_model: LoadedModel) -> None:
    text = "left knee pain. The knee pain is left. Again left knee pain. No more knee pain."
    settings: dict[str, Any] = {"segment": "sentence", "record": True}
    format, target = get_format("multi_term"), [Target(("D", "G"), "d")]

    def predicted(**more: Any) -> dict[Entity, float]:
        predictor = Predictor(tiny_model, format, target, **settings, **more)
        (prediction,) = predictor.predict([Document("a", text)])
        assert prediction.error is None
        assert prediction.entities == text_order(prediction.entities)
        return dict(prediction.confidences)

    plain = predicted(conflicts=None)
    sentences = [(0, 15), (16, 38), (39, 60), (61, 79)]
    after = consistent(text, plain, dict.fromkeys("DG", sentences))
    assert predicted(consistent=True, min_confidence=0.0) == pytest.approx(after)
    kept = {e: p for e, p in after.items() if p >= LEAST}
    assert predicted(consistent=True) == pytest.approx(kept)
    with pytest.raises(InputError, match="consistent needs confidences"):
        Predictor(tiny_model, format, target, Level.FREE, consistent=True)


def test_the_option(tiny_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    command = ["predict", "-t", "left knee pain. The knee pain.", "--labels", "D", "--consistent"]
    command += ["--model", str(tiny_folder)]
    result = cner(*command, "-o", str(output))
    assert result.exit_code == 0, result.output
    (record,) = map(json.loads, output.read_text().splitlines())
    assert all(e["confidence"] >= LEAST for e in record["entities"])
    assert "--consistent" in cner(*command, "--free").output


def test_longer_words_come_before_those_in_them() -> None:
    text = "He has knee pain. Pain came back. Knee pain persists."
    long, short = entity("knee pain", text=text), entity("Pain", text=text)
    found = voted({long: 0.9, short: 0.9}, text)
    assert found[entity("Knee pain", text=text)] == pytest.approx(0.45)
    assert entity("pain", 1, text=text) not in found


def test_new_places_do_not_cross() -> None:
    text = "Left knee. Knee pain. Left knee pain."
    marks = {entity("Left knee", label="A", text=text): 0.9, entity("Knee pain", text=text): 0.9}
    asked = {label: [(0, len(text))] for label in ("A", "D")}
    found = consistent(text, marks, asked)
    assert len([e for e in found if e.start >= text.index("Left", 5)]) == 1


def test_new_places_of_the_same_words_do_not_cross() -> None:
    text = "CAG CAG. CAG CAG. CAG CAG CAG."
    marks = [Entity("D", ((0, 7),)), Entity("D", ((9, 16),))]
    found = voted(dict.fromkeys(marks, 0.9), text)
    assert found == dict.fromkeys([*marks, Entity("D", ((18, 25),))], pytest.approx(0.6))
