"""What a model is shown of a document, and the way back."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_ner.documents import Document, Entity
from constrained_ner.engines.models import LoadedModel
from constrained_ner.formats import FORMATS
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.prompts import Target
from constrained_ner.pipeline.view import in_one_line, view_of

pieces = st.text(st.sampled_from("ab-.: \n\r\t\u00a0\u2028é𝔸A1|,"), max_size=60)


@given(pieces)
def test_only_white_space_is_another(text: str) -> None:
    view = view_of(text)
    assert len(view.text) == len(view.places)
    assert list(view.places) == sorted(set(view.places))
    assert re.sub(r"\s", "", view.text) == re.sub(r"\s", "", text)
    assert not re.search(r"\s\s|[^\S ]|^\s|\s$", view.text)
    for char, place in zip(view.text, view.places, strict=True):
        assert text[place].isspace() if char == " " else text[place] == char


@given(pieces, st.data())
def test_there_and_back(text: str, data: st.DataObject) -> None:
    view = view_of(text)
    solid = [i for i, char in enumerate(view.text) if char != " "]
    if not solid:
        return
    ends = st.lists(st.sampled_from(solid), min_size=2, max_size=6, unique=True)
    chosen = sorted(data.draw(ends)) if len(solid) > 1 else [solid[0], solid[0]]
    fragments = tuple((a, b + 1) for a, b in zip(chosen[::2], chosen[1::2], strict=False))
    entity = Entity("x", fragments)
    stored = view.in_document(entity)
    for (start, end), (a, b) in zip(stored.fragments, fragments, strict=True):
        assert view_of(text, (start, end)).text == view.text[a:b]
    assert view.in_line(stored) == entity
    assert in_one_line(Document("d", text, (stored,))).entities == (entity,)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("type 2\n  diabetes", "type 2 diabetes"),
        ("type 2\r\ndiabetes", "type 2 diabetes"),
        ("\tknee\u00a0pain \n", "knee pain"),
        ("chronic hyper-\ntension", "chronic hyper-tension"),  # the hyphen may be the word's own
        ("IL-2-\n\ninduced", "IL-2- induced"),  # a blank line
        ("5-\r\n  fluorouracil", "5-fluorouracil"),
        ("NF-\nκB and Ca2+-\nfree", "NF-κB and Ca2+-free"),
        ("pre-\nand postoperative", "pre- and postoperative"),
        ("CD4 -\ncells", "CD4 - cells"),
    ],
)
def test_one_line(text: str, shown: str) -> None:
    assert view_of(text).text == shown


@pytest.mark.parametrize("name", FORMATS)
def test_line_ends_change_no_answer(name: str, tiny_model: LoadedModel) -> None:
    lines = ["HPI:", "No type 2", "diabetes and no knee", "pain, says Dr. Miller.", "gout\tnone"]
    texts = [end.join(lines) for end in ("\n", "\r\n", "\r", "\u2028")]
    predictor = Predictor(tiny_model, FORMATS[name], [Target(("Disease",))], segment="sentence")
    found = list(predictor.predict(Document(str(i), text) for i, text in enumerate(texts)))
    answers = [[reply.answer for reply in one.replies] for one in found]
    assert answers == [answers[0]] * len(texts)
    assert len(answers[0]) == 3
    surfaces = [
        [[view_of(one.text, span).text for span in entity.fragments] for entity in one.entities]
        for one in found
    ]
    assert surfaces == [surfaces[0]] * len(texts)
    records = [one.to_record() for one in found]
    for one, record in zip(found, records, strict=True):
        written = json.dumps(one.to_json())
        assert json.dumps(Prediction.from_json(json.loads(written)).to_json()) == written
        assert [answer.get("section") for answer in record["answers"]] == ["HPI"] * 3
        assert {entity.get("section") for entity in record["entities"]} <= {"HPI"}
