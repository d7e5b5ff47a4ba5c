"""Columns of IOB tags: `token TAG` (iob2), and `token TAG TAG ...` with nesting (nested_iob).

Columns are separated by TABs, in a line without TAB by spaces. Blank lines separate sentences, and
each sentence is a document `STEM:N` (N from 1) whose text is its tokens joined by one space.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from constrained_ner.corpora.files import LOGGER, clean_name, numbered_lines
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError

TAG = re.compile(r"O|[BI]-.+")
DOCUMENT_START = "-DOCSTART-"
SAMPLE_LINES = 200


def split_columns(line: str) -> list[str]:
    """A line's columns, without the spaces around them; a token may hold other white space."""
    line = line.strip(" ") if "\t" not in line else line.rstrip(" \t")
    if "\t" in line:
        return [column.strip(" ") for column in line.split("\t")]
    return re.split(" +", line)


def _blank(line: str) -> bool:
    return not line.strip(" \t\r")


def sample_rows(path: str | Path) -> list[list[str]]:
    """The columns of the first lines of a file that have the most common number of columns.

    The most common one, so that a broken line among the first does not mislead.

    Raises
    ------
    InputError: the file is missing.
    """
    rows = [
        split_columns(line)
        for _, line in islice(numbered_lines(path), SAMPLE_LINES)
        if isinstance(line, str) and not _blank(line)
    ]
    rows = [row for row in rows if row[0] != DOCUMENT_START]
    if not rows:
        return []
    width = Counter(map(len, rows)).most_common(1)[0][0]
    return [row for row in rows if len(row) == width]


class _Sentence:
    """The rows of one sentence, checked as they come."""

    def __init__(self, width: int, path: str | Path):
        self.width, self.path = width, path
        self.rows: list[list[str]] = []
        self.lines: list[int] = []
        self.error: InputError | None = None

    def add(self, number: int, line: str | InputError) -> None:
        if self.error:
            return
        if isinstance(line, InputError):
            self.error = line
            return
        row = split_columns(line)
        reason = None
        if len(row) != self.width or not all(row):
            reason = f"{line!r:.80} has {sum(map(bool, row))} columns: expected {self.width}"
        else:
            unknown = [tag for tag in row[1:] if not TAG.fullmatch(tag)]
            if unknown:
                reason = f"unknown tag {unknown[0]!r:.80}: expected O, B-label or I-label"
        if reason:
            self.error = InputError(reason, self.path, number)
        self.rows.append(row)
        self.lines.append(number)

    def document(self, id: str, orphans: list[int]) -> Document | InputError:
        """The document; the line of each `I-` that begins a mention is added to `orphans`."""
        if self.error:
            return self.error
        text, spans = "", []
        for row in self.rows:
            text += " " if text else ""
            spans.append((len(text), len(text) + len(row[0])))
            text += row[0]
        entities: list[Entity] = []
        for column in range(1, self.width):
            # label, first and last token of the mentions of one layer
            mentions: list[tuple[str, int, int]] = []
            before = "O"
            for index, row in enumerate(self.rows):
                tag = row[column]
                if tag.startswith("I-") and before[2:] == tag[2:]:
                    mentions[-1] = (*mentions[-1][:2], index)
                elif tag != "O":
                    mentions.append((tag[2:], index, index))
                    if tag.startswith("I-"):
                        orphans.append(self.lines[index])
                before = tag
            entities.extend(
                Entity(label, ((spans[first][0], spans[last][1]),))
                for label, first, last in mentions
            )
        return Document(id, text, tuple(entities))


def _read(path: str | Path, width: int) -> Iterator[Document | InputError]:
    stem = clean_name(Path(path).stem)
    count, sentence = 0, _Sentence(width, path)
    orphans: list[int] = []
    try:
        for number, line in numbered_lines(path):
            if isinstance(line, str) and (_blank(line) or split_columns(line)[0] == DOCUMENT_START):
                if sentence.rows or sentence.error:
                    count += 1
                    yield sentence.document(f"{stem}:{count}", orphans)
                    sentence = _Sentence(width, path)
            else:
                sentence.add(number, line)
        if sentence.rows or sentence.error:
            yield sentence.document(f"{stem}:{count + 1}", orphans)
    finally:  # also when the caller stops early
        if orphans:
            LOGGER.warning(
                "%s:%d: %d I- tags without a mention before them to continue (this line is the "
                "first): read as beginnings",
                path,
                orphans[0],
                len(orphans),
            )


def read(path: str | Path) -> Iterator[Document | InputError]:
    """IOB2 in two columns, `token TAG`.

    A line with another number of columns, or an unknown tag, makes its sentence an `InputError`.
    An `I-x` that continues nothing begins a mention; their number is logged once a file.

    Raises
    ------
    InputError: the file is missing.
    """
    return _read(path, 2)


def read_nested(path: str | Path) -> Iterator[Document | InputError]:
    """A token and one tag for each layer of nesting, the innermost first; otherwise as `read`.

    The number of columns is the most common one among the first lines. A mention that stands on
    two layers is one entity.

    Raises
    ------
    InputError: the file is missing.
    """
    rows = sample_rows(path)
    yield from _read(path, len(rows[0]) if rows else 2)
