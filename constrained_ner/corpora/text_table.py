"""Tables of texts: CSV, TSV and parquet, a document for each row.

The first row names the columns. One of them has the texts, exactly as they are, and one may have
the ids; the others are keys of the user's own (`Document.meta`). CSV and TSV are as RFC 4180 has
them: cells with separators, quotes or line breaks stand in quotes. Cells are separated by commas,
semicolons or TABs.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from constrained_ner.corpora import conll, parquet
from constrained_ner.corpora.files import BOM, LINE_LIMIT, LOGGER, WHERE, File, decode
from constrained_ner.corpora.json_records import json_value
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

# A row with a quote that is not closed is read to the end of the file, and given back. Where that
# has happened so often, and with so many bytes, the rest of a file is not read.
GIVEN_BACK_TIMES, GIVEN_BACK_LIMIT = 20, 256 * 2**20

# By suffix, how its cells are separated as a rule.
_SUFFIXES = {".csv": ",", ".tsv": "\t"}
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "TABs"}
SUFFIXES = (*_SUFFIXES, parquet.SUFFIX)
_SPREADSHEETS = (".xlsx", ".xlsm", ".xls", ".ods")

# The names by which columns are found where none is given.
_TEXTS = frozenset(
    [
        *("text", "texts", "note", "notes", "note_text", "report", "report_text", "document_text"),
        *("body", "content", "abstract", "sentence"),
    ]
)
_IDS = frozenset(
    [
        *("id", "note_id", "doc_id", "docid", "document_id", "text_id", "report_id", "record_id"),
        *("row_id", "sentence_id", "pmid"),
    ]
)

Row = Mapping[str, Any]
# The number of each row, by which it is called without an id, and its cells.
Rows = Iterator[tuple[int, Row | InputError]]


# ---- recognising --------------------------------------------------------------------------------


def is_table(file: File) -> bool:
    """Whether its name is that of a table, or of a spreadsheet, whatever it holds."""
    return file.suffix in (*SUFFIXES, *_SPREADSHEETS)


def is_unmistakable(file: File) -> bool:
    """The same but for a `.tsv`, which may be many other things."""
    return is_table(file) and file.suffix != ".tsv"


def recognises(file: File) -> bool:
    """Whether it has a column with a name for texts."""
    if file.suffix == parquet.SUFFIX:
        return bool(_named(parquet.columns_if_readable(file), _TEXTS))
    if file.suffix not in _SUFFIXES:
        return False
    header = _header(file, _delimiter(file))
    return bool(_named(header, _TEXTS)) and not _is_token(file, header)


def _is_token(file: File, header: Sequence[str]) -> bool:
    """Whether the first line is a token and its tag, or the title of columns of them."""
    # A value of a laboratory may be called as a tag is, `S-Crea`: then it is no tag below.
    if conll.TAG.fullmatch(header[-1]) and all(map(conll.TAG.fullmatch, _last_cells(file))):
        return True
    apart = any(blank in file.head for blank in ("\n\n", "\n\r\n"))  # a table has no blank lines
    return apart and conll.recognises_nested(file)


def _last_cells(file: File) -> list[str]:
    """The last cells of some rows below the first one."""
    rows = [conll.split_columns(line) for line in file.head_lines[: conll.SAMPLE_LINES]]
    return [row[-1] for row in rows if row[-1]][1:]


def _plain(name: str) -> str:
    return "_".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _named(columns: Iterable[str], names: frozenset[str]) -> list[str]:
    return [column for column in columns if _plain(column) in names]


def _header(file: File, delimiter: str) -> list[str]:
    """The cells of the first row, as far as its beginning can tell."""
    rows = csv.reader(io.StringIO(file.head, newline=""), delimiter=delimiter)
    try:
        return next(filter(None, rows), [])
    except csv.Error:
        return []


def _delimiter(file: File, column: str | None = None) -> str:
    """What makes of the first row a column of texts, or of the name given; or the most columns."""

    def fitness(delimiter: str) -> tuple[bool, int, bool]:
        header = _header(file, delimiter)
        found = column in header if column else bool(_named(header, _TEXTS))
        return found, len(header), delimiter == _SUFFIXES.get(file.suffix)

    return max(_DELIMITERS, key=fitness)


# ---- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """What is in which column.

    Attributes
    ----------
    id: None where the table has no ids.
    """

    text: str
    id: str | None
    others: tuple[str, ...]

    def document(self, row: Row, default_id: str) -> Document:
        text = row[self.text]
        if not isinstance(text, str):
            raise InputError(f"the column {self.text!r} has {text!r:.80}: expected a string")
        meta = {name: json_value(row[name]) for name in self.others}
        return Document(_id(row[self.id] if self.id else None) or default_id, text, meta=meta)

    def describe(self) -> str:
        ids = f"ids in {self.id!r}" if self.id else "there are no ids"
        others = ", ".join(map(repr, self.others))
        return f"texts are in the column {self.text!r}, {ids}" + (
            f"; the other columns come along: {others}" if others else ""
        )


def _id(value: object) -> str:
    """An id as a string; empty where there is none. Whole numbers may come with a `.0`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def read(
    file: File, text_column: str | None = None, id_column: str | None = None
) -> Iterator[Document | InputError]:
    """A document for each row; one without an id is called `NAME:NUMBER`, the line or the row.

    A row that breaks off, has too many or too few cells or is not UTF-8 is an `InputError`.

    Parameters
    ----------
    text_column, id_column: their names. By default the only column that is called `text`, `note`
        or so, and the only one that is called `id`, `note_id` or so, if any.

    Raises
    ------
    InputError: the file cannot be read, is a spreadsheet's own, has no such column, several that
        may be meant, or two of the same name.
    MissingExtraError: parquet, without the extra.
    """
    if file.suffix in _SPREADSHEETS:
        raise InputError(
            f"a spreadsheet's own file ({file.suffix}): expected it saved as CSV (UTF-8)",
            file.place,
        )
    if file.suffix == parquet.SUFFIX:
        header, rows, said = parquet.columns(file), _parquet_rows(file), ""
    else:
        delimiter = _delimiter(file, text_column)
        header, rows = _csv_rows(file, delimiter)
        said = f"cells are separated by {_DELIMITERS[delimiter]}; "
    columns = _choose(header, text_column, id_column, file)
    LOGGER.info("%s: %s%s", file.place, said, columns.describe())
    in_lines = file.suffix != parquet.SUFFIX
    for number, row in rows:
        if isinstance(row, InputError):
            yield row
            continue
        try:
            yield columns.document(row, f"{file.id}:{number}")
        except InputError as error:
            reason = error.reason if in_lines else f"row {number}: {error.reason}"
            yield InputError(reason, file.place, number if in_lines else None)


def _choose(
    header: Sequence[str], text_column: str | None, id_column: str | None, file: File
) -> _Columns:
    again = next((name for name, times in Counter(header).items() if times > 1), None)
    if again is not None:
        raise InputError(f"has two columns {again!r}: expected a name for each", file.place)
    text = _chosen(header, text_column, "text", _TEXTS, file)
    id = _chosen(header, id_column, "id", _IDS, file)
    if text is None:
        raise InputError(
            f"has no column with a name for texts, such as 'text' or 'note': its first row is "
            f"{_list(header)}; name the column with --text-column, or read a text a line with "
            f"--input-format lines, {WHERE}",
            file.place,
        )
    if text == id:
        raise InputError(f"the column {text!r} cannot be text and id", file.place)
    return _Columns(text, id, tuple(name for name in header if name not in (text, id)))


def _chosen(
    header: Sequence[str], given: str | None, what: str, names: frozenset[str], file: File
) -> str | None:
    """The column that was named, or else the only one with such a name; None where there is none.

    Raises
    ------
    InputError: there is no column of the name that was given, or there are several.
    """
    if given is not None:
        if given not in header:
            raise InputError(
                f"has no column {given!r}: expected one of {_list(header)}", file.place
            )
        return given
    found = _named(header, names)
    if len(found) > 1:
        raise InputError(
            f"has several columns that may be the {what}, {_list(found)}: name one of them with "
            f"--{what}-column, {WHERE}; its columns are {_list(header)}",
            file.place,
        )
    return found[0] if found else None


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"{name!r:.80}" for name in names) or "empty"


def _parquet_rows(file: File) -> Rows:
    for number, row in enumerate(parquet.rows(file), 1):
        if isinstance(row, InputError):
            row = InputError(f"row {number}: {row.reason}", file.place)
        yield number, row


# ---- CSV and TSV


class _Lines:
    """The lines of a file, those of one row at a time.

    Attributes
    ----------
    row: the numbers and lines of the row that is being read.
    error: why one of them cannot be read.
    """

    def __init__(self, file: File):
        self._file = file
        self._source = file.byte_lines()
        self._again: deque[tuple[int, int, bytes]] = deque()
        self._hint = True
        self.row: list[tuple[int, int, bytes]] = []
        self.error: InputError | None = None

    def begin(self) -> None:
        """Forget the row before."""
        self.row, self.error = [], None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        found = self._again.popleft() if self._again else next(self._source)
        self.row.append(found)
        number, offset, data = found
        try:
            line = decode(data, self._file.place, number, offset, hint=self._hint)
        except InputError as error:
            self._hint = False  # one a file
            self.error = self.error or error
            line = data.decode(errors="replace")
        return line.removeprefix(BOM) if number == 1 else line

    @property
    def number(self) -> int:
        """That of the first line of the row."""
        return self.row[0][0]

    def go_back(self) -> int:
        """Give the lines after the first one again: a quote that is not closed takes them all.

        Returns
        -------
        How many bytes they have.
        """
        self._again.extendleft(reversed(self.row[1:]))
        return sum(len(data) for _, _, data in self.row[1:])


def _csv_rows(file: File, delimiter: str) -> tuple[list[str], Rows]:
    """The names of the columns, and the rows after them."""
    rows = _cells(file, delimiter)
    _, first = next(rows, (1, []))
    if isinstance(first, InputError):
        raise first
    # spreadsheets leave columns behind that have no name
    header = [name.strip() or f"column {number}" for number, name in enumerate(first, 1)]

    def named() -> Rows:
        for number, cells in rows:
            if isinstance(cells, InputError):
                yield number, cells
            elif len(cells) != len(header):
                reason = f"the row has {len(cells)} cells: expected {len(header)}, as the first one"
                yield number, InputError(reason, file.place, number)
            else:
                yield number, dict(zip(header, cells, strict=True))

    return header, named()


def _cells(file: File, delimiter: str) -> Iterator[tuple[int, list[str] | InputError]]:
    """The number of the first line of each row that is not blank, and its cells."""
    csv.field_size_limit(max(csv.field_size_limit(), LINE_LIMIT))  # it is that of the process
    lines = _Lines(file)
    times = given_back = 0  # the latter in bytes
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number = lines.number
            given_back += lines.go_back()
            times += 1
            # the library's own words are about the program that calls it
            why = r"\r by itself outside of quotes" if "new-line" in str(error) else str(error)
            reason = f"not a row of cells separated by {_DELIMITERS[delimiter]}: {why}"
            too_often = times > GIVEN_BACK_TIMES and given_back > GIVEN_BACK_LIMIT
            reason += "; nothing after it is read" if too_often else ""
            yield number, InputError(reason, file.place, number)
            if too_often:
                return
            continue
        if lines.error:
            yield lines.number, lines.error
        elif cells:
            yield lines.number, cells
