"""Columns of tags: a token a line, blank lines between sentences.

`conll`: the token is the first column and its tag the last one; columns between them (parts of
speech, chunks) are passed over. Tags are IOB1, IOB2, IOBES, BIOES or BILOU. `nested_iob`: every
column after the token is a layer of tags, the innermost first.

In some files columns that number or name the token, its sentence or its document, or say its
offsets, stand before the tokens; they are passed over. Tags without a label, a plain `B`, `I` and
`O`, need to be told what they are tags of: the option `label`.

Columns are separated by TABs, in a line without TAB by spaces. Each sentence is a document
`NAME:N` (N from 1) whose text is its tokens joined by one space. Behind a line `-DOCSTART- (ID)`,
all sentences up to the next such line are the document `ID`. Lines before a sentence that begin
with `#` and are no row are comments.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TextIO

from constrained_ner.corpora.annotations import log_repairs
from constrained_ner.corpora.conversion_losses import ConversionLosses, Names
from constrained_ner.corpora.files import LOGGER, File, encodable
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError
from constrained_ner.words import Span, covering, joined, mention_tags, one_line, tokens

TAG = re.compile(r"O|[BIESLU](-.+)?")
_NUMBER = re.compile("[0-9]{1,9}")
DOCUMENT_START = "-DOCSTART-"
_NAMED_START = re.compile(rf"{DOCUMENT_START}[ \t]+\((.*)\)[ \t]*", re.DOTALL)
COMMENT = "#"
SUFFIXES = (".tsv", ".conll", ".iob", ".iob2", ".iobes", ".bio", ".bioes", ".nested")
SAMPLE_LINES = 200
FEWEST_OFFSETS = 3  # steps upwards: of fewer nothing can be said
NESTED = ".nested"
# The labels of CoNLL-2000: a column of these is no layer of mentions, but in files of that suffix.
CHUNKS = {"NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP"}

_BEGINS, _ENDS = "BSU", "ESLU"

Row = list[str]
Sentences = Callable[[str], Iterable[Span]]


def split_columns(line: str) -> Row:
    """A line's columns, without the spaces around them; a token may hold other white space."""
    line = line.strip(" ") if "\t" not in line else line.rstrip(" \t")
    if "\t" in line:
        return [column.strip(" ") for column in line.split("\t")]
    return re.split(" +", line)


def _blank(line: str) -> bool:
    return not line.strip(" \t\r")


# ---- recognising --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """Which columns of a file hold what.

    Attributes
    ----------
    width: how many there are in most lines.
    token: the index of the token's.
    layers: how many at the end are columns of tags; 0 where the file holds something else.
    chunks: whether all columns after the token are tags, and some of them chunks.
    """

    width: int = 2
    token: int = 0
    layers: int = 1
    chunks: bool = False


def _sample(file: File) -> list[Row]:
    """The columns of a file's first lines that have the most common number of columns.

    The most common one, so that a broken line among the first does not mislead.
    """
    rows = [split_columns(line) for line in _row_lines(file)]
    width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    return [row for row in rows if len(row) == width]


def _row_lines(file: File) -> list[str]:
    """A file's first lines, without what may be comments if there is anything else."""
    lines = [line.strip(" ") for line in file.head_lines[:SAMPLE_LINES] if not _blank(line)]
    lines = [line for line in lines if not line.startswith(DOCUMENT_START)]
    return [line for line in lines if not line.startswith(COMMENT)] or lines


def _are_tags(column: Iterable[str]) -> bool:
    """Whether most are tags: most, so that a wrong one costs its own sentence only."""
    values = list(column)
    tags = [value for value in values if TAG.fullmatch(value)]
    # letters alone, without any O among them, may be grades or sizes
    return 2 * len(tags) >= len(values) and any(tag == "O" or "-" in tag for tag in tags)


def _begin_with_chunks(columns: Sequence[Iterable[str]]) -> bool:
    """Whether chunks stand before other tags: they are no mentions."""
    labels = [{tag[2:] for tag in column if tag != "O"} for column in columns]
    chunks = [bool(found) and found <= CHUNKS for found in labels]
    return any(chunks[:-1]) and not chunks[-1]


def _are_ids(column: Iterable[str]) -> bool:
    """Whether most follow one another as ids of tokens, sentences or documents do, or offsets."""
    values = list(column)
    pairs = list(pairwise(values))
    if 2 * sum(_may_follow(*pair) for pair in pairs) > len(pairs):
        return True
    numbers = len(pairs) >= FEWEST_OFFSETS and all(map(_NUMBER.fullmatch, values))
    return numbers and 3 * sum(int(a) < int(b) for a, b in pairs) >= 2 * len(pairs)


def _may_follow(before: str, after: str) -> bool:
    """The same id, the next number, or numbers that begin anew."""
    numbers = _NUMBER.fullmatch(before) and _NUMBER.fullmatch(after)
    return before == after or bool(numbers and (int(after) == int(before) + 1 or int(after) <= 1))


def _token_column(columns: Sequence[Iterable[str]]) -> int:
    """The first column that does not hold ids; numbers right before tags are tokens."""
    for index, (column, after) in enumerate(pairwise(columns[:-1])):
        if not _are_ids(column) or _are_tags(after):
            return index
    return max(0, len(columns) - 2)


def _columns(file: File) -> _Columns:
    rows = _sample(file)
    if not rows or len(rows[0]) < 2:
        return _Columns(layers=0)
    columns = list(zip(*rows, strict=True))
    token = _token_column(columns)
    layers = columns[token + 1 :]
    only_tags = all(map(_are_tags, layers))
    chunks = only_tags and file.suffix != NESTED and _begin_with_chunks(layers)
    found = len(layers) if only_tags and not chunks else int(_are_tags(layers[-1]))
    return _Columns(len(columns), token, found, chunks)


def recognises(file: File) -> bool:
    return _recognised(file) == 1


def recognises_nested(file: File) -> bool:
    return _recognised(file) > 0


def _recognised(file: File) -> int:
    """How many layers of tags a file has; 0 where it is of another format."""
    if file.suffix in SUFFIXES:
        return _columns(file).layers if _row_lines(file) else 1
    if file.suffix == ".txt" and _is_no_plain_text(file):
        return _columns(file).layers
    return 0


def _is_no_plain_text(file: File) -> bool:
    """Whether most lines end in a tag, as those of a table in a text do not."""
    lines = _row_lines(file)
    rows = [row for row in _sample(file) if len(row) > 1]
    tags = [row[-1] for row in rows if TAG.fullmatch(row[-1])]
    if 2 * len(tags) <= len(lines):
        return False
    if 2 * sum("\t" in line for line in lines) > len(lines):
        return True
    # where spaces stand between the columns, a list of names may look like them: `vitamin B-12`
    starts = any(line.startswith(DOCUMENT_START) for line in file.head_lines)
    return starts or ("O" in tags and any("-" in tag for tag in tags))


# ---- reading ------------------------------------------------------------------------------------


_NO_LABEL = "has no label: expected one after it, or `cner convert --label LABEL`"


class _Block:
    """The rows of one document, checked as they come: a sentence, or all that it has.

    Attributes
    ----------
    breaks: where in the rows its later sentences begin.
    """

    def __init__(self, columns: _Columns, label: str, file: File):
        self.columns, self.label, self.file = columns, label, file
        self.rows: list[Row] = []
        self.lines: list[int] = []
        self.breaks: set[int] = set()
        self.error: InputError | None = None

    @property
    def begun(self) -> bool:
        return bool(self.rows or self.error)

    @property
    def at_start(self) -> bool:
        """Whether the next row begins a sentence."""
        return not self.begun or len(self.rows) in self.breaks

    def end_sentence(self) -> None:
        self.breaks.add(len(self.rows))

    def add(self, number: int, line: str | InputError) -> None:
        if self.error:
            return
        if isinstance(line, InputError):
            self.error = line
            return
        row = split_columns(line)
        problem = self.problem(row, line)
        if problem:
            self.error = InputError(problem, self.file.place, number)
        self.rows.append(row)
        self.lines.append(number)

    def problem(self, row: Row, line: str) -> str | None:
        """Why a line is no row of this file."""
        width = self.columns.width
        if len(row) != width or not all(row):
            return f"{line!r:.80} has {sum(map(bool, row))} columns: expected {width}"
        for tag in self._tags(row):
            if not TAG.fullmatch(tag):
                return (
                    f"unknown tag {tag!r:.80}: expected O, or B-, I-, E-, S-, L- or U- and a label"
                )
            if tag != "O" and not self._label(tag):
                return f"the tag {tag!r} {_NO_LABEL}"
        return None

    def _tags(self, row: Row) -> Row:
        return row[-self.columns.layers :]

    def _label(self, tag: str) -> str:
        return tag[2:] or self.label

    def document(self, id: str, orphans: list[int]) -> Document | InputError:
        """The document; the line of each tag that continues nothing is added to `orphans`."""
        if self.error:
            return self.error
        text, spans = joined(row[self.columns.token] for row in self.rows)
        entities = [
            Entity(label, ((spans[first][0], spans[last][1]),))
            for tags in zip(*map(self._tags, self.rows), strict=True)
            for label, first, last in self._mentions(tags, orphans)
        ]
        return Document(id, text, tuple(entities))

    def _mentions(self, tags: Iterable[str], orphans: list[int]) -> list[tuple[str, int, int]]:
        """Label, first and last token of the mentions of one layer."""
        kinds = [(tag[0], self._label(tag)) for tag in tags]
        mentions, orphan_tags = mentions_of(kinds, self.breaks)
        orphans += [self.lines[index] for index in orphan_tags]
        return mentions


def mentions_of(
    tags: Iterable[tuple[str, str]], breaks: Container[int] = ()
) -> tuple[list[tuple[str, int, int]], list[int]]:
    """Label, first and last token of the mentions that tags say.

    Parameters
    ----------
    tags: of each token `B`, `I`, `E`, `S`, `L`, `U` or `O`, and the label.
    breaks: the tokens that no mention goes on to.

    Returns
    -------
    The mentions, and the tokens whose tags continue nothing, which are read as beginnings.
    """
    mentions: list[tuple[str, int, int]] = []
    orphans: list[int] = []
    open_label: str | None = None
    for index, (kind, label) in enumerate(tags):
        if index in breaks:
            open_label = None
        if kind == "O":
            open_label = None
            continue
        if kind not in _BEGINS and label == open_label:
            mentions[-1] = (*mentions[-1][:2], index)
        else:
            mentions.append((label, index, index))
            if kind not in _BEGINS:
                orphans.append(index)
        open_label = None if kind in _ENDS else label
    return mentions, orphans


def _read(file: File, columns: _Columns, label: str) -> Iterator[Document | InputError]:
    _refuse(file, columns, label)
    count, block = 0, _Block(columns, label, file)
    name = ""
    orphans: list[int] = []
    passed: Counter[str] = Counter()
    try:
        for number, line in file.lines():
            start = isinstance(line, str) and split_columns(line)[0] == DOCUMENT_START
            if start or (isinstance(line, str) and _blank(line)):
                if block.begun and (start or not name):
                    count += not name
                    yield block.document(name or f"{file.id}:{count}", orphans)
                    block = _Block(columns, label, file)
                block.end_sentence()
                if isinstance(line, str) and start:
                    named = _NAMED_START.fullmatch(line)
                    name = named[1] if named else ""
            elif block.at_start and _is_comment(line, block):
                passed["comment lines, passed over"] += 1
            else:
                block.add(number, line)
        if block.begun:
            yield block.document(name or f"{file.id}:{count + 1}", orphans)
    finally:  # also when the caller stops early
        if columns.token:
            LOGGER.info("%s: the words are column %d, after ids", file.place, columns.token + 1)
        log_repairs(passed, file.place)
        if orphans:
            LOGGER.warning(
                "%s:%d: %d tags without a mention before them to continue (this line is the "
                "first): read as beginnings",
                file.place,
                orphans[0],
                len(orphans),
            )


def _is_comment(line: str | InputError, block: _Block) -> bool:
    """Whether a line before a sentence is a comment: a word may begin with the same mark."""
    if isinstance(line, InputError) or not line.startswith(COMMENT):
        return False
    return block.problem(split_columns(line), line) is not None


def _refuse(file: File, columns: _Columns, label: str) -> None:
    """Refuse the whole file where each of its sentences would fail, or would be misread."""
    first = [row[columns.token] for row in _sample(file)]
    if columns.width > 2 and "O" in first and _are_tags(first) and columns.layers == 1:
        raise InputError(
            "the first column is tags: expected the token there, and its tag in the last column",
            file.place,
        )
    tags = {tag for row in _sample(file) for tag in row[-columns.layers :] if TAG.fullmatch(tag)}
    plain = sorted(tag for tag in tags if len(tag) == 1 and tag != "O")
    if plain and not label and not any("-" in tag for tag in tags):
        raise InputError(f"the tag {plain[0]!r} {_NO_LABEL}", file.place)


def read(file: File, label: str = "") -> Iterator[Document | InputError]:
    """A token and, in the last column, its tag.

    A line with another number of columns than most, or an unknown tag, makes its sentence an
    `InputError`. A tag that continues nothing begins a mention. How many of those there are is
    logged once a file, and so is the number of comments.

    Parameters
    ----------
    label: that of mentions whose tags have none, such as a plain `B`.

    Raises
    ------
    InputError: the file is missing; or its tags have no labels, and there is no `label`.
    """
    columns = _columns(file)
    if columns.chunks:
        said = "%s: columns of chunks (NP, VP), passed over: 'nested_iob' reads them as mentions"
        LOGGER.info(said, file.place)
    yield from _read(file, replace(columns, layers=1), label)


def read_nested(file: File, label: str = "") -> Iterator[Document | InputError]:
    """A token and one tag for each layer of nesting, the innermost first; otherwise as `read`.

    A mention that stands on two layers is one entity.

    Raises
    ------
    InputError: as `read` does.
    """
    columns = _columns(file)
    yield from _read(file, replace(columns, layers=columns.width - columns.token - 1), label)


# ---- writing ------------------------------------------------------------------------------------


class _Rows:
    """A document's tokens, and its mentions as ranges of tokens.

    Attributes
    ----------
    breaks: the tokens before which a blank line stands.
    """

    def __init__(
        self,
        document: Document,
        words: str,
        sentences: Sentences | None,
        losses: ConversionLosses,
        labels: Names,
    ):
        spans: list[Span] = []
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
                allowed = " ".join(entity.label.split()) or "_"
                label = labels.name(entity.label, allowed, document)
                self.mentions.append((*tokens_of, label, entity))
        losses.passages(document)
        begins = [start for start, _ in sentences(document.text)] if sentences else []
        inside = {i for first, last, *_ in self.mentions for i in range(first + 1, last)}
        # no sentence ends inside a mention, nor before the first token
        self.breaks = {bisect_left(spans, (start, start)) for start in begins} - inside - {0}

    def tags(self, mentions: Iterable[tuple[int, int, str, Entity]]) -> list[str]:
        tags = ["O"] * len(self.words)
        for first, last, label, _ in mentions:
            tags[first:last] = mention_tags(label, last - first)
        return tags


def _documents(
    documents: Iterable[Document],
    words: str,
    sentences: Sentences | None,
    losses: ConversionLosses,
) -> Iterator[tuple[Document, str, _Rows]]:
    """Each document with the id by which it is written, and its rows."""
    labels, ids = Names("labels", losses), Names("ids", losses)
    for document in documents:
        rows = _Rows(document, words, sentences, losses, labels)
        if rows.words:
            allowed = encodable(one_line(document.id)) or "_"
            yield document, ids.fresh(document.id, allowed, document), rows
        else:
            losses.add("texts without a word, left out", document)


def _write_document(
    file: TextIO, id: str, breaks: Container[int], rows: Iterable[Sequence[str]]
) -> None:
    file.write(f"{DOCUMENT_START}\t({id})\n\n")
    for number, row in enumerate(rows):
        if number in breaks:
            file.write("\n")
        file.write("\t".join(row) + "\n")
    file.write("\n")


def write(
    documents: Iterable[Document],
    file: TextIO,
    losses: ConversionLosses,
    words: str = "fine",
    sentences: Sentences | None = None,
) -> None:
    """Two columns, IOB2. Of mentions that overlap, the longest is kept, or else the first.

    A line `-DOCSTART-<TAB>(ID)` begins each document.

    Parameters
    ----------
    sentences: finds those of a text, between which blank lines are written, but inside no mention;
        by default a document is one block.
    words: `fine`: runs of word characters, and every other character by itself. `space`: runs of
        non-space, which gives back the tokens of a text that was read from columns.
    """
    for document, id, rows in _documents(documents, words, sentences, losses):
        kept: list[tuple[int, int, str, Entity]] = []
        for mention in sorted(rows.mentions, key=lambda m: (m[0] - m[1], m[0])):
            if all(mention[1] <= other[0] or other[1] <= mention[0] for other in kept):
                kept.append(mention)
            else:
                losses.drop("mentions that overlap with a longer one", document, mention[3])
        table = zip(rows.words, rows.tags(kept), strict=True)
        _write_document(file, id, rows.breaks, table)


def write_nested(
    documents: Iterable[Document],
    file: TextIO,
    losses: ConversionLosses,
    words: str = "fine",
    sentences: Sentences | None = None,
) -> None:
    """As many columns of tags as the corpus needs, the innermost mentions first.

    The corpus is held in memory, since the number of columns is known only at its end.
    """
    tables: list[tuple[str, _Rows, list[list[str]]]] = []
    for _, id, rows in _documents(documents, words, sentences, losses):
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
        tables.append((id, rows, [rows.tags(layer) for layer in layers]))
    most = max((len(layers) for *_, layers in tables), default=1)
    for id, rows, layers_of in tables:
        blank = [["O"] * len(rows.words)] * (max(1, most) - len(layers_of))
        table = zip(rows.words, *layers_of, *blank, strict=True)
        _write_document(file, id, rows.breaks, table)
