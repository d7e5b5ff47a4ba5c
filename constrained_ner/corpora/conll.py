"""Columns of tags: a token a line, blank lines between sentences.

`conll`: the token is the first column and its tag the last one; columns between them (parts of
speech, chunks) are passed over. Tags are IOB1, IOB2, IOBES, BIOES or BILOU. `nested_iob`: every
column after the token is a layer of tags, the innermost first.

Columns are separated by TABs, in a line without TAB by spaces. Each sentence is a document
`NAME:N` (N from 1) whose text is its tokens joined by one space.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from constrained_ner.corpora.conversion_losses import ConversionLosses, Names
from constrained_ner.corpora.files import LOGGER, File
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError
from constrained_ner.words import covering, one_line, tokens

TAG = re.compile(r"O|[BIESLU]-.+")
DOCUMENT_START = "-DOCSTART-"
SUFFIXES = (".tsv", ".conll", ".iob", ".iob2", ".iobes", ".bio", ".bioes", ".nested")
SAMPLE_LINES = 200

_BEGINS, _ENDS = "BSU", "ESLU"


def split_columns(line: str) -> list[str]:
    """A line's columns, without the spaces around them; a token may hold other white space."""
    line = line.strip(" ") if "\t" not in line else line.rstrip(" \t")
    if "\t" in line:
        return [column.strip(" ") for column in line.split("\t")]
    return re.split(" +", line)


def _blank(line: str) -> bool:
    return not line.strip(" \t\r")


# ---- recognising --------------------------------------------------------------------------------


def _sample(file: File) -> list[list[str]]:
    """The columns of a file's first lines that have the most common number of columns.

    The most common one, so that a broken line among the first does not mislead.
    """
    rows = [split_columns(line) for line in file.head_lines[:SAMPLE_LINES] if not _blank(line)]
    rows = [row for row in rows if row[0] != DOCUMENT_START]
    width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    return [row for row in rows if len(row) == width]


def _mostly_tags(rows: Sequence[Sequence[str]], column: int) -> bool:
    # most rows, not all, so that a wrong tag costs its own sentence only
    return 2 * sum(TAG.fullmatch(row[column]) is not None for row in rows) >= len(rows)


def _layers(rows: Sequence[Sequence[str]]) -> int:
    """How many columns of tags stand after the token; 0 where the columns are something else.

    An `O` may stand in any column (a chunk, say), so layers need to be tags in every row.
    """
    if not rows or len(rows[0]) < 2 or not _mostly_tags(rows, -1):
        return 0
    return len(rows[0]) - 1 if all(_mostly_tags(rows, c) for c in range(1, len(rows[0]))) else 1


def recognises(file: File) -> bool:
    return _recognised(file) == 1


def recognises_nested(file: File) -> bool:
    return _recognised(file) > 0


def _recognised(file: File) -> int:
    lines = file.head_lines
    if file.suffix in SUFFIXES:
        return _layers(_sample(file)) if lines else 1
    if file.suffix != ".txt":
        return 0
    # of a .txt file most lines must be columns: a plain text may hold a table
    last = [line.rsplit("\t", 1)[1].strip() for line in lines if "\t" in line]
    if 2 * sum(TAG.fullmatch(tag) is not None for tag in last) > len(lines):
        return _layers(_sample(file))
    return 0


# ---- reading ------------------------------------------------------------------------------------


class _Sentence:
    """The rows of one sentence, checked as they come."""

    def __init__(self, width: int, layers: int, file: File):
        self.width, self.layers, self.file = width, layers, file
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
            unknown = [tag for tag in row[-self.layers :] if not TAG.fullmatch(tag)]
            if unknown:
                reason = (
                    f"unknown tag {unknown[0]!r:.80}: expected O, or B-, I-, E-, S-, L- or U- "
                    "and a label"
                )
        if reason:
            self.error = InputError(reason, self.file.place, number)
        self.rows.append(row)
        self.lines.append(number)

    def document(self, id: str, orphans: list[int]) -> Document | InputError:
        """The document; the line of each tag that continues nothing is added to `orphans`."""
        if self.error:
            return self.error
        text, spans = "", []
        for row in self.rows:
            text += " " if text else ""
            spans.append((len(text), len(text) + len(row[0])))
            text += row[0]
        entities = [
            Entity(label, ((spans[first][0], spans[last][1]),))
            for column in range(self.width - self.layers, self.width)
            for label, first, last in self._mentions(column, orphans)
        ]
        return Document(id, text, tuple(entities))

    def _mentions(self, column: int, orphans: list[int]) -> list[tuple[str, int, int]]:
        """Label, first and last token of the mentions of one layer."""
        mentions: list[tuple[str, int, int]] = []
        open_label: str | None = None
        for index, row in enumerate(self.rows):
            kind, label = row[column][0], row[column][2:]
            if kind == "O":
                open_label = None
                continue
            if kind not in _BEGINS and label == open_label:
                mentions[-1] = (*mentions[-1][:2], index)
            else:
                mentions.append((label, index, index))
                if kind not in _BEGINS:
                    orphans.append(self.lines[index])
            open_label = None if kind in _ENDS else label
        return mentions


def _read(file: File, width: int, layers: int) -> Iterator[Document | InputError]:
    count, sentence = 0, _Sentence(width, layers, file)
    orphans: list[int] = []
    try:
        for number, line in file.lines():
            if isinstance(line, str) and (_blank(line) or split_columns(line)[0] == DOCUMENT_START):
                if sentence.rows or sentence.error:
                    count += 1
                    yield sentence.document(f"{file.id}:{count}", orphans)
                    sentence = _Sentence(width, layers, file)
            else:
                sentence.add(number, line)
        if sentence.rows or sentence.error:
            yield sentence.document(f"{file.id}:{count + 1}", orphans)
    finally:  # also when the caller stops early
        if orphans:
            LOGGER.warning(
                "%s:%d: %d tags without a mention before them to continue (this line is the "
                "first): read as beginnings",
                file.place,
                orphans[0],
                len(orphans),
            )


def read(file: File) -> Iterator[Document | InputError]:
    """A token and, in the last column, its tag.

    A line with another number of columns than most, or an unknown tag, makes its sentence an
    `InputError`. A tag that continues nothing begins a mention; their number is logged once a
    file.

    Raises
    ------
    InputError: the file is missing.
    """
    rows = _sample(file)
    yield from _read(file, max(2, len(rows[0])) if rows else 2, 1)


def read_nested(file: File) -> Iterator[Document | InputError]:
    """A token and one tag for each layer of nesting, the innermost first; otherwise as `read`.

    A mention that stands on two layers is one entity.

    Raises
    ------
    InputError: the file is missing.
    """
    rows = _sample(file)
    width = max(2, len(rows[0])) if rows else 2
    yield from _read(file, width, width - 1)


# ---- writing ------------------------------------------------------------------------------------


class _Rows:
    """A document's tokens, and its mentions as ranges of tokens."""

    def __init__(self, document: Document, words: str, losses: ConversionLosses, labels: Names):
        self.words: list[str] = []
        spans = []
        for start, end in tokens(document.text, words):
            word = document.text[start:end]
            # the word that marks the beginning of a document in these files
            pieces = [(start, start + 1), (start + 1, end)] if word == DOCUMENT_START else None
            spans += pieces or [(start, end)]
        self.words = [document.text[start:end] for start, end in spans]
        if " ".join(self.words) != document.text:
            losses.add("texts whose white space is not kept", document)
        self.mentions: list[tuple[int, int, str, Entity]] = []
        for entity in losses.contiguous(document):
            tokens_of = covering(spans, entity.start, entity.end)
            if tokens_of is None:
                losses.drop("mentions that begin or end inside a token", document, entity)
            else:
                allowed = " ".join(one_line(entity.label).split()) or "_"
                label = labels.name(entity.label, allowed.replace("\t", " "), document)
                self.mentions.append((*tokens_of, label, entity))
        losses.passages(document)

    def tags(self, mentions: Iterable[tuple[int, int, str, Entity]]) -> list[str]:
        tags = ["O"] * len(self.words)
        for first, last, label, _ in mentions:
            tags[first:last] = [f"B-{label}"] + [f"I-{label}"] * (last - first - 1)
        return tags


def _documents(
    documents: Iterable[Document], words: str, losses: ConversionLosses
) -> Iterator[tuple[Document, _Rows]]:
    labels = Names("labels", losses)
    for document in documents:
        rows = _Rows(document, words, losses, labels)
        if rows.words:
            losses.add("documents without their ids", document)
            yield document, rows
        else:
            losses.add("texts without a word, left out", document)


def write(
    documents: Iterable[Document], file: TextIO, losses: ConversionLosses, words: str = "fine"
) -> None:
    """Two columns, IOB2. Of mentions that overlap the longest is kept, of equal ones the first.

    Parameters
    ----------
    words: `fine`: runs of word characters, and every other character by itself. `space`: runs of
        non-space, which gives back the tokens of a text that was read from columns.
    """
    for document, rows in _documents(documents, words, losses):
        kept: list[tuple[int, int, str, Entity]] = []
        for mention in sorted(rows.mentions, key=lambda m: (m[0] - m[1], m[0])):
            if all(mention[1] <= other[0] or other[1] <= mention[0] for other in kept):
                kept.append(mention)
            else:
                losses.drop("mentions that overlap with a longer one", document, mention[3])
        for word, tag in zip(rows.words, rows.tags(kept), strict=True):
            file.write(f"{word}\t{tag}\n")
        file.write("\n")


def write_nested(
    documents: Iterable[Document], file: TextIO, losses: ConversionLosses, words: str = "fine"
) -> None:
    """As many columns of tags as the corpus needs, the innermost mentions first.

    The corpus is held in memory, since every line of the file has the same number of columns.
    """
    tables: list[tuple[list[str], list[list[str]]]] = []
    for _, rows in _documents(documents, words, losses):
        layers: list[list[tuple[int, int, str, Entity]]] = []
        for mention in sorted(rows.mentions, key=lambda m: (m[1] - m[0], m[0], m[2])):
            # above every mention that it overlaps, since those are not longer
            depth = 1 + max(
                (
                    depth
                    for depth, layer in enumerate(layers)
                    if any(m[0] < mention[1] and mention[0] < m[1] for m in layer)
                ),
                default=-1,
            )
            if depth == len(layers):
                layers.append([])
            layers[depth].append(mention)
        tables.append((rows.words, [rows.tags(layer) for layer in layers]))
    most = max((len(layers) for _, layers in tables), default=1)
    for words_of, layers_of in tables:
        blank = [["O"] * len(words_of)] * (max(1, most) - len(layers_of))
        for row in zip(words_of, *layers_of, *blank, strict=True):
            file.write("\t".join(row) + "\n")
        file.write("\n")
