"""Label Studio, Prodigy and doccano: what they export, and what they import.

The files are of our own making, in the shapes that the tools write.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.vocab import Vocab

from constrained_ner.corpora import OUTPUT_FORMATS, ConversionLosses, detect_format, read, write
from constrained_ner.corpora.files import File
from constrained_ner.corpora.json_records import first_keys
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
            {"start": 5, "end": 12, "token_start": 1, "token_end": 1, "label": "DRUG"}
            | {"score": 0.5, "type": "span", "text": "aspirin"}
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


def test_long_records_are_known_by_their_own_keys(tmp_path: Path) -> None:
    """However far behind they stand, and whatever their values have."""
    long = Document("d", "aspirin " * 20_000, (Entity("DRUG", ((0, 7),)),))
    long = replace(long, confidences={long.entities[0]: 0.5})
    for kind in ("prodigy", "doccano"):
        path = tmp_path / f"{kind}.jsonl"
        write([long], path, kind)
        assert detect_format(path) == kind
    (back,), _ = read_all(tmp_path / "prodigy.jsonl")
    assert (back.entities, back.confidences, back.meta) == (long.entities, long.confidences, {})
    bigbio = {
        "document_id": "9",
        "passages": [{"type": "title", "text": [long.text], "offsets": [[0, len(long.text)]]}],
        "entities": [],
    }
    for name, text in (("a.jsonl", json.dumps(bigbio)), ("a.json", json.dumps([bigbio]))):
        (tmp_path / name).write_text(text)
        file = File.on_disk(tmp_path / name)
        assert {"document_id", "passages"} <= first_keys(file)
        assert "text" not in first_keys(file)  # it is deeper
    assert detect_format(tmp_path / "a.jsonl") == "bigbio"


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
    record = prodigy(relations=[{"head": 1, "child": 2}], year=2020)
    path = write_lines(tmp_path / "a.jsonl", record, prodigy(source="letter 8"))
    (first, second), _ = read_all(path)
    assert first.meta == {"source": "letter 7", "date": "2020-01-01", "year": 2020}
    assert first.unread == ("values of the key 'relations'",)
    assert second.meta == {"meta": record["meta"], "source": "letter 8"}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"spans": 5}, "the key 'spans' is 5: expected a list"),
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
    doc = Doc(Vocab(), words=words, spaces=spaces)
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
        {"text": TEXT, "labels": [[5, 12, "DRUG"]], "meta": {"a": 1}, "annotation_approver": None},
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
    dates = [{"date": "2020-01-01"}] * 2
    assert [document.meta for document in found] == [*dates, {}, {"a": 1}, {}]
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


@pytest.mark.parametrize("name", ["doccano", "prodigy"])
def test_what_people_marked_is_mended(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """White space at the edges is stripped, and a span that cannot be leaves the others alone."""
    spans = [(0, 4, "A"), (4, 10, "B"), (4, 5, "C"), (5, 99, "D"), (5, 9, 3)]
    start, end = ("start_offset", "end_offset") if name == "doccano" else ("start", "end")
    marked = [{start: s, end: e, "label": label} for s, e, label in spans]
    marked += [{start: 0, end: 4}, {start: 0, end: 4, "label": "E", "text": "pain"}]
    if name == "doccano":
        record: dict[str, Any] = {"id": 7, "text": "mild pain today", "entities": marked}
    else:
        record = {"text": "mild pain today", "tokens": [], "spans": marked, "id": 7}
    path = write_lines(tmp_path / "a.jsonl", record)
    assert detect_format(path) == name
    with caplog.at_level(logging.INFO):
        documents, errors = read_all(path)
    assert errors == []
    (document,) = documents
    assert document.entities == (Entity("A", ((0, 4),)), Entity("B", ((5, 9),)))
    told = "\n".join(caplog.messages)
    assert told.count(f"{path}:1: skipped an annotation: ") == 5
    assert "expected 'label', and its offsets" in told
    assert "the surface 'pain' is not what 0 4 give" in told
    assert "the text at the offsets 4 5 is white space" in told
    assert "the offsets 5 99 lie outside the text" in told
    assert "label is 3: expected a string" in told
    assert f"{path}: 1 mentions with white space at their edges, which was stripped" in told


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
        "confidences",
        "keys 'label' of the user's, a name that doccano has",
    }


# ---- Label Studio


def region(start: object, end: object, text: str | None, *labels: str, **more: Any) -> Any:
    value = {"start": start, "end": end, "text": text, "labels": list(labels)}
    names = {"id": "aB1", "from_name": "label", "to_name": "text", "type": "labels"}
    return {**names, "value": value, "origin": "manual"} | more


def annotation(*result: Any, **more: Any) -> Any:
    settings = {"was_cancelled": False, "ground_truth": False, "completed_by": 1}
    return {"id": 9, "result": list(result), "updated_at": "2024-01-02", **settings} | more


def task(*annotations: Any, **more: Any) -> Any:
    """A task of the export JSON."""
    data = {"text": TEXT, "source": "letter 7"}
    return {"id": 1, "annotations": list(annotations), "data": data, "predictions": []} | more


def tasks(path: Path, *items: Any) -> Path:
    path.write_text(json.dumps(items), encoding="utf-8")
    return path


DRUG = region(5, 12, "aspirin", "DRUG")


def test_label_studio(tmp_path: Path) -> None:
    nested = annotation(DRUG, region(5, 12, "aspirin", "A", "B"), region(23, 27, "knee", "SITE"))
    path = tasks(tmp_path / "a.json", task(nested), task(annotation(), id=2))
    assert detect_format(path) == "label_studio"
    (first, second), errors = read_all(path)
    entities = (ASPIRIN, KNEE, Entity("A", ((5, 12),)), Entity("B", ((5, 12),)))
    assert (first, second, errors) == (Document("1", TEXT, entities), Document("2", TEXT), [])
    assert (first.meta, first.confidences) == ({"source": "letter 7"}, {})


def test_minimal_export_of_label_studio(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One record for each annotation of a task, its regions under the name of the tag."""

    def minimal(updated: str, **more: Any) -> Any:
        own = {"id": 7, "annotator": 1, "annotation_id": 3, "lead_time": 4.2}
        return {"text": TEXT, "source": "x", **own, "updated_at": updated} | more

    path = tasks(
        tmp_path / "a.json",
        minimal("2024-01-01", ner=[DRUG["value"]]),
        minimal("2024-01-02", ner=[DRUG["value"], region(23, 27, "knee", "SITE")["value"]]),
        minimal("2024-01-01", id=8),
    )
    assert detect_format(path) == "label_studio"
    with caplog.at_level(logging.INFO):
        (first, second), errors = read_all(path)
    assert (first, second) == (Document("7", TEXT, (ASPIRIN, KNEE)), Document("8", TEXT))
    assert (first.meta, errors) == ({"source": "x"}, [])
    assert caplog.messages == [
        f"{path}: 1 annotations of a task besides the one that is taken, left out"
    ]


@pytest.mark.parametrize(
    ("annotations", "taken"),
    [
        ([annotation(DRUG), annotation(updated_at="2024-01-01")], ASPIRIN),
        ([annotation(updated_at="2024-01-01"), annotation(DRUG)], ASPIRIN),
        ([annotation(DRUG, ground_truth=True, updated_at="2020"), annotation()], ASPIRIN),
        ([annotation(was_cancelled=True, updated_at="2025"), annotation(DRUG)], ASPIRIN),
        ([annotation(DRUG), annotation(updated_at="2025")], None),
        ([annotation(DRUG), annotation(updated_at=None)], ASPIRIN),
    ],
)
def test_of_several_annotations_one_is_taken(
    tmp_path: Path, annotations: list[Any], taken: Entity | None
) -> None:
    (found,), _ = read_all(tasks(tmp_path / "a.json", task(*annotations)))
    assert found.entities == ((taken,) if taken else ())


def test_tasks_that_nobody_has_annotated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old, new = {"result": [DRUG]}, {"result": [DRUG | {"score": 0.25}], "score": 0.25}
    path = tasks(
        tmp_path / "a.json",
        task(predictions=[old, new]),
        task(annotation(), predictions=[new]),
        task(),
        task(annotation(DRUG, was_cancelled=True), predictions=[new]),
    )
    with caplog.at_level(logging.INFO):
        found, errors = read_all(path)
    assert [document.entities for document in found] == [(ASPIRIN,), (), ()]
    assert (found[0].confidences, errors) == ({ASPIRIN: 0.25}, [])
    assert [message.removeprefix(f"{path}: ") for message in caplog.messages[:3]] == [
        "1 tasks that nobody has annotated, read with their last predictions",
        "1 tasks that nobody has annotated, read as without entities",
        "1 tasks that every annotator skipped, left out",
    ]


@pytest.mark.parametrize(
    ("found", "entity"),
    [
        (region(24, 28, "knee", "SITE"), KNEE),  # UTF-16 units
        (region(24, 28, None, "SITE"), Entity("SITE", ((24, 28),))),  # nothing shows it
        (region(23, 27, "hip", "SITE"), None),
        (region(23, 270, "knee", "SITE"), None),
        (region(23, 27, "knee"), None),
        (
            region("/p[1]/text()[1]", "/p[1]/text()[1]", "knee", "SITE", type="hypertextlabels"),
            KNEE,
        ),
        ({"type": "choices", "value": {"choices": ["x"]}}, None),
    ],
)
def test_what_offsets_of_label_studio_count(
    tmp_path: Path, found: Any, entity: Entity | None, caplog: pytest.LogCaptureFixture
) -> None:
    if found["type"] == "hypertextlabels":
        found["value"]["globalOffsets"] = {"start": 23, "end": 27}
    with caplog.at_level(logging.INFO):
        (document,), errors = read_all(tasks(tmp_path / "a.json", task(annotation(found))))
    assert (document.entities, errors) == ((entity,) if entity else (), [])
    if entity is None:
        assert any("skipped" in m or "passed over" in m for m in caplog.messages)


def test_line_breaks_in_surfaces_of_label_studio(tmp_path: Path) -> None:
    """Its editor writes one as a backslash and an n."""
    text = "left\nknee & <b>pain</b>"
    result = annotation(region(0, 9, "left\\nknee", "SITE"), region(12, 15, "<b>", "X"))
    (document,), _ = read_all(tasks(tmp_path / "a.json", task(result, data={"text": text})))
    assert document.entities == (Entity("SITE", ((0, 9),)), Entity("X", ((12, 15),)))


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (5, "the task is 5: expected an object"),
        (task(data=None), "the key 'data' is None: expected an object"),
        (task(data={"image": "a", "x": "b"}), "the data have the keys 'image', 'x': expected 'te"),
        (task(data={"image": "a.png"}), "the data have the keys 'image': expected 'text'"),
        (task(annotations=5), "the key 'annotations' is 5: expected a list of objects"),
        (task(annotation("x")), "the key 'result' is ['x']: expected a list of objects"),
        (task(data={"text": "\ud800"}), "lone surrogate"),
    ],
)
def test_a_broken_task_does_not_lose_the_others(tmp_path: Path, item: Any, reason: str) -> None:
    path = tasks(tmp_path / "a.json", task(annotation()), item, task(annotation(), id=3))
    found, (error,) = read_all(path)
    assert [document.id for document in found] == ["1", "3"]
    assert str(error).startswith(f"{path}: record 2: ")
    assert reason in str(error)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (DRUG | {"value": 5}, "the value of a region is 5: expected an object"),
        (region("/p[1]", "/p[1]", "x", "A"), "expected integers 'start' and 'end'"),
        (region(5, None, "x", "A"), "expected integers 'start' and 'end'"),
    ],
)
def test_a_broken_region_does_not_lose_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: Any, reason: str
) -> None:
    path = tasks(tmp_path / "a.json", task(annotation(broken, DRUG)))
    assert read_all(path) == ([Document("1", TEXT, (ASPIRIN,))], [])
    (message,) = caplog.messages
    assert message.startswith(f"{path}: record 1: skipped an annotation: ")
    assert reason in message


def test_regions_of_another_text_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A task may have several texts; a tag that is no key of the data is that of the text."""
    data = {"text": TEXT, "title": TEXT}
    others = [DRUG | {"to_name": name} for name in ("title", "note")]
    result = annotation(*others, region(23, 27, "knee", "SITE", to_name="title"))
    path = tasks(tmp_path / "a.json", task(result, data=data))
    with caplog.at_level(logging.INFO):
        assert read_all(path) == ([Document("1", TEXT, (ASPIRIN,))], [])
    assert caplog.messages == [f"{path}: 2 regions of other texts of a task, passed over"]


@pytest.mark.parametrize("key", ["report", "document"])
def test_the_text_is_found_among_the_data(tmp_path: Path, key: str) -> None:
    data = {"report": TEXT, "n": 5} if key == "report" else {"document": TEXT, "title": "x"}
    result = annotation(DRUG | {"to_name": key})
    (found,), _ = read_all(tasks(tmp_path / "a.json", task(result, data=data)))
    assert found.text == TEXT


def test_the_score_of_a_task_is_of_what_is_written(tmp_path: Path) -> None:
    apart = Entity("SITE", ((0, 4), (15, 24)))
    item = Document("x", TEXT, (ASPIRIN, apart), confidences={ASPIRIN: 0.9, apart: 0.1})
    path = tmp_path / "a.labelstudio.json"
    losses = write([item], path)
    (task,) = json.loads(path.read_text(encoding="utf-8"))
    assert losses.counts == {"discontinuous mentions, left out": 1}
    assert task["predictions"][0]["score"] == 0.9


def test_what_label_studio_is_given(tmp_path: Path) -> None:
    """Predictions, with the score of each region; the least of them is the task's."""
    item = Document("x", TEXT, (ASPIRIN, KNEE), confidences={ASPIRIN: 0.5, KNEE: 0.75})
    losses = write([item, Document("y", "none")], tmp_path / "a.labelstudio.json")
    first, second = json.loads((tmp_path / "a.labelstudio.json").read_text(encoding="utf-8"))
    assert first["data"] == {"text": TEXT, "document_id": "x"}
    (prediction,) = first["predictions"]
    assert prediction["score"] == 0.5
    assert prediction["result"][1] == {
        "id": "e1",
        "from_name": "label",
        "to_name": "text",
        "type": "labels",
        "value": {"start": 23, "end": 27, "text": "knee", "labels": ["SITE"]},
        "score": 0.75,
    }
    assert second["predictions"][0]["result"] == []
    assert losses.counts == {}


# ---- all

META = st.dictionaries(st.sampled_from(["date", "source", "n"]), st.integers() | st.text())


@pytest.mark.parametrize("name", ["label_studio", "prodigy", "doccano"])
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
    path = tmp_path_factory.mktemp("own") / f"a{OUTPUT_FORMATS[name].suffixes[0]}"
    losses, (back,) = round_trip([given], path, name)
    assert (back, back.meta) == (given, meta)
    if not losses.counts:
        assert back.confidences == sure
    assert set(losses.counts) <= {"confidences"}
