"""Tables of entities, a row for each, for spreadsheets and data frames: CSV, TSV and parquet.

They are written only, since a table has no texts. Its columns are those of `EntityRow`, wherever it
is written. CSV and TSV are as RFC 4180 has them, in UTF-8: cells with separators, quotes or line
breaks stand in quotes. No cell is changed, also where a spreadsheet may take it for a formula; a
warning says how many there are.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from constrained_ner.corpora.conversion_losses import ConversionLosses
from constrained_ner.corpora.files import LOGGER
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import MissingPackageError, UnknownNameError

HOLDS = ("confidences", "sections")
FRAMES = ("pandas", "polars")
_FORMULA = ("=", "+", "-", "@")
_ROWS = 10_000  # of a table that are in memory at a time


class EntityRow(NamedTuple):
    """An entity and where it stands.

    Attributes
    ----------
    document: the id.
    start, end: from the first fragment to the last, half-open, in code points of the text.
    surface: exactly as in the text; between fragments stands a space.
    confidence: from 0 to 1, to four digits; None where it is not known.
    section: the title of the section that it stands in or, where that is not known, the type of the
        passage in which it begins; None where there is neither.
    fragments: `start-end`, with `;` between several.
    """

    document: str
    start: int
    end: int
    label: str
    surface: str
    confidence: float | None
    section: str | None
    fragments: str


COLUMNS = EntityRow._fields


def rows_of(document: Document) -> Iterator[EntityRow]:
    """The entities of a document, in text order."""
    id = document.id.encode(errors="backslashreplace").decode()
    for entity in document.entities:
        sure = document.confidences.get(entity)
        yield EntityRow(
            id,
            entity.start,
            entity.end,
            entity.label,
            entity.surface(document.text),
            None if sure is None else round(sure, 4),
            _section(document, entity),
            ";".join(f"{start}-{end}" for start, end in entity.fragments),
        )


def _section(document: Document, entity: Entity) -> str | None:
    holding = (one.type for one in document.passages if one.start <= entity.start < one.end)
    return document.sections.get(entity) or next(holding, "") or None


def counting(documents: Iterable[Document], losses: ConversionLosses) -> Iterator[Document]:
    """The documents; what a table of entities has no place for is counted."""
    for document in documents:
        losses.add("texts, since a table has the entities only", document)
        if not document.entities:
            losses.add("documents without entities, which have no row", document)
        losses.passages(document)
        yield document


def _rows(documents: Iterable[Document], losses: ConversionLosses) -> Iterator[EntityRow]:
    return chain.from_iterable(map(rows_of, counting(documents, losses)))


# ---- files


def write_csv(documents: Iterable[Document], file: TextIO, losses: ConversionLosses) -> None:
    """Cells with commas between them."""
    write_cells(file, COLUMNS, _rows(documents, losses))


def write_tsv(documents: Iterable[Document], file: TextIO, losses: ConversionLosses) -> None:
    """Cells with TABs between them; quotes are as in CSV."""
    write_cells(file, COLUMNS, _rows(documents, losses), "\t")


def write_cells(
    file: TextIO, header: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ","
) -> None:
    """A table as text; None is an empty cell."""
    # with any other line end, Python 3.11 leaves a carriage return in a cell without quotes
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(header)
    formulas = 0
    for row in rows:
        writer.writerow(row)
        formulas += sum(isinstance(cell, str) and cell.startswith(_FORMULA) for cell in row)
    if formulas:
        LOGGER.warning(
            "%d cells begin with %s, and are written as they are: a spreadsheet may take them for "
            "formulas; import their columns as text",
            formulas,
            " ".join(_FORMULA),
        )


def write_parquet(documents: Iterable[Document], path: Path, losses: ConversionLosses) -> None:
    """Parquet; it needs pyarrow."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    text, number = pa.string(), pa.int64()
    types = (text, number, number, text, text, pa.float64(), text, text)
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
    rows = _rows(documents, losses)
    with ParquetWriter(path, schema) as writer:
        while some := list(islice(rows, _ROWS)):
            writer.write_table(pa.Table.from_pydict(_columns(some), schema))


def _columns(rows: Sequence[EntityRow]) -> dict[str, list[Any]]:
    return {name: [row[index] for row in rows] for index, name in enumerate(COLUMNS)}


# ---- data frames


def frame(documents: Iterable[Document], library: str | None = None) -> Any:
    """The entities of documents as a data frame.

    Parameters
    ----------
    library: `pandas` or `polars`; by default the first of them that is installed.

    Raises
    ------
    UnknownNameError: it is neither.
    MissingPackageError: it is not installed, or none is.
    """
    if library not in (None, *FRAMES):
        raise UnknownNameError(f"unknown library {library!r}: expected {' or '.join(FRAMES)}")
    wanted = FRAMES if library is None else (library,)
    found = next((name for name in wanted if find_spec(name)), None)
    if found is None:
        raise MissingPackageError(f"a data frame needs {' or '.join(wanted)}", wanted[0])
    columns = _columns(list(chain.from_iterable(map(rows_of, documents))))
    if found == "pandas":
        import pandas as pd

        kinds = {"start": "int64", "end": "int64", "confidence": "float64"}
        return pd.DataFrame(
            {
                name: pd.Series(values, dtype=kinds.get(name, "string"))
                for name, values in columns.items()
            }
        )
    import polars as pl

    types = {"start": pl.Int64, "end": pl.Int64, "confidence": pl.Float64}
    return pl.DataFrame(columns, {name: types.get(name, pl.String) for name in COLUMNS})
