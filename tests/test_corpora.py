"""The readers of text, JSON lines, columns and brat: what we write, broken in many ways."""

from __future__ import annotations

import gzip
import io
import json
import logging
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from constrained_ner.corpora import INPUT_FORMATS, OUTPUT_FORMATS, detect_format, files, jsonl
from constrained_ner.corpora import read as read_corpus
from constrained_ner.corpora import write as write_corpus
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError

Span = tuple[int, int]


def read(path: Path, input_format: str | None = None) -> tuple[list[Document], list[InputError]]:
    records = list(read_corpus(path, input_format))
    documents = [record for record in records if isinstance(record, Document)]
    return documents, [record for record in records if isinstance(record, InputError)]


def mentions(document: Document) -> list[tuple[str, str]]:
    return [(entity.label, entity.surface(document.text)) for entity in document.entities]


def texts(documents: list[Document]) -> list[tuple[str, str]]:
    return [(document.id, document.text) for document in documents]


# ---------------------------------------------------------------- recognising a format

IOB2 = "Aspirin\tB-Chemical\nhelped\tO\n"
NESTED = "colon\tB-Anatomy\tB-Disease\ncancer\tO\tI-Disease\n"
POS = "Aspirin\tNN\tO\tB-Chemical\nhelped\tVB\tO\tO\n"
RECORD = '{"id": "a", "text": "Aspirin helped"}\n'


def own(meta: dict[str, Any]) -> str:
    """A record as we write it, with keys of a user."""
    entities = [{"label": "Drug", "fragments": [[0, 7]]}]
    passages = [{"type": "title", "start": 0, "end": 7}]
    record = {"id": "a", "text": "Aspirin", "entities": entities, "passages": passages}
    return json.dumps(record | {"meta": meta}) + "\n"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("note.txt", "Aspirin helped.\n", "text"),
        ("note.TXT", "one\ttab in a long text\nand\nthree\nmore lines\n", "text"),
        ("table.txt", "drug\tdose\naspirin\t100 mg\n", "text"),
        ("columns.txt", IOB2, "conll"),
        ("layers.txt", NESTED, "nested_iob"),
        ("columns.tsv", IOB2, "conll"),
        ("columns.conll", IOB2.replace("\t", " "), "conll"),
        ("columns.iob", "\ufeff" + IOB2, "conll"),
        ("columns.bio", "helped\tO extra\tfoo\n" + IOB2 * 3, "conll"),
        ("columns.iob2", "-DOCSTART- -X- O O\n\n" + IOB2, "conll"),
        ("empty.tsv", "", "conll"),
        ("layers.iob2", NESTED, "nested_iob"),
        ("records.jsonl", RECORD, "jsonl"),
        ("records.json", RECORD, "jsonl"),
        ("records.ndjson", RECORD, "jsonl"),
        ("a.ann", "T1\tChemical 0 7\tAspirin\n", "brat"),
        ("pos.tsv", POS, "conll"),
        ("pos.txt", POS, "conll"),
        ("iobes.tsv", "colon\tB-D\ncancer\tE-D\nAspirin\tS-C\n", "conll"),
        ("a.PubTator.txt", "1|t|A title\n1|a|Text\n", "pubtator"),
        ("a.pubtator", "\n\n1|t|A title\n1|a|Text\n", "pubtator"),
        ("a.xml", "<?xml version='1.0'?><collection></collection>", "bioc_xml"),
        ("a.xml", "<set><article></article></set>", "genia"),
        ("a.json", '{"documents": [{"id": "1", "infons": {}, "passages": []}]}', "bioc_json"),
        ("a.json", '[{"id": "1", "passages": [], "entities": [{"offsets": []}]}]', "bigbio"),
        ("a.jsonl", '{"id": "1", "passages": [], "entities": [{"offsets": []}]}', "bigbio"),
        ("a.parquet", "PAR1", "table"),
        ("a.csv", "id;text\n", "table"),
        ("a.csv", "Nummer;Befund\n1;Knie\n", "table"),
        ("a.xlsx", "PK", "table"),
        ("a.tsv", "note_id\tNOTE TEXT\n1\tKnee pain\n", "table"),
        ("a.tsv", "text\tblood group\nKnee\tO\nHip\tB\n", "table"),
        ("a.tsv", "text\tO\nmining\tO\n", "conll"),
        ("a.tsv", "text\ttag\nKnee\tB-Site\npain\tO\n\nHip\tO\n", "conll"),
        ("a.tsv", "Nummer\tBefund\n1\tKnie\n", None),
        ("train.in", "P1T0 Aspirin helped\n", "bc2gm"),
        # Keys of a user that others' records have.
        ("own.jsonl", own({"_input_hash": 1, "spans": 2, "tokens": 3}), "jsonl"),
        ("own.jsonl", own({"labels": [], "annotation_approver": 1}), "jsonl"),
        ("own.jsonl", own({"offsets": [1]}), "jsonl"),
        ("x.abstracts.txt", "1\tA title\tText\n", "chemdner"),
        ("other.xml", "<html></html>", None),
        ("words.tsv", "Aspirin\nhelped\n", None),
        ("spaces.txt", IOB2.replace("\t", " "), "conll"),
        ("docstart.txt", "-DOCSTART- -X- O\n\nAspirin NN O\n", "conll"),
        ("vitamins.txt", "vitamin B-12\nvitamin B-6\n", "text"),
        ("groups.txt", "blood group O\nblood group B\n", "text"),
        ("plain.tsv", "Aspirin\tB\nhelped\tO\n", "conll"),
        ("sizes.tsv", "shirt\tS\nsocks\tL\n", None),
        ("comments.conll", "# id 1\tx\n# id 2\tx\n" + IOB2, "conll"),
        ("numbers.tsv", "1\tcolon\tB-D\n1\tcancer\tI-D\n", "conll"),
        ("numbers.iob2", "1\tcolon\tB-A\tB-D\n2\tcancer\tO\tI-D\n", "nested_iob"),
        ("dose.iob2", "5\tB-A\tB-D\n6\tO\tI-D\n", "nested_iob"),
        ("chunks.tsv", "colon\tB-NP\tB-D\ncancer\tI-NP\tI-D\nis\tB-VP\tO\n", "conll"),
        ("phrases.nested", "colon\tB-NP\tB-VP\ncancer\tI-NP\tI-VP\n", "nested_iob"),
        ("first.nested", "colon\tO\tB-D\ncancer\tO\tI-D\n", "nested_iob"),
        ("inner.nested", "the\tO\tB-Person\nold\tB-NP\tI-Person\n", "nested_iob"),
        ("pretty.json", '[\n{"text": "Aspirin"}\n]\n', "jsonl"),
        ("other.json", '[\n{"word": "Aspirin"}\n]\n', None),
        ("records.txt", RECORD, "jsonl"),
        ("object.json", '{\n"text": "Aspirin"\n}\n', None),
        ("corpus.xyz", "Aspirin", None),
    ],
)
def test_detect_format(tmp_path: Path, name: str, content: str, expected: str | None) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    if expected is None:
        with pytest.raises(InputError, match="format not recognised: name one with"):
            detect_format(path)
    else:
        assert detect_format(path) == expected


def test_chunks_that_are_no_mentions_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.iob"
    path.write_text("colon\tB-NP\tB-D\ncancer\tI-NP\tI-D\nis\tB-VP\tO\n")
    with caplog.at_level(logging.INFO):
        (document,), _ = read(path)
    assert mentions(document) == [("D", "colon cancer")]
    assert caplog.messages == [
        f"{path}: columns of chunks (NP, VP), passed over: 'nested_iob' reads them as mentions"
    ]
    (document,), _ = read(path, "nested_iob")
    assert {label for label, _ in mentions(document)} == {"D", "NP", "VP"}


@pytest.mark.parametrize("name", ["jsonl", "doccano", "prodigy"])
def test_the_same_annotation_twice_is_counted(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.jsonl"
    span = {"start": 0, "end": 7, "label": "C"}
    path.write_text(json.dumps({"text": "Aspirin", "spans": [span, span]}))
    (document,), errors = read(path, name)
    assert (mentions(document), errors) == ([("C", "Aspirin")], [])
    losses = write_corpus([document], tmp_path / "out.jsonl")
    assert losses.counts == {"annotations that say the same as another one": 1}


def test_files_that_end_in_in_are_no_bc2gm_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "MANIFEST.in").write_text("include README\n")
    (tmp_path / "a.jsonl").write_text(own({}))
    assert detect_format(tmp_path) == "jsonl"
    (tmp_path / "GENE.eval").write_text("include|0 2|READ\n")
    assert detect_format(tmp_path) == "bc2gm"


def test_a_text_with_annotations_beside_it_is_brat(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Aspirin helped")
    assert detect_format(tmp_path / "a.txt") == "text"
    (tmp_path / "a.ann").write_text("T1\tChemical 0 7\tAspirin\n")
    assert detect_format(tmp_path / "a.txt") == "brat"
    assert detect_format(tmp_path) == "brat"
    for path in (tmp_path, tmp_path / "a.txt", tmp_path / "a.ann"):
        assert read(path)[0] == [Document("a", "Aspirin helped", (Entity("Chemical", ((0, 7),)),))]


@pytest.mark.parametrize("name", ["1.con", "concept/1.con", "1.xml"])
def test_texts_beside_files_of_their_names_are_warned_of(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "1.txt").write_text("Aspirin helped.")
    (tmp_path / "README.md").write_text("One text.")
    assert detect_format(tmp_path) == "text"
    assert caplog.messages == []
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('c="Aspirin" 1:0 1:0||t="treatment"')
    assert len(read(tmp_path)[0]) == 1
    (warning,) = caplog.messages
    assert warning.startswith(f"{tmp_path}: read as plain texts without annotations: ")
    assert f"the format of {name}, which belongs to 1.txt by its name" in warning


def test_files_of_other_formats_beside_brat_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_pair(tmp_path, "a", "Aspirin helped", "T1\tChemical 0 7\tAspirin\n")
    (tmp_path / "b.jsonl").write_text(RECORD)
    (tmp_path / "README.txt").write_text("Two files.")
    with caplog.at_level(logging.INFO):
        read(tmp_path)
    assert caplog.messages == [
        f"{tmp_path}: 1 files of other formats passed over, b.jsonl (jsonl) the first",
        f"{tmp_path}: 1 texts without a file of annotations, read as without entities",
    ]


@pytest.mark.parametrize("input_format", [None, *INPUT_FORMATS])
def test_missing_file(tmp_path: Path, input_format: str | None) -> None:
    with pytest.raises(InputError, match=r"absent\.tsv: "):
        list(read_corpus(tmp_path / "absent.tsv", input_format))


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown input format 'docx': there are bc2gm, bigbio"):
        list(read_corpus(tmp_path, "docx"))


@pytest.mark.parametrize("input_format", [None, *(n for n in INPUT_FORMATS if n != "lines")])
def test_a_folder_without_a_file_of_the_format(tmp_path: Path, input_format: str | None) -> None:
    (tmp_path / "README").write_text("nothing of the kind")
    with pytest.raises(InputError, match=r"holds no|format not recognised"):
        list(read_corpus(tmp_path, input_format))


def test_a_folder_of_files_that_are_read_one_by_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.tsv").write_text(IOB2)
    (tmp_path / "sub" / "a.tsv").write_text(IOB2 + "\n" + IOB2)
    (tmp_path / "c.tsv").write_bytes(IOB2.encode("utf-16"))
    (tmp_path / "README.txt").write_text("Two files.")
    with caplog.at_level(logging.INFO):
        documents, errors = read(tmp_path, "conll")
    assert [document.id for document in documents] == ["b:1", "sub/a:1", "sub/a:2"]
    assert f"{tmp_path}: 2 other files passed over, README.txt the first" in caplog.text
    assert errors == []
    assert detect_format(tmp_path) == "conll"
    (tmp_path / "d.xml").write_text("<collection></collection>")
    with pytest.raises(InputError, match=r"several formats, conll \(b.tsv\), bioc_xml \(d.xml\)"):
        detect_format(tmp_path)


def test_one_broken_file_of_a_folder_does_not_lose_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(RECORD.encode("utf-16"))
    (tmp_path / "b.jsonl").write_text(RECORD)
    documents, errors = read(tmp_path)
    assert texts(documents) == [("a", "Aspirin helped")]
    assert "UTF-16" in str(errors[0])


def test_a_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv.gz"
    path.write_bytes(gzip.compress(IOB2.encode()))
    assert detect_format(path) == "conll"
    assert texts(read(path)[0]) == [("train:1", "Aspirin helped")]
    path.write_bytes(gzip.compress(IOB2.encode())[:-9])
    with pytest.raises(InputError, match=r"train\.tsv\.gz: cannot be read"):
        read(path, "conll")


def test_an_id_that_comes_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(RECORD * 3)
    assert [document.id for document in read(path)[0]] == ["a", "a", "a"]
    assert f"{path}: 2 ids come again, 'a' the first" in caplog.text


@pytest.mark.parametrize("input_format", ["lines", "jsonl", "conll", "nested_iob"])
def test_utf_16_fails_as_a_whole(tmp_path: Path, input_format: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(IOB2, encoding="utf-16")
    with pytest.raises(InputError, match="UTF-16"):
        list(read_corpus(path, input_format))


# ---------------------------------------------------------------- text and lines


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"Aspirin helped.\n", "Aspirin helped.\n"),
        (b"Two\r\nlines\r\n", "Two\r\nlines\r\n"),
        (b"\xef\xbb\xbfAspirin", "Aspirin"),
        ("TNF-α\u2028next".encode(), "TNF-α\u2028next"),
    ],
)
def test_text(tmp_path: Path, data: bytes, expected: str) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes(data)
    assert read(path) == ([Document("note", expected)], [])


@pytest.mark.parametrize("data", [b"", b" \r\n\t\n", b"\xef\xbb\xbf\n"])
def test_empty_text_is_a_broken_record(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes(data)
    documents, errors = read(path)
    assert documents == []
    assert [str(error) for error in errors] == [f"{path}: empty text"]


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes(b"one\ncaf\xe9\n")
    with pytest.raises(InputError, match=r"note.txt:2: not UTF-8: byte 0xe9 at byte offset 7"):
        read(path)


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"\xef\xbb\xbfAspirin helped. \r\n\r\n \t\nx\xff\nIron\xe2\x80\xa8low")
    documents, errors = read(path, "lines")
    assert texts(documents) == [("notes:1", "Aspirin helped. "), ("notes:5", "Iron\u2028low")]
    assert [str(error) for error in errors] == [
        f"{path}:4: not UTF-8: byte 0xff at byte offset {3 + 18 + 2 + 3 + 1} "
        "('ÿ' in cp1252: --encoding cp1252, in `cner convert`, say)"
    ]


# ---------------------------------------------------------------- jsonl

GOOD = {
    "text": "left and right knee",
    "entities": [{"label": "A", "fragments": [[0, 4], [15, 19]]}],
}


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    lines = [json.dumps({"id": "x", "other": 1} | GOOD), "", json.dumps(GOOD), '{"text": "t"}']
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    entity = Entity("A", ((0, 4), (15, 19)))
    assert read(path) == (
        [
            Document("x", "left and right knee", (entity,)),
            Document("r:3", "left and right knee", (entity,)),
            Document("r:4", "t"),
        ],
        [],
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("9" * 5000, "not JSON"),
        ("[1]", "expected an object"),
        ('{"id": 1.5, "text": "t"}', "the key 'id' is 1.5: expected a string"),
        ('{"id": true, "text": "t"}', "the key 'id' is True: expected a string"),
        ('{"id": "a"}', "the record has no key 'text', but 'id'"),
        ('{"text": ["t"]}', "the key 'text' is"),
        ('{"text": "\\ud800"}', "lone surrogate '\\ud800' at offset 0"),
        ('{"text": "t", "entities": null}', "the key 'entities' is None: expected a list"),
        ('{"text": "t", "entities": [1]}', "an entity is 1: expected an object"),
        ('{"text": "t", "entities": [{"fragments": [[0, 1]]}]}', "expected 'label'"),
        ('{"text": "t", "entities": [{"label": "", "fragments": [[0, 1]]}]}', "empty label"),
        ('{"text": "t", "entities": [{"label": "A"}]}', "'fragments' of an entity 'A' is None"),
        ('{"text": "t", "entities": [{"label": "A", "fragments": []}]}', "has no fragments"),
        ('{"text": "t", "entities": [{"label": "A", "fragments": [[0]]}]}', "two integers"),
        ('{"text": "t", "entities": [{"label": "A", "fragments": [[0, 1.0]]}]}', "two integers"),
        ('{"text": "t", "entities": [{"label": "A", "fragments": [[false, 1]]}]}', "two integers"),
        ('{"text": "t", "entities": [{"label": "A", "fragments": [[0, 2]]}]}', "ends after"),
        ('{"text": "t", "entities": [{"label": "A", "fragments": [[-1, 1]]}]}', "0 <= start"),
        ('{"text": "tu", "entities": [{"label": "A", "fragments": [[1, 2], [0, 1]]}]}', "order"),
        ('{"text": "t", "labels": [[0, 1]]}', "expected an object, or [start, end, label]"),
        ('{"text": "t", "labels": [[0, "1", "A"]]}', "two integers"),
        ('{"text": "t", "label": [[0, 2, "A"]]}', "ends after"),
        (
            '{"text": "t", "spans": [{"start": 0, "end": 1}]}',
            "an entity has 'start', 'end': expected 'label'",
        ),
        ('{"text": "t", "spans": [{"start": 0, "label": "A"}]}', "'fragments' of an entity 'A'"),
        (
            '{"text": "t", "labels": [[0, 1, "A"]], "spans": [[0, 1, "A"]]}',
            "there are entities under 'labels' and 'spans': expected one",
        ),
    ],
)
def test_jsonl_broken_record_does_not_lose_the_others(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(f'{{"text": "before"}}\n{line}\n{{"text": "after"}}\n')
    documents, errors = read(path)
    assert texts(documents) == [("r:1", "before"), ("r:3", "after")]
    assert len(errors) == 1
    assert str(errors[0]).startswith(f"{path}:2: ")
    assert reason in str(errors[0])


@pytest.mark.parametrize("key", ["entities", "labels", "label", "spans", "annotations"])
@pytest.mark.parametrize(
    "entity",
    [
        [5, 12, "DRUG"],
        {"start": 5, "end": 12, "label": "DRUG", "token_start": 1},
        {"id": 7, "start_offset": 5, "end_offset": 12, "label": "DRUG"},
        {"fragments": [[5, 12]], "label": "DRUG"},
    ],
)
@pytest.mark.parametrize("name", ["r.jsonl", "r.json"])
def test_entities_of_annotation_tools(
    tmp_path: Path, name: str, key: str, entity: object, caplog: pytest.LogCaptureFixture
) -> None:
    records = [
        {"id": 454, "text": "Took aspirin.", key: [entity]},
        {"id": 455, "text": "No drug.", key: []},
    ]
    path = tmp_path / name
    lines = "\n".join(map(json.dumps, records))
    path.write_text(lines if name == "r.jsonl" else json.dumps(records, indent=1))
    drug = Entity("DRUG", ((5, 12),))
    assert read(path) == (
        [Document("454", "Took aspirin.", (drug,)), Document("455", "No drug.")],
        [],
    )
    assert caplog.text == ""


def test_a_broken_record_of_a_list_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('[{"text": "before"}, {"text": 2}, {"text": "after"}]')
    documents, errors = read(path)
    assert texts(documents) == [("r:1", "before"), ("r:3", "after")]
    assert [str(error) for error in errors] == [
        f"{path}: record 2: the key 'text' is 2: expected a string"
    ]
    path.write_text('[{"text": "before"}, ')
    with pytest.raises(InputError, match=r"r\.json: not JSON"):
        read(path)


@pytest.mark.parametrize(
    ("entity", "message"),
    [
        ({"start": 0, "end": 6, "text": "Aspirin"}, "the surface 'Aspirin' is not what 0 6 give"),
        ({"start": 15, "end": 19, "text": "TNF-α"}, "'TNF-α' is not what 15 19 give, 'NF-α'"),
        ({"fragments": [[0, 7], [14, 15]], "surface": "Aspirin TNF"}, "is not what 0 7;14 15 give"),
        ({"start": 0, "end": 7, "text": "Aspirin"}, None),
        ({"start": 14, "end": 19, "surface": "TNF-alpha"}, None),
        ({"fragments": [[0, 7], [14, 17]], "surface": "Aspirin TNF"}, None),
    ],
)
def test_surfaces_of_json_records_stand_at_their_offsets(
    entity: dict[str, object], message: str | None
) -> None:
    record = {"id": "x", "text": "Aspirin eased TNF-α.", "entities": [entity | {"label": "A"}]}
    if message is None:
        assert len(jsonl.document_from_json(record).entities) == 1
        return
    with pytest.raises(InputError, match=re.escape(message)):
        jsonl.document_from_json(record)


@pytest.mark.parametrize("key", ["entities", "spans", "annotations"])
def test_an_object_is_no_list_of_entities(key: str) -> None:
    record = {"id": "x", "text": "a b", key: {"entities": [[0, 1, "A"]]}}
    with pytest.raises(InputError, match=f"the key '{key}' is .*: expected a list"):
        jsonl.document_from_json(record)


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ('{"text": "a b", "ner": [[0, 1, "x"]]}', "'ner' (2 times)"),
        ('{"text": "a b", "labels": ["B-x", "O"], "tokens": ["a", "b"]}', "'labels' (2 times), "),
        ('{"text": "a b", "ner": []}', None),
        ('{"text": "a b", "label": "positive", "meta": {"source": "x"}}', None),
        ('{"text": "a b", "ner": [[0, 1, "x"]], "entities": []}', None),
    ],
)
def test_lists_that_may_be_annotations_are_named(
    tmp_path: Path, line: str, warning: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(f"{line}\n" * 2)
    documents, errors = read(path)
    assert ([document.entities for document in documents], errors) == ([(), ()], [])
    messages = [record.getMessage() for record in caplog.records if "come again" not in record.msg]
    assert len(messages) == (warning is not None)
    assert all(f"{path}: no record has entities" in m and str(warning) in m for m in messages)


def test_records_that_were_rejected_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "p.jsonl"
    spans = [{"start": 5, "end": 12, "label": "DRUG"}]
    records = [
        {"text": "Took aspirin.", "spans": spans, "answer": answer}
        for answer in ("accept", "reject", "ignore")
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    documents, errors = read(path)
    assert ([document.id for document in documents], errors) == (["p:1"], [])
    assert caplog.messages == [f"{path}: 2 rejected or ignored records, left out"]


def test_what_is_not_read_of_a_record_is_counted_as_lost(tmp_path: Path) -> None:
    """Whatever is written: keys of entities; and where there is no place for them, own keys."""
    path = tmp_path / "r.jsonl"
    entities = [
        {"label": "A", "fragments": [span], "surface": "a", "confidence": sure, "note": ""}
        for sure, span in ((0.5, [0, 1]), ("high", [2, 3]))
    ]
    record = {"id": "x", "text": "a a", "entities": entities, "answers": [], "level": "syntax"}
    path.write_text(json.dumps(record) + "\n" + json.dumps(record | {"answers": [1]}))
    for name, output in OUTPUT_FORMATS.items():
        documents, _ = read(path)
        losses = write_corpus(
            documents, tmp_path / f"out{name}{''.join(output.suffixes[:1])}", name
        )
        kinds = {kind: n for kind, n in losses.counts.items() if kind.startswith("values")}
        own = {"values of the key 'answers'": 2, "values of the key 'level'": 2}
        assert kinds == {
            **({} if "meta" in output.holds else own),
            "values of the entities' key 'confidence'": 2,
            "values of the entities' key 'note'": 4,
        }
        assert losses.counts["confidences"] == (0 if "confidences" in output.holds else 2)
    assert len(read(tmp_path / "outjsonl.jsonl")[0][0].unread) == 0


@pytest.mark.parametrize(
    ("record", "meta"),
    [
        (
            {"date": "2020-01-02", "patient": {"id": 7}},
            {"date": "2020-01-02", "patient": {"id": 7}},
        ),
        ({"meta": {"source": "x"}, "ward": 3}, {"source": "x", "ward": 3}),
        ({"meta": {"ward": 1}, "ward": 2}, {"meta": {"ward": 1}, "ward": 2}),
        ({"meta": "a string"}, {"meta": "a string"}),
        ({"label": "of the whole text", "format": "pdf", "level": 1, "error": None}, None),
        ({"meta": {"text": "t", "id": 1, "answers": []}}, {"text": "t", "id": 1, "answers": []}),
        ({"spans": [], "passages": [], "meta": {}}, {}),
    ],
)
def test_own_keys_of_a_record(
    tmp_path: Path, record: dict[str, Any], meta: dict[str, Any] | None
) -> None:
    """They come through, whatever their names, and do so again."""
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"id": 12, "text": "t", **record}))
    for _ in range(3):
        (document,), errors = read(path)
        assert (document.id, document.meta, document.unread) == (
            "12",
            record if meta is None else meta,
            (),
        )
        assert errors == []
        assert write_corpus([document], path).counts == {}


@pytest.mark.parametrize("start", ["-DOCSTART- (PMID 7)", "-DOCSTART-\t(PMID 7) "])
def test_sentences_of_a_document_with_an_id_are_one(tmp_path: Path, start: str) -> None:
    """Those behind a line without an id are documents of their own."""
    path = tmp_path / "a.conll"
    body = "# s 1\nleft\tO\nknee\tB-S\n\n# s 2\nknee\tI-S\npain\tO\n"
    path.write_text(f"{body}\n{start}\n\n{body}\n-DOCSTART- -X- O\n\n{body}{start}\nlast\tO\n")
    documents, errors = read(path)
    assert errors == []
    one, two = ((5, 9),), ((0, 4),)
    assert [(d.id, d.text, tuple(e.fragments for e in d.entities)) for d in documents] == [
        ("a:1", "left knee", (one,)),
        ("a:2", "knee pain", (two,)),
        ("PMID 7", "left knee knee pain", (one, ((10, 14),))),
        ("a:3", "left knee", (one,)),
        ("a:4", "knee pain", (two,)),
        ("PMID 7", "last", ()),
    ]
    path.write_text(f"{start}\n\n{body}\nbroken\n\n-DOCSTART- (8)\n\n{body}")
    documents, errors = read(path)
    assert [d.id for d in documents] == ["8"]
    assert [(e.path, e.line) for e in errors] == [(str(path), 11)]


def test_jsonl_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n{"text": "b"}\n')
    documents, errors = read(path)
    assert [document.text for document in documents] == ["a", "b"]
    assert [(error.path, error.line) for error in errors] == [(str(path), 2)]


def test_document_from_json_needs_an_id() -> None:
    with pytest.raises(InputError, match="the key 'id' is None"):
        jsonl.document_from_json({"text": "t"})


@st.composite
def random_documents(draw: st.DrawFn) -> Document:
    text = draw(st.text(max_size=30))
    entities = []
    for _ in range(draw(st.integers(0, 4)) if text else 0):
        cuts = draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=6))
        edges = sorted(cuts)[: len(cuts) // 2 * 2]
        label = draw(st.text(min_size=1, max_size=5))
        fragments = tuple(zip(edges[::2], edges[1::2], strict=True))
        entities.append(Entity(label, fragments))
    return Document(draw(st.text(max_size=5)), text, tuple(entities))


# the first draw of a text builds a table of all characters, which takes a second
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(random_documents(), max_size=4))
def test_jsonl_round_trip(tmp_path_factory: pytest.TempPathFactory, items: list[Document]) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.jsonl"
    assert write_corpus(items, path).lines() == []
    assert list(read_corpus(path)) == items
    for item in items:
        assert jsonl.document_from_json(jsonl.document_to_json(item)) == item


def test_jsonl_writes_an_id_that_utf_8_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_corpus([Document("caf\udce9", "é\u2028")], path)
    assert path.read_bytes().decode() == (
        '{"id": "caf\\udce9", "text": "é\u2028", "entities": []}\n'
    )


# ---------------------------------------------------------------- columns


@pytest.mark.parametrize("line_end", ["\n", "\r\n", " \n", "\t\r\n"])
@pytest.mark.parametrize("separator", ["\t", " ", " \t ", "   "])
@pytest.mark.parametrize("start", ["", "\ufeff", "-DOCSTART- O\n\n", "\n\n"])
def test_iob2(tmp_path: Path, line_end: str, separator: str, start: str) -> None:
    rows = "colon B-D|cancer I-D|, O|IL-2 B-G|p53 B-G|low O||iron B-C"
    content = rows.replace(" ", separator).replace("|", line_end)
    path = tmp_path / "train.tsv"
    path.write_bytes((start + content).encode())
    documents, errors = read(path)
    assert errors == []
    assert texts(documents) == [
        ("train:1", "colon cancer , IL-2 p53 low"),
        ("train:2", "iron"),
    ]
    assert mentions(documents[0]) == [("D", "colon cancer"), ("G", "IL-2"), ("G", "p53")]
    assert mentions(documents[1]) == [("C", "iron")]


def test_iob2_token_with_other_white_space(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("10\u00a0mg\tB-C\nNew York\tO\n", encoding="utf-8")
    (document,), _ = read(path)
    assert document == Document("a:1", "10\u00a0mg New York", (Entity("C", ((0, 5),)),))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"alone", "'alone' has 1 columns: expected 2"),
        (b"a\tNN\tO", "has 3 columns: expected 2"),
        (b"\tO", "has 1 columns: expected 2"),
        (b"a\tX", "unknown tag 'X': expected O, or B-, I-, E-, S-, L- or U- and a label"),
        (b"a\tB-", "unknown tag 'B-'"),
        (b"a\tM-D", "unknown tag 'M-D'"),
        (b"caf\xe9\tO", "not UTF-8: byte 0xe9 at byte offset 22"),
    ],
)
def test_iob2_broken_sentence_does_not_lose_the_others(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b"one\tO\n\ntwo\tB-D\nbad\tO\n" + line + b"\nworse\n\nthree\tB-D\n")
    if b"\xe9" in line:
        reason = f"not UTF-8: byte 0xe9 at byte offset {len(b'one.O..two.B-D.bad.O.caf')}"
    documents, errors = read(path, "conll")
    assert texts(documents) == [("a:1", "one"), ("a:3", "three")]
    assert len(errors) == 1
    assert str(errors[0]).startswith(f"{path}:5: ")
    assert reason in str(errors[0])


PLAIN = "A\tO\nadenomatous\tB\npolyposis\tI\ncarrier\tO\n\nAtaxia\tB\nAML\tB\n"


def test_plain_tags_take_the_label_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(PLAIN)
    documents = [r for r in read_corpus(path, label="Disease") if isinstance(r, Document)]
    assert [mentions(document) for document in documents] == [
        [("Disease", "adenomatous polyposis")],
        [("Disease", "Ataxia"), ("Disease", "AML")],
    ]
    with pytest.raises(InputError, match="the format jsonl has no option label"):
        list(read_corpus(path, "jsonl", label="Disease"))


@pytest.mark.parametrize("content", [PLAIN, PLAIN.replace("\t", "\tNN\tO\t")])
def test_plain_tags_without_a_label_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(content)
    with pytest.raises(InputError, match=r"a\.tsv: the tag 'B' has no label: .* --label LABEL"):
        read(path)


def test_a_plain_tag_among_others_costs_its_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("a\tB-D\n\nb\tB\n\nc\tB-D\n")
    documents, errors = read(path)
    assert texts(documents) == [("a:1", "a"), ("a:3", "c")]
    assert [str(error)[: len(f"{path}:3: the tag 'B'")] for error in errors] == [
        f"{path}:3: the tag 'B'"
    ]
    documents = [r for r in read_corpus(path, label="G") if isinstance(r, Document)]
    assert [mentions(document) for document in documents] == [
        [("D", "a")],
        [("G", "b")],
        [("D", "c")],
    ]


@pytest.mark.parametrize(
    ("comment", "count"),
    [
        ("# id 00000001-aaaa\tdomain=train\n", 2),
        ("# sent_id = 1\n# text = she takes metformin\n", 4),
        ("###MEDLINE:95369245\n\n", 2),
    ],
)
def test_comments_before_sentences(
    tmp_path: Path, comment: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.conll"
    sentence = "she _ _ O\nmetformin _ _ B-D\n\n"
    hashes = "# _ _ O\n#1 _ _ B-D\n\n"  # rows, for what begins with a hash may be a word
    path.write_text(comment + sentence + comment + hashes + sentence)
    with caplog.at_level(logging.INFO):
        documents, errors = read(path)
    assert errors == []
    assert [(d.text, mentions(d)) for d in documents] == [
        ("she metformin", [("D", "metformin")]),
        ("# #1", [("D", "#1")]),
        ("she metformin", [("D", "metformin")]),
    ]
    assert caplog.messages == [f"{path}: {count} comment lines, passed over"]


@pytest.mark.parametrize(
    "ids",
    [
        "1 1 1 2 2",
        "1 2 3 1 2",
        "0 1 2 0 1",
        "7 7 7 8 8",
        "PMID-1 PMID-1 PMID-1 PMID-2 PMID-2",
        "12\t1 12\t2 12\t3 12\t1 12\t2",
        "10\t12 13\t19 20\t27 10\t19 20\t27",
    ],
)
def test_columns_of_ids_are_not_the_words(
    tmp_path: Path, ids: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = ["El\tO", "ensayo\tB-P", "clinico\tI-P", "requieren\tO", "oxigeno\tB-C"]
    lines = [f"{id}\t{row}\n" for id, row in zip(ids.split(" "), rows, strict=True)]
    path = tmp_path / "a.tsv"
    path.write_text("".join([*lines[:3], "\n", *lines[3:]]))
    with caplog.at_level(logging.INFO):
        documents, errors = read(path)
    assert errors == []
    assert [(d.text, mentions(d)) for d in documents] == [
        ("El ensayo clinico", [("P", "ensayo clinico")]),
        ("requieren oxigeno", [("C", "oxigeno")]),
    ]
    assert caplog.messages == [
        f"{path}: the words are column {2 + ids.count(chr(9), 0, 6)}, after ids"
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("5\tCD\tB-Dose\n", "5"),
        ("5\tCD\tB-Dose\nmg\tNN\tI-Dose\n12\tCD\tO\nof\tIN\tO\n", "5 mg 12 of"),
        ("1\tB-Dose\n2\tO\n3\tO\n", "1 2 3"),
    ],
)
def test_numbers_may_be_words(tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(content)
    assert texts(read(path)[0]) == [("a:1", text)]


def test_tags_before_the_words_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("O\t0\t3\tThe\tDT\tB-NP\nB-D\t4\t7\tAML\tNN\tI-NP\n")
    with pytest.raises(InputError, match=r"a\.tsv: the first column is tags: expected the token"):
        read(path)


def test_iob2_orphans_are_counted_once_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("x\tO\na\tI-D\nb\tI-D\nc\tI-G\nd\tB-G\ne\tI-D\n\nf\tI-D\n")
    documents, _ = read(path)
    assert mentions(documents[0]) == [("D", "a b"), ("G", "c"), ("G", "d"), ("D", "e")]
    assert mentions(documents[1]) == [("D", "f")]
    assert [(record.name, record.levelname) for record in caplog.records] == [
        ("constrained_ner.corpora", "WARNING")
    ]
    assert f"{path}:2: 4 tags without a mention" in caplog.text


def test_nested_iob(tmp_path: Path) -> None:
    path = tmp_path / "a.iob2"
    path.write_text(
        "IL-2\tB-G\tB-G\tB-D\nreceptor\tO\tI-G\tI-D\ngene\tO\tO\tI-D\n\n"
        # one mention on two layers is one entity; `B-` separates neighbours
        "p53\tB-G\tB-G\tO\np63\tB-G\tO\tO\n\nbroken\tO\tO\n\nwrong\tO\tO\tNN\n"
    )
    documents, errors = read(path)
    assert mentions(documents[0]) == [
        ("D", "IL-2 receptor gene"),
        ("G", "IL-2 receptor"),
        ("G", "IL-2"),
    ]
    assert mentions(documents[1]) == [("G", "p53"), ("G", "p63")]
    assert [(error.path, error.line) for error in errors] == [(str(path), 8), (str(path), 10)]


def test_nested_iob_width_is_not_that_of_a_broken_first_line(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("broken\tO\n\n" + "a\tB-G\tO\nb\tO\tO\n\n" * 2)
    documents, errors = read(path)
    assert texts(documents) == [("a:2", "a b"), ("a:3", "a b")]
    assert [error.line for error in errors] == [1]


# ---------------------------------------------------------------- brat


def write_pair(folder: Path, name: str, text: str | bytes, rows: str | bytes | None) -> None:
    path = folder / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if rows is not None:
        path.with_suffix(".ann").write_bytes(rows if isinstance(rows, bytes) else rows.encode())


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("Aspirin helped", "C 0 7\tAspirin", [(0, 7)]),
        ("Aspirin helped", "C 0 7\tAspirin ", [(0, 7)]),
        ("Aspirin helped", "C 0 8\tAspirin ", [(0, 7)]),
        (" Aspirin\n", "C 0 9\tAspirin", [(1, 8)]),
        ("α\r\nβ\r\nAspirin", "C 6 13\tAspirin", [(6, 13)]),
        ("folic\r\nacid", "C 0 11\tfolic acid", [(0, 11)]),
        ("left and right knee", "C 0 4;15 19\tleft knee", [(0, 4), (15, 19)]),
        ("left and right knee", "C 15 19;0 4\tknee left", [(0, 4), (15, 19)]),
        ("left and right knee", "C 15 19;0 4\tleft knee", [(0, 4), (15, 19)]),
        ("left and right knee", "C 0 5;14 19\tleft knee", [(0, 4), (15, 19)]),
        ("left knee", "C 0 4;4 5;5 9\tleft knee", [(0, 4), (5, 9)]),
        ("hypokalaemia", "C 0 4;4 12\thypo kalaemia", [(0, 4), (4, 12)]),
        ("left knee", "C 0 6;5 9\tleft k knee", [(0, 9)]),
        ("left knee", "C 5 9;5 9\tknee knee", [(5, 9)]),
        ("left knee", "C 0 9;5 7\tleft knee kn", [(0, 9)]),
    ],
)
def test_brat_fragments(tmp_path: Path, text: str, row: str, expected: list[Span]) -> None:
    write_pair(tmp_path, "a", text, f"T1\t{row}\r\n")
    assert read(tmp_path) == ([Document("a", text, (Entity("C", tuple(expected)),))], [])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("T2\tC 0 7\tAspirins", "the surface 'Aspirins' is not what 0 7 give, 'Aspirin'"),
        ("T2\tC 0 99\tAspirin", "0 99 lie outside the text, which has 14 characters"),
        ("T2\tC 7 0\tAspirin", "the fragments 7 0 are not all 0 <= start < end"),
        ("T2\tC 7 7\t", "the fragments 7 7 are not all"),
        ("T2\tC 7 8\t ", "the text at the offsets 7 8 is white space"),
        ("T2\tC 0 7\t ", "the offsets 0 7 have a blank surface"),
        ("T2\tC 0 7", "expected T<number>"),
        ("T2\tC 0,7\tAspirin", "expected T<number>"),
        ("T2 C 0 7 Aspirin", "expected T<number>"),
        (f"T2\tC 0 {'9' * 5000}\tAspirin", "lie outside the text, which has 14 characters"),
        ("what is this", "expected T<number>"),
    ],
)
def test_brat_bad_annotation_is_skipped_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, row: str, reason: str
) -> None:
    others = (
        "R1\tr Arg1:T1 Arg2:T2\t\n#1\tNote T1\tx\nE1\tT1:x\nA1\tn T1\n*\tEquiv T1 T2\nN1\tx\n\n"
    )
    write_pair(tmp_path, "a", "Aspirin helped", f"{others}{row}\nT1\tC 0 7\tAspirin\n")
    (document,), errors = read(tmp_path)
    assert mentions(document) == [("C", "Aspirin")]
    assert errors == []
    assert [(record.name, record.levelname) for record in caplog.records] == [
        ("constrained_ner.corpora", "WARNING")
    ]
    message = caplog.records[0].getMessage()
    assert message.startswith(f"{tmp_path}/a.ann:8: skipped")
    assert reason in message


def test_brat_white_space_is_summed_up_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_pair(tmp_path, "a", "Aspirin helped", "T1\tC 0 8\tAspirin \nT2\tC 7 14\t helped\n")
    write_pair(tmp_path, "b", "Aspirin helped", "T1\tC 0 7\tAspirin \nT2\tD 0 7\tAspirin\n")
    with caplog.at_level(logging.INFO):
        documents, _ = read(tmp_path)
    assert [len(document.entities) for document in documents] == [2, 2]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: 3 mentions with white space at their edges, which was stripped"
    ]


@pytest.mark.parametrize("counted", [0, 1])
def test_brat_byte_order_mark(tmp_path: Path, counted: int) -> None:
    rows = f"\ufeffT1\tC {counted} {7 + counted}\tAspirin\n"
    write_pair(tmp_path, "a", "\ufeffAspirin helped", rows)
    document = Document("a", "Aspirin helped", (Entity("C", ((0, 7),)),))
    assert read(tmp_path) == ([document], [])


def test_brat_texts_without_annotations_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text("Aspirin")
    (tmp_path / "b.ann").write_text("T1\tC 0 7\tAspirin\n")
    documents, errors = read(tmp_path)
    assert ([len(document.entities) for document in documents], errors) == ([0, 1, 0], [])
    assert caplog.messages == [
        f"{tmp_path}: 2 texts without a file of annotations, read as without entities"
    ]


def test_brat_repeated_annotation_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_pair(tmp_path, "a", "Aspirin", "T1\tC 0 7\tAspirin\nT2\tC 0 7\tAspirin\n")
    with caplog.at_level(logging.INFO):
        (document,), _ = read(tmp_path)
    assert mentions(document) == [("C", "Aspirin")]
    assert f"{tmp_path}: 1 annotations that say the same as another one" in caplog.text


@pytest.fixture
def brat_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    write_pair(folder, "b", "Aspirin\r\nhelped", "T1\tC 0 7\tAspirin\n")
    write_pair(folder, "a/x.1", "TNF-α low", "T1\tG 0 5\tTNF-α\n")
    write_pair(folder, "c", "no annotations", None)
    write_pair(folder, "d", b"caf\xe9", "T1\tC 0 4\tcaf\n")
    write_pair(folder, "e", "good", b"T1\tC 0 4\tgo\xffd\n")
    write_pair(folder, "f", " \n", "")
    (folder / "g.ann").write_text("T1\tC 0 7\tAspirin\n")
    (folder / "._b.txt").write_bytes(b"\x00\xff")
    (folder / "README").write_bytes(b"\xff")
    return folder


def pack(folder: Path, path: Path) -> Path:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in files:
                archive.write(file, file.relative_to(folder).as_posix())
    else:
        # with `./` before each name, and not sorted, as tar itself does it
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as tar:
            for file in reversed(files):
                tar.add(file, f"./{file.relative_to(folder).as_posix()}")
    return path


@pytest.mark.parametrize("name", [None, "c.tar", "c.tar.gz", "c.tgz", "c.zip"])
def test_brat_folder_and_archives_agree(
    tmp_path: Path, brat_folder: Path, name: str | None
) -> None:
    path = pack(brat_folder, tmp_path / name) if name else brat_folder
    before = sorted(tmp_path.rglob("*"))
    documents, errors = read(path)
    assert sorted(tmp_path.rglob("*")) == before
    assert documents == [
        Document("a/x.1", "TNF-α low", (Entity("G", ((0, 5),)),)),
        Document("b", "Aspirin\r\nhelped", (Entity("C", ((0, 7),)),)),
        Document("c", "no annotations"),
    ]
    assert [str(error) for error in errors] == [
        f"{path}/d.txt:1: not UTF-8: byte 0xe9 at byte offset 3 "
        "('é' in cp1252: --encoding cp1252, in `cner convert`, say)",
        f"{path}/e.ann:1: not UTF-8: byte 0xff at byte offset 11 "
        "('ÿ' in cp1252: --encoding cp1252, in `cner convert`, say)",
        f"{path}/f.txt: empty text",
        f"{path}/g.ann: there is no .txt file beside it",
    ]


@pytest.mark.parametrize("name", ["c.tar", "c.tgz", "c.zip"])
def test_brat_member_too_large(
    tmp_path: Path, brat_folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MEMBER_LIMIT", len(b"T1\tC 0 7\tAspirin\n"))
    write_pair(brat_folder, "b", "Aspirin helped a lot", "T1\tC 0 7\tAspirin\n")
    documents, errors = read(pack(brat_folder, tmp_path / name))
    assert [document.id for document in documents] == ["a/x.1", "c"]
    assert str(errors[0]) == f"{tmp_path / name}/b.txt: larger than 17 bytes"


def test_brat_tar_too_large(
    tmp_path: Path, brat_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ARCHIVE_LIMIT", 20)
    with pytest.raises(InputError, match=r"c.tar: .* larger than 20 bytes"):
        read(pack(brat_folder, tmp_path / "c.tar"))


def test_brat_tar_links_are_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    with tarfile.open(tmp_path / "c.tar", "w") as tar:
        link = tarfile.TarInfo("a.txt")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
        member = tarfile.TarInfo("../b.txt")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"text"))
    assert texts(read(tmp_path / "c.tar")[0]) == [("../b", "text")]
    assert "c.tar: skipped a.txt, which is a link" in caplog.text


@pytest.mark.parametrize("name", ["c.tar", "c.tar.gz", "c.zip"])
@pytest.mark.parametrize(
    "content",
    [b"", b"nothing of the kind", gzip.compress(b"x", mtime=0)[:-4]],
    ids=["empty", "text", "cut off"],
)
def test_brat_broken_archive(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=name):
        read(path)


@pytest.mark.parametrize(
    ("position", "byte"),
    [(6, 99), (8, 99), (-22 - 40, 1), (30, 0xFF)],
    ids=["version", "flags", "central directory", "name"],
)
def test_brat_broken_zip(tmp_path: Path, position: int, byte: int) -> None:
    path = tmp_path / "c.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "Aspirin helped")
    data = bytearray(path.read_bytes())
    data[position] = byte
    path.write_bytes(data)
    try:
        records = list(read_corpus(path))
    except InputError as error:
        records = [error]
    assert all(isinstance(record, Document | InputError) for record in records)


def test_brat_truncated_archive(tmp_path: Path, brat_folder: Path) -> None:
    path = pack(brat_folder, tmp_path / "c.tgz")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"c\.tgz: cannot be read"):
        read(path)


@pytest.mark.parametrize("name", ["folder", "other.xyz"])
def test_brat_without_pairs(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix:
        path.write_text("x")
    else:
        path.mkdir()
    with pytest.raises(InputError, match=f"{name}: holds no .ann or .txt file"):
        read(path, "brat")


# ---- other encodings


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig", "mac_roman"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_other_encodings(name: str, encoding: str, tmp_path: Path) -> None:
    text = "Fièvre à 38°, dyspnée."
    written = {
        "a.txt": text,
        "a.jsonl": json.dumps({"id": "1", "text": text, "entities": []}, ensure_ascii=False) + "\n",
        "a.csv": f'id,text\n1,"{text}"\n',
    }[name]
    path = tmp_path / name
    path.write_bytes(written.encode(encoding))
    (document,) = read_corpus(path, encoding=encoding)
    assert isinstance(document, Document)
    assert document.text == text


def test_what_is_not_in_the_encoding_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Fièvre".encode())
    with pytest.raises(InputError, match=r"a.txt: not ascii at byte offset 2"):
        list(read_corpus(path, "text", encoding="ascii"))
    with pytest.raises(InputError, match="unknown encoding 'klingon'"):
        list(read_corpus(path, encoding="klingon"))


@pytest.mark.parametrize(
    ("text", "encoding", "hint"),
    [
        ("Fièvre à 38°", "cp1252", "'è' in cp1252: --encoding cp1252"),
        ("Пациент жалуется на боль в груди", "cp1251", "'П' in cp1251: --encoding cp1251"),
    ],
)
def test_the_likely_encoding_is_named(text: str, encoding: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match=hint):
        list(read_corpus(path, "text"))


def test_byte_order_marks_name_their_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Fever".encode("utf-16"))
    with pytest.raises(InputError, match="a byte order mark: --encoding utf-16"):
        list(read_corpus(path, "text"))
    with pytest.raises(InputError, match="not cp1252: it begins as utf-16 does"):
        list(read_corpus(path, "text", encoding="cp1252"))
    path.write_bytes("Fever".encode("utf-8-sig"))
    with pytest.raises(InputError, match="not cp1252: it begins as utf-8 does"):
        list(read_corpus(path, "text", encoding="cp1252"))


def test_ids_and_numbers_that_exports_have(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": 1.0, "text": "Fever."}\n{"id": null, "text": "Cough."}\n'
        '{"id": "c", "text": "Rash.", "score": NaN, "most": 1e999, "Comments": ["seen"]}\n'
    )
    documents, errors = read(path)
    assert not errors
    assert [document.id for document in documents] == ["1", "a:2", "c"]
    assert documents[2].meta == {"score": None, "most": None, "Comments": ["seen"]}


def test_what_predict_adds_is_not_the_users_own() -> None:
    record = {
        "id": "a",
        "text": "knee",
        "format": "multi_term",
        "level": "faithful",
        "options": {},
        "answers": [],
        "calibrated": True,
        "fingerprint": "0",
        "meta": {"calibrated": 3},
        "entities": [{"label": "x", "fragments": [[0, 4]], "by_format": {"multi_term": 0.5}}],
    }
    document = jsonl.document_from_json(record)
    assert document.meta == {"calibrated": 3}
    assert not any("calibrated" in what or "by_format" in what for what in document.unread)
