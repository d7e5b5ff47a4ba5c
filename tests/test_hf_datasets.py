"""Data sets of Hugging Face's library: what `save_to_disk` leaves, read and written."""

from __future__ import annotations

import logging
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    List,
    Sequence,
    Value,
    load_from_disk,
)
from hypothesis import given

from constrained_ner.corpora import detect_format, read, to_dataset, write
from constrained_ner.documents import Document, Entity, Passage
from constrained_ner.errors import InputError, MissingExtraError
from tests.support.strategies import documents, examples, own_keys

TAGGED = Features(
    {
        "tokens": List(Value("string")),
        "ner_tags": List(ClassLabel(names=["O", "B-SITE", "I-SITE"])),
        "date": Value("string"),
    }
)


def tagged(tokens: str, *tags: int, date: str | None = None) -> dict[str, Any]:
    return {"tokens": tokens.split(" "), "ner_tags": list(tags), "date": date}


def read_all(path: Path) -> tuple[list[Document], list[InputError]]:
    records = list(read(path))
    return (
        [record for record in records if isinstance(record, Document)],
        [record for record in records if isinstance(record, InputError)],
    )


def test_tokens_and_tags(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [tagged("left knee pain", 1, 2, 0, date="2020"), tagged("knee", 2)]
    train = Dataset.from_list(rows, features=TAGGED)
    test = Dataset.from_list([tagged("no pain", 0), tagged("no pain", 0, 0)], features=TAGGED)
    DatasetDict(train=train, test=test).save_to_disk(str(tmp_path / "set"))
    assert detect_format(tmp_path / "set") == "datasets"
    with caplog.at_level(logging.INFO):
        found, (error,) = read_all(tmp_path / "set")
    assert found == [
        Document("train:1", "left knee pain", (Entity("SITE", ((0, 9),)),)),
        Document("train:2", "knee", (Entity("SITE", ((0, 4),)),)),
        Document("test:2", "no pain"),
    ]
    assert [document.meta for document in found] == [{"date": "2020"}, {}, {}]
    assert str(error) == (
        f"{tmp_path / 'set' / 'test'}: row 1: 2 tokens have the tags ['O']: expected one each"
    )
    assert f"{tmp_path / 'set'}: 1 tags that continue nothing, read as beginnings" in (
        caplog.messages
    )


def test_tags_of_a_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without entities beside them they are all that there is."""
    rows = [
        {"text": "left  knee, pain.", "tokens": ["left", "knee", ",", "pain", "."], "s": "a"},
        {"text": "Left knee", "tokens": ["left", "", "knee"], "s": "b"},
    ]
    tags = [["B-SITE", "I-SITE", "O", "O", "O"], ["B-SITE", "O", "I-SITE"]]
    rows = [{**row, "ner_tags": each} for row, each in zip(rows, tags, strict=True)]
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "set"))
    with caplog.at_level(logging.INFO):
        found, errors = read_all(tmp_path / "set")
    assert errors == []
    assert found == [
        Document("1", "left  knee, pain.", (Entity("SITE", ((0, 10),)),)),
        Document("2", "left knee", (Entity("SITE", ((0, 9),)),)),
    ]
    assert [document.meta for document in found] == [{"s": "a"}, {"s": "b"}]
    said = caplog.text
    assert "1 texts in which their tokens do not stand: the tokens are read" in said
    assert "1 empty tokens, passed over" in said


@pytest.mark.parametrize("tags", [[1, 0], ["B-X", "B_Y"], ["B-X"]])
def test_wrong_tags_of_a_text_are_no_text_without_entities(tmp_path: Path, tags: list[Any]) -> None:
    row = {"text": "a b", "tokens": ["a", "b"], "ner_tags": tags}
    Dataset.from_list([row]).save_to_disk(str(tmp_path / "set"))
    found, (error,) = read_all(tmp_path / "set")
    assert found == []
    assert "row 1: " in str(error)


@pytest.mark.parametrize("text", [["a cold"], "Panacea for a cold", "acold"])
def test_tokens_are_not_looked_for_inside_other_words(tmp_path: Path, text: Any) -> None:
    row = {"text": text, "tokens": ["a", "cold"], "ner_tags": ["O", "B-X"]}
    Dataset.from_list([row]).save_to_disk(str(tmp_path / "set"))
    (found,), _ = read_all(tmp_path / "set")
    at = found.text.index("cold")
    assert found.text in ("a cold", "acold")
    assert found.entities == (Entity("X", ((at, at + 4),)),)


def test_words_of_the_user_are_no_tags(tmp_path: Path) -> None:
    row = {"text": "No pain.", "tokens": ["No", "pain", "."], "tags": ["B", "ward 3", "O"]}
    Dataset.from_list([row]).save_to_disk(str(tmp_path / "set"))
    (found,), _ = read_all(tmp_path / "set")
    assert (found.text, found.entities) == ("No pain.", ())
    assert found.meta == {"tokens": row["tokens"], "tags": row["tags"]}


@pytest.mark.parametrize("many", [List, Sequence])
def test_texts_and_entities(tmp_path: Path, many: Any) -> None:
    """As lists of objects, or as objects of lists, which `Sequence` makes of them."""
    label = ClassLabel(names=["DRUG", "SITE"])
    entity = {"start": Value("int32"), "end": Value("int32"), "label": label}
    features = Features({"id": Value("int64"), "text": Value("string"), "entities": many(entity)})
    found: Any = [{"start": 5, "end": 9, "label": 1}]
    if many is Sequence:
        found = {"start": [5], "end": [9], "label": [1]}
    rows = [{"id": 7, "text": "left knee", "entities": found}]
    Dataset.from_list(rows, features=features).save_to_disk(str(tmp_path / "set"))
    expected = Document("7", "left knee", (Entity("SITE", ((5, 9),)),))
    assert read_all(tmp_path / "set") == ([expected], [])


def test_values_that_json_has_not(tmp_path: Path) -> None:
    """Dates and bytes of other columns, in the forms that tables give them."""
    rows = {
        "text": ["No pain."],
        "date": [datetime(2020, 1, 2, 3)],
        "more": [{"image": b"\x01\xff", "value": float("nan")}],
    }
    Dataset.from_dict(rows).save_to_disk(str(tmp_path / "set"))
    (found,), _ = read_all(tmp_path / "set")
    expected = {"date": "2020-01-02T03:00:00", "more": {"image": "01ff", "value": None}}
    assert found.meta == expected
    write([found], tmp_path / "out.jsonl")
    ((again,), _) = read_all(tmp_path / "out.jsonl")
    assert again.meta == expected


def test_the_schema_of_bigbio(tmp_path: Path) -> None:
    row = {
        "document_id": "9",
        "passages": [{"type": "title", "text": ["left knee"], "offsets": [[0, 9]]}],
        "entities": [{"type": "SITE", "text": ["knee"], "offsets": [[5, 9]], "normalized": []}],
    }
    Dataset.from_list([row]).save_to_disk(str(tmp_path / "set"))
    expected = Document("9", "left knee", (Entity("SITE", ((5, 9),)),), (Passage("title", 0, 9),))
    assert read_all(tmp_path / "set") == ([expected], [])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"tokens": ["a"], "ner_tags": ["X"]}, "row 1: unknown tag 'X': expected O, or B-"),
        ({"tokens": ["a"], "ner_tags": ["B"]}, "row 1: unknown tag 'B'"),
        ({"tokens": ["a"], "ner_tags": [3]}, "row 1: unknown tag 3"),
        ({"tokens": ["a"], "ner_tags": None}, "row 1: 1 tokens have the tags None"),
        ({"tokens": None, "ner_tags": ["O"]}, "row 1: the tokens are None"),
        ({"text": None, "id": "x"}, "row 1: the tokens are None"),
        (
            {"text": "a", "entities": [{"start": 0, "end": 5, "label": "A"}]},
            "ends after the text",
        ),
    ],
)
def test_broken_rows(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    Dataset.from_list([row]).save_to_disk(str(tmp_path / "set"))
    found, (error,) = read_all(tmp_path / "set")
    assert found == []
    assert reason in str(error)


def test_what_is_no_such_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Dataset.from_list([{"a": 1}]).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(InputError, match="the columns are a: expected text, or tokens and ner_"):
        list(read(tmp_path / "set"))
    shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "set")
    with pytest.raises(InputError, match="expected the folder that `save_to_disk` makes"):
        list(read(tmp_path / "set.zip"))
    (tmp_path / "set" / "state.json").write_text("{")
    with pytest.raises(InputError, match="not a data set"):
        list(read(tmp_path / "set"))
    monkeypatch.setattr("constrained_ner.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"constrained_ner\[datasets\]"):
        write([], tmp_path / "out.dataset")


ENTITIES = (
    Entity("finding", ((0, 4), (10, 14))),
    Entity("finding", ((5, 14),)),
    Entity("site", ((5, 9),)),
    Entity("cell type", ((15, 18),)),
)


def test_what_is_written(tmp_path: Path) -> None:
    item = Document(
        "1", "left knee pain IL2mutant", ENTITIES, confidences={ENTITIES[1]: 0.5}, meta={"n": 1}
    )
    assert write([item], tmp_path / "out.dataset").lines() == []
    found = load_from_disk(str(tmp_path / "out.dataset"))
    (row,) = found
    names = found.features["ner_tags"].feature.names
    assert names == ["O", "B-cell type", "I-cell type", "B-finding", "I-finding"]
    assert list(zip(row["tokens"], (names[tag] for tag in row["ner_tags"]), strict=True)) == [
        ("left", "O"),
        ("knee", "B-finding"),
        ("pain", "I-finding"),
        ("IL2", "B-cell type"),
        ("mutant", "O"),
    ]
    assert [entity["label"] for entity in row["entities"]] == [
        *("finding", "finding", "site", "cell type"),
    ]
    assert to_dataset([item])[0] == row


@examples(25)
@given(item=documents(["DRUG", "cell type"], boundaries="character"), meta=own_keys())
def test_the_view_has_the_tags_of_contiguous_entities(item: Document, meta: Any) -> None:
    found = to_dataset([Document(item.id, item.text, item.entities, meta=meta)])
    names, (row,) = found.features["ner_tags"].feature.names, found
    tags = [names[tag] for tag in row["ner_tags"]]
    assert "".join(row["tokens"]) == "".join(item.text.split())
    assert len(row["tokens"]) == len(tags)
    labels = {entity.label for entity in item.entities if not entity.discontinuous}
    assert {tag[2:] for tag in tags if tag != "O"} <= labels
    assert any(tag != "O" for tag in tags) == bool(labels)


def test_ids_that_cannot_be_written(tmp_path: Path) -> None:
    losses = write([Document("caf\udce9", "text")], tmp_path / "out.dataset")
    assert losses.counts == {"ids written otherwise": 1}
    assert [document.id for document in read_all(tmp_path / "out.dataset")[0]] == ["caf?"]
