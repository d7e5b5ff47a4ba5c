"""Prodigy and doccano: what they export, and what they import.

The files are of our own making, in the shapes that the tools write.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc

from constrained_ner.corpora import ConversionLosses, detect_format, read, write
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError
from tests.support.strategies import documents, examples

ASPIRIN = Entity("DRUG", ((5, 12),))
TEXT = "Took aspirin \N{GRINNING FACE} for the knee."
KNEE = Entity("SITE", ((23, 27),))


def write_lines(path: Path, *records: Mapping[str, Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


def read_all(path: Path, name: str | None = None) -> tuple[list[Document], list[InputError]]:
    records = list(read(path, name))
    return (
        [record for record in records if isinstance(record, Document)],
        [record for record in records if isinstance(record, InputError)],
    )


def round_trip(
    items: Sequence[Document], path: Path, name: str
) -> tuple[ConversionLosses, list[Document]]:
    losses = write(items, path, name)
    back, errors = read_all(path, name)
    assert errors == []
    return losses, back


# ---- Prodigy


def prodigy(**more: Any) -> dict[str, Any]:
    """A record as `prodigy db-out` writes it."""
    return {
        "text": TEXT,
        "meta": {"source": "letter 7", "date": "2020-01-01"},
        "_input_hash": 1886699658,
        "_task_hash": -1952856502,
        "_is_binary": False,
        "tokens": [{"text": "Took", "start": 0, "end": 4, "id": 0, "ws": True}],
        "_view_id": "ner_manual",
        "spans": [
            {"start": 5, "end": 12, "token_start": 1, "token_end": 1, "label": "DRUG", "score": 0.5}
        ],
        "answer": "accept",
        "_timestamp": 1641205135,
        "_annotator_id": "2022-01-03_10-58-49",
        "_session_id": "2022-01-03_10-58-49",
    } | more


def test_prodigy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_lines(tmp_path / "a.jsonl", prodigy(), prodigy(id=7, spans=[], _input_hash=2))
    assert detect_format(path) == "prodigy"
    (first, second), errors = read_all(path)
    assert (first, second) == (Document("a:1", TEXT, (ASPIRIN,)), Document("7", TEXT))
    assert first.confidences == {ASPIRIN: 0.5}
    assert first.meta == {"source": "letter 7", "date": "2020-01-01"}
    assert (first.unread, errors, caplog.messages) == ((), [], [])


def test_what_was_rejected_in_prodigy_is_no_gold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = {"start": 0, "end": 4, "label": "DRUG", "answer": "reject"}
    path = write_lines(
        tmp_path / "a.jsonl",
        prodigy(),
        prodigy(answer="reject", spans=[]),
        prodigy(answer="ignore"),
        prodigy(_input_hash=2, spans=[*prodigy()["spans"], wrong]),
    )
    for name in (None, "jsonl"):
        found, errors = read_all(path, name)
        assert ([document.id for document in found], errors) == (["a:1", "a:4"], [])
        assert f"{path}: 2 rejected or ignored records, left out" in caplog.messages
    found, _ = read_all(path)
    assert found[1].entities == (ASPIRIN,)
    assert f"{path}: 1 rejected or ignored spans, left out" in caplog.messages


def test_records_of_prodigy_that_say_less_than_they_seem_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_lines(tmp_path / "a.jsonl", prodigy(), prodigy(_view_id="ner"))
    found, _ = read_all(path)
    assert len(found) == 2
    assert caplog.messages == [
        f"{path}: 1 records of the same input as an earlier one",
        f"{path}: 1 records of yes or no to one span: they may lack entities",
    ]


def test_keys_of_prodigy(tmp_path: Path) -> None:
    """Those of other interfaces are counted; the user's own are kept, beside those of `meta`."""
    record = prodigy(relations=[{"head": 1, "child": 2}], year=2020, source="letter 8")
    (found,), _ = read_all(write_lines(tmp_path / "a.jsonl", record))
    assert found.meta == {"source": "letter 7", "date": "2020-01-01", "year": 2020}
    assert found.unread == ("values of the key 'relations'", "values of the key 'source'")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"spans": 5}, "the key 'spans' is 5: expected a list"),
        ({"spans": [{"start": 0, "end": 4}]}, "expected 'label'"),
        ({"spans": [{"start": 0, "end": 400, "label": "DRUG"}]}, "ends after the text"),
        ({"spans": [{"start": 0, "end": 4, "label": "A", "text": "x"}]}, "the surface 'x' is not"),
        ({"text": None, "image": "a.png"}, "the key 'text' is None"),
    ],
)
def test_a_broken_record_of_prodigy_does_not_lose_the_others(
    tmp_path: Path, more: dict[str, Any], reason: str
) -> None:
    path = write_lines(tmp_path / "a.jsonl", prodigy(), prodigy(**more), prodigy())
    found, (error,) = read_all(path)
    assert [document.id for document in found] == ["a:1", "a:3"]
    assert str(error).startswith(f"{path}:2: ")
    assert reason in str(error)


@examples(60)
@given(documents(["DRUG", "SITE"], boundaries="character"))
def test_spacy_agrees_with_what_prodigy_is_given(
    tmp_path_factory: pytest.TempPathFactory, item: Document
) -> None:
    """The tokens make up the text, and each span is that of its tokens."""
    path = tmp_path_factory.mktemp("prodigy") / "a.prodigy.jsonl"
    write([item], path)
    record = json.loads(path.read_text(encoding="utf-8"))
    tokens = record["tokens"]
    words, spaces = [t["text"] for t in tokens], [t["ws"] for t in tokens]
    doc = Doc(spacy.blank("en").vocab, words=words, spaces=spaces)
    assert doc.text == item.text
    assert [(t.idx, t.idx + len(t), t.i) for t in doc] == [
        (t["start"], t["end"], t["id"]) for t in tokens
    ]
    for span in record["spans"]:
        covered = doc[span["token_start"] : span["token_end"] + 1]
        assert (covered.start_char, covered.end_char) == (span["start"], span["end"])
    kept = [entity for entity in item.entities if not entity.discontinuous]
    assert len(record["spans"]) == len(kept)


# ---- doccano


def doccano(**more: Any) -> dict[str, Any]:
    """A record of a project with relations, as doccano exports it."""
    entities = [
        {"id": 101, "label": "DRUG", "start_offset": 5, "end_offset": 12},
        {"id": 102, "label": "SITE", "start_offset": 23, "end_offset": 27},
    ]
    record = {"id": 6400, "text": TEXT, "date": "2020-01-01", "Comments": []}
    return record | {"entities": entities, "relations": []} | more


def test_doccano(tmp_path: Path) -> None:
    relation = {"id": 1, "from_id": 101, "to_id": 102, "type": "treats"}
    path = write_lines(
        tmp_path / "all.jsonl",
        doccano(),
        doccano(relations=[relation], Comments=[{"id": 1, "comment": "sure?"}]),
        {"id": 8, "text": TEXT, "label": [[5, 12, "DRUG"]], "Comments": []},
        {"text": TEXT, "labels": [[5, 12, "DRUG"]]},
        {"id": 9, "text": TEXT, "label": [], "Comments": []},
    )
    assert detect_format(path) == "doccano"
    found, errors = read_all(path)
    assert errors == []
    assert found == [
        Document("6400", TEXT, (ASPIRIN, KNEE)),
        Document("6400", TEXT, (ASPIRIN, KNEE)),
        Document("8", TEXT, (ASPIRIN,)),
        Document("all:4", TEXT, (ASPIRIN,)),
        Document("9", TEXT),
    ]
    assert [document.meta for document in found] == [{"date": "2020-01-01"}] * 2 + [{}] * 3
    assert found[0].unread == ()
    assert found[1].unread == ("values of the key 'relations'", "values of the key 'Comments'")


def test_several_users_of_doccano(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where they stand in one record, as older versions write them: the first one is taken."""
    annotations = [
        {"label": "DRUG", "start_offset": 5, "end_offset": 12, "user": 2},
        {"label": "SITE", "start_offset": 23, "end_offset": 27, "user": 1},
    ]
    path = write_lines(tmp_path / "a.jsonl", {"id": 1, "text": TEXT, "annotations": annotations})
    with caplog.at_level(logging.INFO):
        assert read_all(path) == ([Document("1", TEXT, (ASPIRIN,))], [])
    assert f"{path}: 1 annotations of further users, left out" in caplog.messages


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"entities": None}, "the key 'entities' is None: expected a list"),
        ({"entities": [{"label": 3, "start_offset": 0, "end_offset": 4}]}, "label is 3"),
        ({"entities": [{"label": "A", "start_offset": 0, "end_offset": 99}]}, "ends after the"),
        ({"label": [[0, 4, "A"]]}, "there are entities under 'entities' and 'label'"),
        ({"text": 5}, "the key 'text' is 5"),
    ],
)
def test_a_broken_record_of_doccano_does_not_lose_the_others(
    tmp_path: Path, more: dict[str, Any], reason: str
) -> None:
    path = write_lines(tmp_path / "a.jsonl", doccano(), doccano(**more), doccano(id=3))
    found, (error,) = read_all(path)
    assert [document.id for document in found] == ["6400", "3"]
    assert str(error).startswith(f"{path}:2: ")
    assert reason in str(error)


def test_what_doccano_is_given(tmp_path: Path) -> None:
    """One list of offsets and label each; the user's keys, but none that is doccano's own."""
    item = Document(
        "x",
        TEXT,
        (ASPIRIN, KNEE, Entity("X", ((0, 4), (5, 12)))),
        confidences={ASPIRIN: 0.5},
        meta={"date": "2020", "label": "positive"},
    )
    losses = write([item], tmp_path / "a.doccano.jsonl")
    (line,) = (tmp_path / "a.doccano.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {
        "id": "x",
        "text": TEXT,
        "label": [[5, 12, "DRUG"], [23, 27, "SITE"]],
        "date": "2020",
    }
    assert set(losses.counts) == {
        "discontinuous mentions, left out",
        "documents whose confidences are not kept",
        "values of the key 'label', which doccano has for its own",
    }


# ---- both

META = st.dictionaries(st.sampled_from(["date", "source", "n"]), st.integers() | st.text())


@pytest.mark.parametrize("name", ["prodigy", "doccano"])
@examples(40)
@given(item=documents(["DRUG", "SITE"], discontinuous=False), meta=META, data=st.data())
def test_what_is_the_users_own_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    item: Document,
    meta: dict[str, Any],
    data: st.DataObject,
) -> None:
    sure = {entity: data.draw(st.floats(0, 1)) for entity in item.entities}
    given = Document(item.id, item.text, item.entities, confidences=sure, meta=meta)
    path = tmp_path_factory.mktemp("own") / "a.jsonl"
    losses, (back,) = round_trip([given], path, name)
    assert (back, back.meta) == (given, meta)
    if not losses.counts:
        assert back.confidences == sure
    assert set(losses.counts) <= {"documents whose confidences are not kept"}
