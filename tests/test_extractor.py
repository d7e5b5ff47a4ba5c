"""The Python interface: what it is given, and what a person means by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from constrained_ner import Document, Extractor
from constrained_ner.errors import InputError, LabelError, UnknownNameError
from constrained_ner.formats.grammar import Level

TEXT = "Aspirin eased the knee pain."
LABELS = ["Disease", "Chemical"]


@pytest.fixture(scope="module")
def extractor(tiny_folder: Path) -> Extractor:
    return Extractor(tiny_folder, batch_size=4)


def test_texts_and_documents(tiny_folder: Path) -> None:
    extractor = Extractor(tiny_folder)
    found = extractor.extract(
        ["Knee pain.", Document("own", TEXT), "\ud800"], labels=LABELS, max_new_tokens=30
    )
    assert [prediction.id for prediction in found] == ["1", "own", ""]
    assert "lone surrogate" in str(found[2].error)
    assert all(reply.parses for p in found[:2] for reply in p.replies)
    (free,) = extractor.stream(["Knee pain."], labels=LABELS, level="free", max_new_tokens=9)
    assert free.level is Level.FREE
    with pytest.raises(LabelError, match="expected labels"):
        extractor.extract(["Knee pain."])
    with pytest.raises(UnknownNameError, match="multi_xml"):
        extractor.extract(["Knee pain."], labels=LABELS, format="multi_xml")


def test_warnings(scored_folder: Path) -> None:
    extractor = Extractor(scored_folder)
    assert extractor.predictor().formats[0].name == "multi_tag"
    with pytest.warns(UserWarning, match="multi_term are not to be trusted"):
        assert extractor.predictor(format="multi_term").formats[0].name == "multi_term"
    with pytest.warns(UserWarning, match=r"never asked for Genes \(nearest: Gene\)"):
        extractor.extract(["Knee pain."], labels=["Genes"], max_new_tokens=30)


def test_a_single_text_has_one_prediction(extractor: Extractor) -> None:
    by_string = extractor.extract(TEXT, labels=["Disease"], format="multi_term")
    by_document = extractor.extract(Document("1", TEXT), labels=["Disease"], format="multi_term")
    (in_list,) = extractor.extract([TEXT], labels=["Disease"], format="multi_term")
    assert by_string.to_record() == by_document.to_record() == in_list.to_record()


@pytest.mark.parametrize(("given", "labels"), [("Disease", 1), ("Disease, Chemical", 2)])
def test_labels_as_a_string(extractor: Extractor, given: str, labels: int) -> None:
    predictor = extractor.predictor(given, "multi_term")
    assert len(predictor.targets[0].labels) == labels


def test_what_is_no_text_costs_none_of_the_others(extractor: Extractor) -> None:
    texts: list[Any] = [TEXT, None, float("nan"), TEXT]
    predictions = extractor.extract(texts, labels="Disease", format="multi_term")
    assert [prediction.error for prediction in predictions] == [
        None,
        "text 2: expected a string or a document, got NoneType",
        "text 3: expected a string or a document, got float",
        None,
    ]


@pytest.mark.parametrize("texts", [None, 3, b"Fever."])
def test_no_texts_at_all(extractor: Extractor, texts: Any) -> None:
    with pytest.raises(TypeError, match="expected several strings or documents"):
        extractor.extract(texts, labels="Disease")


def test_a_stream_is_of_several_texts(extractor: Extractor) -> None:
    with pytest.raises(TypeError, match="such as a list: got str"):
        extractor.stream(TEXT, labels="Disease")


def test_unsure_entities_are_left_out(extractor: Extractor) -> None:
    every = extractor.extract(TEXT, labels="Disease", format="single_code", options={})
    values = sorted(every.confidences.values())
    assert len(values) > 1, "the tiny model marks several entities"
    cut = (values[0] + values[-1]) / 2
    sure = extractor.extract(TEXT, labels="Disease", format="single_code", min_confidence=cut)
    kept = [entity for entity in every.entities if every.confidences[entity] >= cut]
    assert list(sure.entities) == kept
    assert set(sure.confidences) == set(kept)
    assert [r.answer for r in sure.replies] == [r.answer for r in every.replies]


@pytest.mark.parametrize(
    "settings",
    [{"min_confidence": 1.5}, {"min_confidence": 0.5, "level": "free"}],
)
def test_thresholds_that_mean_nothing(extractor: Extractor, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="min_confidence"):
        extractor.extract(TEXT, labels="Disease", format="multi_term", **settings)


@pytest.mark.parametrize("labels", [[], [1], [["Disease"]]])
def test_labels_that_are_none(extractor: Extractor, labels: Any) -> None:
    with pytest.raises(LabelError):
        extractor.predictor(labels, "multi_term")


def test_a_single_text_that_cannot_be_answered_is_an_error(extractor: Extractor) -> None:
    with pytest.raises(InputError, match="the text is empty"):
        extractor.extract(" ", labels="Disease")
