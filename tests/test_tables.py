"""Tables: entities out, as files and data frames."""

from __future__ import annotations

import csv
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given

from constrained_ner import to_frame
from constrained_ner.corpora import write
from constrained_ner.corpora.entity_table import COLUMNS, EntityRow, frame, rows_of
from constrained_ner.documents import Document, Entity, Passage
from constrained_ner.errors import MissingExtraError, MissingPackageError, UnknownNameError
from constrained_ner.formats import get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prediction import Prediction
from tests.support.commands import cner
from tests.support.strategies import examples
from tests.test_writers import corpora

TABLES = ("csv", "tsv", "parquet")
KNEES = Document(
    "n1",
    "left and right knee pain",
    (Entity("finding", ((0, 4), (15, 24))), Entity("site", ((15, 19),))),
    (Passage("title", 0, 10),),
    confidences={Entity("site", ((15, 19),)): 0.123456},
)
ROWS = [
    EntityRow("n1", 0, 24, "finding", "left knee pain", None, "title", "0-4;15-24"),
    EntityRow("n1", 15, 19, "site", "knee", 0.1235, None, "15-19"),
]


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


# ---- data frames


def predictions(documents: Sequence[Document]) -> list[Prediction]:

    return [
        Prediction(
            item.id,
            item.text,
            item.entities,
            passages=item.passages,
            confidences=item.confidences,
            format=get_format("multi_tag"),
            level=Level.FAITHFUL,
        )
        for item in documents
    ]


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("items", [[KNEES], [Document("n2", "Nothing.")], [], [KNEES, KNEES]])
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
    if items == [KNEES]:
        (one,) = predictions(items)
        assert one.to_frame(library).equals(found)


def test_a_frame_of_a_failed_prediction_is_empty() -> None:
    failed = Prediction(
        "x", "", error="too long", format=get_format("multi_tag"), level=Level.FAITHFUL
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


# ---- from the command line


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
