"""`cner convert`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from constrained_ner.cli import main
from constrained_ner.corpora import read, write
from constrained_ner.documents import Document, Entity
from tests.test_writers import CORPUS, READABLE, SUFFIXES


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


Written = tuple[str, Path, list[Document]]


@pytest.fixture(scope="module", params=READABLE)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A format, a corpus in it, and the documents that are read from that."""
    path = tmp_path_factory.mktemp("source") / f"a{SUFFIXES[request.param]}"
    write(CORPUS, path, request.param)
    return request.param, path, [one for one in read(path) if isinstance(one, Document)]


@pytest.mark.parametrize("target", SUFFIXES)
def test_between_any_two(written: Written, tmp_path: Path, target: str) -> None:
    source, before, documents = written
    after = tmp_path / f"b{SUFFIXES[target]}"
    result = convert(before, after)
    assert result.exit_code == 0, result.output
    count = sum(len(document.entities) for document in documents)
    assert f"{len(documents)} documents, {count} mentions: {source} to {target}" in result.stderr
    assert result.stdout == ""
    assert after.exists()
    if target in READABLE:
        again = [record for record in read(after) if isinstance(record, Document)]
        labels = {"drug", "disease"}
        for a, b in zip(documents, again, strict=True):
            kept = [(e.label, e.surface(a.text)) for e in a.entities if e.label in labels]
            assert [(e.label, e.surface(b.text)) for e in b.entities if e.label in labels] == kept


def test_what_is_not_kept_and_what_was_passed_over_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pubtator"
    path.write_text("1|t|Aspirin\n1|a|helped\n1\t0\t7\tAspirin\tDrug\tD1\n1\t0\t9\tx\tDrug\n")
    result = convert(path, tmp_path / "b.conll")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"warning: {path}:4: skipped Drug: the surface 'x' is not what 0 9 give, 'Aspirin h'",
        f"note: {path}: 1 concept identifiers, passed over",
        "1 document, 1 mention: pubtator to conll",
        "not kept: 1 documents whose passages are not kept (the first: document '1')",
        "not kept: 1 texts whose white space is not kept (the first: document '1')",
    ]


def test_a_broken_record_is_reported_and_the_rest_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": 2}\n{"text": "three"}\n')
    result = convert(path, tmp_path / "b.json")
    assert result.exit_code == 1
    assert f"left out: {path}:2: the key 'text' is 2: expected a string" in result.stderr
    again = list(read(tmp_path / "b.json"))
    assert [record.text for record in again if isinstance(record, Document)] == ["one", "three"]


def test_words(tmp_path: Path) -> None:
    """Tokens stay what they are where the input has columns; else punctuation is cut off."""
    text = "CD28-mediated signals."
    write([Document("a:1", text, (Entity("x", ((0, 4),)),))], tmp_path / "a.jsonl")
    assert convert(tmp_path / "a.jsonl", tmp_path / "fine.conll").exit_code == 0
    assert (tmp_path / "fine.conll").read_text().split() == (
        ["-DOCSTART-", "(a:1)", "CD28", "B-x", "-", "O", "mediated", "O", "signals", "O", ".", "O"]
    )
    result = convert(tmp_path / "a.jsonl", tmp_path / "space.conll", "--words", "space")
    assert "1 mentions that begin or end inside a token, left out" in result.stderr
    assert (tmp_path / "space.conll").read_text().split()[2:] == (
        ["CD28-mediated", "O", "signals.", "O"]
    )
    assert convert(tmp_path / "space.conll", tmp_path / "again.conll").exit_code == 0
    assert (tmp_path / "again.conll").read_text() == (tmp_path / "space.conll").read_text()
    result = convert(tmp_path / "a.jsonl", tmp_path / "b.json", "--words", "fine")
    assert "--words is for columns, and bioc_json has none" in result.output


def test_a_label_for_plain_tags(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("adenomatous\tB\npolyposis\tI\ncarrier\tO\n")
    result = convert(path, tmp_path / "b.jsonl")
    assert result.exit_code == 1
    assert f"{path}: the tag 'B' has no label: expected one after it, or" in result.stderr
    assert not (tmp_path / "b.jsonl").exists()
    assert convert(path, tmp_path / "b.jsonl", "--label", "Disease").exit_code == 0
    (document,) = [r for r in read(tmp_path / "b.jsonl") if isinstance(r, Document)]
    assert [(e.label, e.surface(document.text)) for e in document.entities] == [
        ("Disease", "adenomatous polyposis")
    ]
    result = convert(tmp_path / "b.jsonl", tmp_path / "c.json", "--label", "Disease")
    assert "--label is for columns, and jsonl has none" in result.output


def test_what_is_not_read_of_a_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    entity = '{"label": "Drug", "fragments": [[0, 7]], "confidence": 0.5, "note": ""}'
    path.write_text(f'{{"id": "1", "text": "Aspirin", "entities": [{entity}], "answers": []}}\n')
    result = convert(path, tmp_path / "b.jsonl")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "1 document, 1 mention: jsonl to jsonl",
        "not kept: 1 values of the entities' key 'note' (the first: document '1')",
    ]
    (record,) = map(json.loads, (tmp_path / "b.jsonl").read_text().splitlines())
    assert record["entities"][0]["confidence"] == 0.5
    assert record["meta"] == {"answers": []}
    result = convert(path, tmp_path / "b.pubtator")
    assert result.stderr.splitlines()[1:] == [
        "not kept: 1 confidences (the first: document '1': Drug 0-7 'Aspirin')",
        "not kept: 1 values of the entities' key 'note' (the first: document '1')",
        "not kept: 1 values of the key 'answers' (the first: document '1')",
    ]


def test_what_predict_adds_is_named_as_one_thing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    entity = {"label": "Drug", "fragments": [[0, 7]], "surface": "Aspirin", "confidence": 0.5}
    record = {
        "id": "1",
        "text": "Aspirin",
        "format": "multi_tag",
        "level": "faithful",
        "options": {},
        "entities": [entity],
        "answers": [],
        "fingerprint": "0",
        "notes": 3,
    }
    path.write_text(json.dumps(record) + "\n")
    result = convert(path, tmp_path / "b.jsonl")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[1:] == [
        "not kept: 1 records of `cner predict` whose answers and settings are not kept (the first: "
        "document '1')",
    ]
    (again,) = map(json.loads, (tmp_path / "b.jsonl").read_text().splitlines())
    assert again == {
        "id": "1",
        "text": "Aspirin",
        "entities": [{"label": "Drug", "fragments": [[0, 7]], "confidence": 0.5}],
        "meta": {"notes": 3},
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [("b.docx", "no output format has this suffix"), ("absent/b.json", "cannot be written")],
)
def test_an_output_that_cannot_be(tmp_path: Path, name: str, message: str) -> None:
    write(CORPUS, tmp_path / "a.jsonl")
    result = convert(tmp_path / "a.jsonl", tmp_path / name)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_sections_of_entities_come_along(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    entity = {"label": "Drug", "fragments": [[0, 7]], "section": "PLAN"}
    path.write_text(json.dumps({"id": "1", "text": "Aspirin", "entities": [entity]}) + "\n")
    assert convert(path, tmp_path / "b.jsonl").exit_code == 0
    (record,) = map(json.loads, (tmp_path / "b.jsonl").read_text().splitlines())
    assert record["entities"] == [entity]
    assert convert(path, tmp_path / "b.csv").exit_code == 0
    assert (tmp_path / "b.csv").read_text().splitlines()[1] == "1,0,7,Drug,Aspirin,,PLAN,0-7"
    result = convert(path, tmp_path / "b.pubtator")
    assert "not kept: 1 sections (the first: document '1': Drug 0-7 'Aspirin')" in result.stderr
