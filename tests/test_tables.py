"""Tables: entities out, as files and data frames; texts in."""

from __future__ import annotations

import csv
import gzip
import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_ner import to_frame
from constrained_ner.corpora import detect_format, read, text_table, write
from constrained_ner.corpora.entity_table import COLUMNS, EntityRow, frame, rows_of
from constrained_ner.documents import Document, Entity, Passage
from constrained_ner.errors import (
    InputError,
    MissingExtraError,
    MissingPackageError,
    UnknownNameError,
)
from constrained_ner.formats import get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prediction import Prediction
from tests.support.commands import cner
from tests.support.strategies import examples, hostile_texts
from tests.test_writers import corpora

TABLES = ("csv", "tsv", "parquet")
KNEES = Document(
    "n1",
    "left and right knee pain",
    (Entity("finding", ((0, 4), (15, 24))), Entity("site", ((15, 19),))),
    (Passage("title", 0, 10),),
    confidences={Entity("site", ((15, 19),)): 0.123456},
    sections={Entity("site", ((15, 19),)): "EXAM"},
)
PLAIN = replace(KNEES, sections={})
ROWS = [
    EntityRow("n1", 0, 24, "finding", "left knee pain", None, "title", "0-4;15-24"),
    EntityRow("n1", 15, 19, "site", "knee", 0.1235, "EXAM", "15-19"),
]


def test_a_value_of_a_laboratory_is_no_tag(tmp_path: Path) -> None:
    """Some are called as tags are: `S-Crea`, creatinine in the serum."""
    for rows in ("1\tKnee pain\t80\n", "1\tKnee pain\t80\n2\tNo pain\t-\n"):
        path = tmp_path / "labs.tsv"
        path.write_text("id\ttext\tS-Crea\n" + rows)
        assert detect_format(path) == "table"
        first = next(iter(read(path)))
        assert isinstance(first, Document)
        assert first == Document("1", "Knee pain")
        assert first.meta == {"S-Crea": "80"}
    path.write_text("text\tB-x\nof\tO\nit\tO\n")
    assert detect_format(path) == "conll"


# ---- entities out


def rows_in(path: Path) -> list[EntityRow]:
    """The rows of a table as another library reads it."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        assert tuple(table.column_names) == COLUMNS
        return [EntityRow(**row) for row in table.to_pylist()]
    with path.open(encoding="utf-8", newline="") as file:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        header, *rows = csv.reader(file, delimiter=delimiter, strict=True)
    assert tuple(header) == COLUMNS
    return [
        EntityRow(
            id, int(start), int(end), label, surface, float(sure) if sure else None, part or None, f
        )
        for id, start, end, label, surface, sure, part, f in rows
    ]


@pytest.mark.parametrize("name", TABLES)
@examples(60)
@given(items=corpora())
def test_every_entity_has_its_row(
    tmp_path_factory: pytest.TempPathFactory, name: str, items: list[Document]
) -> None:
    """In every table the same ones, surfaces exactly as they are; and offsets lead to them."""
    path = tmp_path_factory.mktemp("rows") / f"out.{name}"
    losses = write(items, path)
    rows = rows_in(path)
    assert rows == [row for item in items for row in rows_of(item)]
    assert len(rows) == losses.entities
    assert losses.counts["texts, since a table has the entities only"] == len(items)
    expected = sum(not item.entities for item in items)
    assert losses.counts["documents without entities, which have no row"] == expected
    pairs = [(item, entity) for item in items for entity in item.entities]
    for row, (item, entity) in zip(rows, pairs, strict=True):
        pieces = [tuple(map(int, one.split("-"))) for one in row.fragments.split(";")]
        assert tuple(pieces) == entity.fragments
        assert row.surface == " ".join(item.text[start:end] for start, end in pieces)


@pytest.mark.parametrize("name", TABLES)
def test_a_table(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"out.{name}"
    losses = write([KNEES, Document("n2", "Nothing.")], path)
    assert rows_in(path) == ROWS
    assert losses.lines() == [
        "1 documents whose passages are not kept (the first: document 'n1')",
        "1 documents without entities, which have no row (the first: document 'n2')",
        "2 texts, since a table has the entities only (the first: document 'n1')",
    ]


def test_cells_are_as_rfc_4180_has_them(tmp_path: Path) -> None:
    text = 'a "b",\r\n=1+1 \rc'
    spans = [(0, 6), (8, 12), (3, 14)]
    item = Document("x", text, tuple(Entity("L", (span,)) for span in spans))
    write([item], tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == (
        b"document,start,end,label,surface,confidence,section,fragments\r\n"
        b'x,0,6,L,"a ""b"",",,,0-6\r\n'
        b'x,3,14,L,"b"",\r\n=1+1 \r",,,3-14\r\n'
        b"x,8,12,L,=1+1,,,8-12\r\n"
    )


def test_what_a_spreadsheet_may_compute_is_said_and_not_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    item = Document("-1", "=A1 +2", (Entity("@x", ((0, 3),)), Entity("y", ((4, 6),))))
    write([item], tmp_path / "a.csv")
    assert [row[3:5] for row in rows_in(tmp_path / "a.csv")] == [("@x", "=A1"), ("y", "+2")]
    assert caplog.messages == [
        "5 cells begin with = + - @, and are written as they are: a spreadsheet may take them for "
        "formulas; import their columns as text"
    ]


def test_parquet_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"parquet files: .*constrained_ner\[tables\]"):
        write([KNEES], tmp_path / "a.parquet")


# ---- OMOP

# The columns of NOTE_NLP in the data definition of CDM v5.4, and how long their text may be.
NOTE_NLP = (
    *("note_nlp_id", "note_id", "section_concept_id", "snippet:250", "offset:50"),
    *("lexical_variant:250", "note_nlp_concept_id", "note_nlp_source_concept_id", "nlp_system:250"),
    *("nlp_date", "nlp_datetime", "term_exists:1", "term_temporal:50", "term_modifiers:2000"),
)


def omop_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


@examples(60)
@given(items=corpora(), around=st.sampled_from(["", "word " * 100]))
def test_rows_of_omop(
    tmp_path_factory: pytest.TempPathFactory, items: list[Document], around: str
) -> None:
    """What they say of an entity is so, and fits into the table."""
    items = [replace(item, text=item.text + around) for item in items]
    path = tmp_path_factory.mktemp("omop") / "note_nlp.csv"
    losses = write(items, path, "omop")
    rows = omop_rows(path)
    assert path.read_text(encoding="utf-8").splitlines()[0] == ",".join(
        column.split(":")[0] for column in NOTE_NLP
    )
    expected = [(item, entity) for item in items for entity in item.entities]
    assert [row["note_nlp_id"] for row in rows] == [str(n + 1) for n in range(len(expected))]
    for row, (item, entity) in zip(rows, expected, strict=True):
        for column, _, most in (column.partition(":") for column in NOTE_NLP):
            assert len(row[column]) <= int(most or 20) or column == "note_id"
        assert row["lexical_variant"] == entity.surface(item.text)
        assert row["offset"] == str(entity.start)
        assert row["snippet"] in item.text
        if not entity.discontinuous:
            assert row["lexical_variant"] in row["snippet"]
        modifiers = dict(part.split("=", 1) for part in row["term_modifiers"].split(","))
        if "labels written otherwise" not in losses.counts:
            assert modifiers["label"] == entity.label
        sure = item.confidences.get(entity)
        assert float(modifiers.get("confidence", -1)) == (-1 if sure is None else round(sure, 4))
        assert ("fragments" in modifiers) == entity.discontinuous
        assert not any(row[column] for column in ("nlp_date", "term_exists", "term_temporal"))


def test_what_does_not_fit_into_omop_is_counted(tmp_path: Path) -> None:
    words = "w" * 300
    text = f"{words} {'a ' * 800}"
    many = Entity("many", tuple((301 + 2 * n, 302 + 2 * n) for n in range(300)))
    item = Document("n1", text, (Entity("a,b=c", ((0, 300),)), many))
    losses = write([item], tmp_path / "a.csv", "omop")
    assert losses.counts == {
        "ids that are no integers, as note_id has to be": 1,
        "labels written otherwise": 1,
        "modifiers of over 2000 characters, without fragments": 1,
        "surfaces of over 250 characters, cut": 2,
        "texts, since a table has the entities only": 1,
    }
    first, second = omop_rows(tmp_path / "a.csv")
    assert first["term_modifiers"] == "label=a_b_c"
    assert first["lexical_variant"] == first["snippet"] == "w" * 250
    assert second["term_modifiers"] == "label=many"


def test_omop_has_to_be_named(tmp_path: Path) -> None:
    write([KNEES], tmp_path / "a.jsonl")
    result = cner("convert", tmp_path / "a.jsonl", tmp_path / "b.csv", "--output-format", "omop")
    assert result.exit_code == 0, result.output
    assert "1 document, 2 mentions: jsonl to omop" in result.stderr
    first, _ = omop_rows(tmp_path / "b.csv")
    assert first["term_modifiers"] == "label=finding,fragments=0-4;15-24"
    assert first["snippet"] == KNEES.text
    with pytest.raises(InputError, match="no output format has this suffix") as error:
        write([KNEES], tmp_path / "a.omop")
    assert "; omop" not in str(error.value)


# ---- data frames


def predictions(documents: Sequence[Document]) -> list[Prediction]:

    return [
        Prediction(
            item.id,
            item.text,
            item.entities,
            passages=item.passages,
            confidences=item.confidences,
            formats=(get_format("multi_tag"),),
            level=Level.FAITHFUL,
        )
        for item in documents
    ]


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("items", [[PLAIN], [Document("n2", "Nothing.")], [], [PLAIN, PLAIN]])
def test_a_frame_has_the_rows_of_the_table(
    tmp_path: Path, library: str, items: list[Document]
) -> None:
    pytest.importorskip(library)
    found = to_frame(predictions(items), library)
    assert type(found).__module__.split(".")[0] == library
    assert tuple(found.columns) == COLUMNS
    path = tmp_path / "frame.parquet"
    found.to_parquet(path) if library == "pandas" else found.write_parquet(path)
    assert rows_in(path) == [row for item in items for row in rows_of(item)]
    assert str(found["start"].dtype).lower() == "int64"
    if items == [PLAIN]:
        (one,) = predictions(items)
        assert one.to_frame(library).equals(found)


def test_a_frame_of_a_failed_prediction_is_empty() -> None:
    failed = Prediction(
        "x", "", error="too long", formats=(get_format("multi_tag"),), level=Level.FAITHFUL
    )
    assert len(failed.to_frame("pandas")) == 0


def test_frames_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="unknown library 'R': expected pandas or polars"):
        frame([], "R")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingPackageError, match="a data frame needs polars: pip install polars"):
        frame([], "polars")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match="needs pandas or polars: pip install pandas"):
        frame([])


# ---- texts in

cells = st.one_of(
    hostile_texts(), st.text(st.characters(codec="utf-8"), max_size=8), st.sampled_from(['"', ""])
)


@st.composite
def text_tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """Names of columns, `text` and `id` among them, and rows of hostile cells."""
    name = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1)
    others = draw(st.lists(name.filter(lambda n: not known(n)), max_size=2, unique=True))
    header = draw(st.permutations(["text", "id", *others]))
    row = st.lists(cells, min_size=len(header), max_size=len(header))
    return header, draw(st.lists(row, max_size=4))


def known(name: str) -> bool:
    return text_table._plain(name) in text_table._TEXTS | text_table._IDS


def expected_documents(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Document]:
    found = []
    for cells in rows:
        row = dict(zip(header, cells, strict=True))
        text, id = row.pop("text"), row.pop("id")
        found.append(Document(id, text, meta=row))
    return found


def plain(records: Iterable[Document | InputError]) -> list[tuple[str, str, Mapping[str, Any]]]:
    documents = [record for record in records if isinstance(record, Document)]
    return [(item.id, item.text, item.meta) for item in documents]


def write_rows(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], **how: Any
) -> None:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        csv.writer(file, **how).writerows([header, *rows])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@examples(40)
@given(table=text_tables(), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_every_cell_comes_back_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    delimiter: str,
    table: tuple[list[str], list[list[str]]],
    quoting: int,
) -> None:
    """Whatever the separator: line breaks, quotes and separators in cells, too."""
    header, rows = table
    path = tmp_path_factory.mktemp("cells") / f"notes{suffix}"
    write_rows(path, header, rows, delimiter=delimiter, quoting=quoting)
    records = list(read(path, "table"))
    expected = plain(expected_documents(header, rows))
    assert [(text, meta) for _, text, meta in plain(records)] == [row[1:] for row in expected]
    for (id, *_), (given_id, *_) in zip(plain(records), expected, strict=True):
        assert id == given_id or (given_id == "" and id.startswith("notes:"))


@examples(40)
@given(table=text_tables())
def test_parquet_comes_back(
    tmp_path_factory: pytest.TempPathFactory, table: tuple[list[str], list[list[str]]]
) -> None:
    header, rows = table
    path = tmp_path_factory.mktemp("cells") / "notes.parquet"
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    pq.write_table(pa.table({k: pa.array(v, pa.string()) for k, v in columns.items()}), path)
    found, expected = plain(read(path)), plain(expected_documents(header, rows))
    assert [row[1:] for row in found] == [row[1:] for row in expected]
    for number, ((id, *_), (given_id, *_)) in enumerate(zip(found, expected, strict=True), 1):
        assert id == (given_id or f"notes:{number}")


def test_values_of_parquet_become_json(tmp_path: Path) -> None:
    path = tmp_path / "notes.parquet"
    row = {
        "note_id": 7,
        "note": "Knee pain.",
        "seen": datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
        "born": date(1950, 1, 2),
        "dose": Decimal("1.50"),
        "codes": [1, 2],
        "ward": {"floor": 3, "open": True},
        "raw": b"\x00\xff",
        "weight": 70.5,
        "none": None,
    }
    unknown = {**row, "note_id": 8, "note": None, "weight": float("nan")}
    pq.write_table(pa.Table.from_pylist([row, unknown, {**row, "note_id": None}]), path)
    first, second, third = read(path)
    assert isinstance(first, Document)
    assert (first.id, first.text) == ("7", "Knee pain.")
    assert json.loads(json.dumps(first.meta)) == {
        "seen": "2020-01-02T03:04:05+00:00",
        "born": "1950-01-02",
        "dose": "1.50",
        "codes": [1, 2],
        "ward": {"floor": 3, "open": True},
        "raw": "00ff",
        "weight": 70.5,
        "none": None,
    }
    assert str(second) == f"{path}: row 2: the column 'note' has None: expected a string"
    assert isinstance(third, Document)
    assert third.id == "notes:3"


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        (
            "Nummer,Befund\n1,Knie\n",
            {},
            "no column with a name for texts, such as 'text' or 'note': its first row is 'Nummer', "
            "'Befund'; name the column with --text-column",
        ),
        (
            "id,text,Note\n1,a,b\n",
            {},
            "several columns that may be the text, 'text', 'Note': name one of them with "
            "--text-column, in `cner convert`, say; its columns are 'id', 'text', 'Note'",
        ),
        ("id,doc_id,text\n1,2,a\n", {}, "several columns that may be the id, 'id', 'doc_id'"),
        ("id,text\n", {"text_column": "x"}, "has no column 'x': expected one of 'id', 'text'"),
        ("id,text\n", {"id_column": "x"}, "has no column 'x': expected one of 'id', 'text'"),
        ("text,x\n", {"id_column": "text"}, "the column 'text' cannot be text and id"),
        ("text,x,x\n", {}, "has two columns 'x': expected a name for each"),
        ("Knee pain.\nHip pain.\n", {}, "or read a text a line with --input-format lines"),
        ("", {}, "its first row is empty"),
    ],
)
def test_columns_that_cannot_be_told(
    tmp_path: Path, content: str, columns: dict[str, str], message: str
) -> None:
    path = tmp_path / "notes.csv"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        list(read(path, **columns))
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_the_separator_and_the_columns_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "notes.csv"
    path.write_text("\ufeffNote ID;Note-Text;Ward, floor;\r\n1;Knee, hip;3;x\r\n", newline="")
    (document,) = read(path)
    assert isinstance(document, Document)
    assert (document.id, document.text) == ("1", "Knee, hip")
    assert document.meta == {"Ward, floor": "3", "column 4": "x"}
    assert caplog.messages == [
        f"{path}: cells are separated by semicolons; texts are in the column 'Note-Text', ids in "
        "'Note ID'; the other columns come along: 'Ward, floor', 'column 4'"
    ]
    path.write_text("text\nKnee\n\nHip\n")
    assert [id for id, *_ in plain(read(path))] == ["notes:2", "notes:4"]
    assert caplog.messages[1].endswith("texts are in the column 'text', there are no ids")


def test_a_broken_row_never_loses_the_others(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    lines = [
        b"id,text",
        b"1,one",
        b'2,"two',  # over two lines
        b'lines"',
        b"3,too,many",
        b"4",
        b'5,"never closed',
        b"6,six",
        b'7,"closed" behind,',
        b'8,"not UTF-8',
        b'\xff"',
        b'9,"nine"',
        b'10,"never closed, either',
        b"11,eleven",
    ]
    path.write_bytes(b"\n".join(lines))
    records = list(read(path))
    assert [(item.id, item.text) for item in records if isinstance(item, Document)] == [
        ("1", "one"),
        ("2", "two\nlines"),
        ("6", "six"),
        ("9", "nine"),
        ("11", "eleven"),
    ]
    errors = [str(record) for record in records if isinstance(record, InputError)]
    assert [error.split(": ")[0] for error in errors] == [
        f"{path}:{n}" for n in (5, 6, 7, 9, 11, 13)
    ]
    assert "the row has 3 cells: expected 2, as the first one" in errors[0]
    assert "the row has 1 cells: expected 2" in errors[1]
    assert "not a row of cells separated by commas" in errors[2]
    assert "not UTF-8: byte 0xff" in errors[4]
    assert "unexpected end of data" in errors[5]


def test_lines_that_end_with_carriage_returns_only(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    path.write_bytes(b"id,text\r1,one\r")
    with pytest.raises(InputError, match=r"notes\.csv:1: not a row .*: \\r by itself outside"):
        list(read(path))


def test_a_large_cell(tmp_path: Path) -> None:
    text = "word " * 100_000
    write_rows(tmp_path / "notes.csv", ["text"], [[text]])
    assert [found for _, found, _ in plain(read(tmp_path / "notes.csv"))] == [text]


@pytest.mark.parametrize("suffix", [".xlsx", ".xls", ".ods"])
def test_a_spreadsheet_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"notes{suffix}"
    path.write_bytes(b"PK\x03\x04")
    message = f"a spreadsheet's own file ({suffix}): expected it saved as CSV (UTF-8)"
    with pytest.raises(InputError, match=re.escape(message)):
        list(read(path))


def test_texts_beside_a_table_of_something_else_are_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Knee pain.")
    (tmp_path / "about.csv").write_text("file,ward\na.txt,3\n")
    assert detect_format(tmp_path) == "text"
    (tmp_path / "notes.csv").write_text("id,text\n1,Hip pain.\n")
    assert detect_format(tmp_path) == "table"
    (tmp_path / "about.csv").write_text("id,Befund\n2,Knie.\n")
    records = list(read(tmp_path, "table"))  # a format that is named takes all that it may be
    assert [text for _, text, _ in plain(records)] == ["Hip pain."]
    assert [type(record) for record in records] == [InputError, Document]


def test_parquet_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notes.parquet"
    path.write_bytes(b"PAR1 nothing of the kind")
    with pytest.raises(InputError, match=r"notes\.parquet: not a parquet file"):
        list(read(path))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"parquet files: .*constrained_ner\[tables\]"):
        list(read(path))


# ---- from the command line


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_of_texts_is_answered_and_converted(
    suffix: str, tiny_folder: Path, tmp_path: Path
) -> None:
    """Its other columns come along."""
    data, out = tmp_path / f"notes{suffix}", tmp_path / "out.jsonl"
    delimiter = "\t" if suffix == ".tsv" else ","
    rows = [["7", "Knee\r\npain.", "3", "x"], ["8", "Fever, cough.", "4", ""]]
    write_rows(data, ["Nr", "Befund", "ward", "text"], rows, delimiter=delimiter)
    chosen = ("--text-column", "Befund", "--id-column", "Nr")
    model = ("--model", tiny_folder, "--labels", "Disease", "--max-new-tokens", "60")
    done = cner("predict", data, *model, *chosen, "-o", out)
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(r["id"], r["text"], r["meta"]) for r in records] == [
        ("7", "Knee\r\npain.", {"ward": "3", "text": "x"}),
        ("8", "Fever, cough.", {"ward": "4", "text": ""}),
    ]
    converted = cner("convert", data, tmp_path / "b.jsonl", *chosen)
    assert converted.exit_code == 0, converted.output
    assert "2 documents, 0 mentions: table to jsonl" in converted.stderr
    assert plain(read(tmp_path / "b.jsonl")) == [(r["id"], r["text"], r["meta"]) for r in records]


def test_columns_are_for_tables(tiny_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "a.txt"
    data.write_text("Knee pain.")
    for command in (("convert", data, tmp_path / "b.jsonl"), ("predict", data)):
        result = cner(*command, "--text-column", "x")
        assert result.exit_code == 2
        assert "--text-column: for tables and JSON lines, and text is neither" in result.stderr
    result = cner("predict", "-t", "Knee pain.", "--id-column", "x")
    assert "--id-column: for a table, expected as a file" in result.stderr


@pytest.mark.parametrize("name", TABLES)
def test_predict_and_convert_write_the_same_table(
    name: str, tiny_folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "notes.jsonl"
    data.write_text('{"id": 7, "text": "Knee pain."}\n{"text": " "}\n{"text": "Fever, cough."}\n')
    model = ("--model", tiny_folder, "--labels", "Disease,Gene", "--max-new-tokens", "60")
    done = cner("predict", data, *model, "-o", tmp_path / f"out.{name}")
    assert done.exit_code == 1  # the second one is blank
    assert "texts, since a table has the entities only" in done.stderr
    assert cner("predict", data, *model, "-o", tmp_path / "out.jsonl").exit_code == 1
    rows = rows_in(tmp_path / f"out.{name}")
    assert rows
    assert {row.document for row in rows} <= {"7", "notes:3"}
    assert all(row.confidence is not None for row in rows)
    good = [line for line in (tmp_path / "out.jsonl").read_text().splitlines() if "text" in line]
    (tmp_path / "good.jsonl").write_text("\n".join(line for line in good if '"error"' not in line))
    converted = cner("convert", tmp_path / "good.jsonl", tmp_path / f"again.{name}")
    assert converted.exit_code == 0, converted.output
    assert rows_in(tmp_path / f"again.{name}") == rows


def test_keys_of_json_lines(tmp_path: Path) -> None:
    path, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_text(
        '{"note": "Fever.", "note_id": 3, "ward": 4}\n{"noet": "x", "note_id": 4}\n'
        '{"id": 1, "text": "y", "note": "Cough.", "note_id": "n", "meta": {"bed": 2}}\n'
    )
    done = cner("convert", path, out, "--text-column", "note", "--id-column", "note_id")
    assert done.exit_code == 1
    assert "a.jsonl:2: the record has no key 'note', but 'noet', 'note_id'" in done.stderr
    first, last = map(json.loads, out.read_text().splitlines())
    assert (first["id"], first["text"], first["meta"]) == ("3", "Fever.", {"ward": 4})
    assert (last["id"], last["text"]) == ("n", "Cough.")
    assert last["meta"] == {"id": 1, "text": "y", "bed": 2}
