"""PubTator: `ID|t|TITLE`, `ID|a|ABSTRACT`, then a row for each annotation; blank lines between.

Rows are `ID start end surface label [concepts [composite parts]]`, separated by TABs. Offsets run
over title, one character, abstract; the character is read as a line break. Concept identifiers and
relations (rows without offsets) are passed over and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TextIO

from constrained_ner.corpora.annotations import Annotation, annotated, repairs_of
from constrained_ner.corpora.conversion_losses import ConversionLosses, Names
from constrained_ner.corpora.files import LOGGER, File, encodable
from constrained_ner.corpora.passages import GAP, title_and_abstract
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

_PASSAGE = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
NO_CONCEPT = "-1"  # as NCBI-disease and other tools write it; some readers want the column
_EXPECTED = "expected ID|t|title, ID|a|abstract, or ID, start, end, surface and label"


def recognises(file: File) -> bool:
    lines = file.head_lines
    match = _PASSAGE.fullmatch(lines[0]) if lines else None
    return bool(match and match[2] == "t")


# ---- reading ------------------------------------------------------------------------------------


class _Record:
    """The lines of one document."""

    def __init__(self, file: File):
        self.file = file
        self.id = ""
        self.passages: dict[str, str] = {}
        self.annotations: list[Annotation] = []
        self.error: InputError | None = None
        self.relations = self.concepts = 0

    @property
    def empty(self) -> bool:
        return not (self.id or self.error)

    def add(self, number: int, line: str | InputError) -> None:
        if isinstance(line, InputError):
            self.fail(line)
            return
        passage = _PASSAGE.fullmatch(line)
        if passage:
            id, kind, text = passage.groups()
            if kind in self.passages:
                self.fail(InputError(f"a second |{kind}| line", self.file.place, number))
            elif self.id and id != self.id:
                reason = f"{id!r:.80} among the lines of {self.id!r:.80}"
                self.fail(InputError(reason, self.file.place, number))
            self.id = self.id or id
            self.passages[kind] = text
            return
        columns = line.split("\t")
        if not self.id:
            self.fail(InputError(f"{line!r:.80}: {_EXPECTED}", self.file.place, number))
        elif columns[0] != self.id:
            self._warn(number, line, f"it belongs to {columns[0]!r:.40}, not to {self.id!r:.40}")
        elif len(columns) >= 5 and columns[1].isdecimal() and columns[2].isdecimal():
            start, end = (int(column[:18]) for column in columns[1:3])
            self.concepts += len(columns) > 5 and columns[5] not in ("", "-", NO_CONCEPT)
            self.annotations.append(
                Annotation(self.file.place, number, columns[4], ((start, end),), columns[3])
            )
        elif len(columns) >= 4 and columns[1][:1].isalpha():
            self.relations += 1
        else:
            self._warn(number, line, _EXPECTED)

    def fail(self, error: InputError) -> None:
        self.error = self.error or error

    def _warn(self, number: int, line: str, reason: str) -> None:
        LOGGER.warning("%s:%d: skipped %.80r: %s", self.file.place, number, line, reason)

    def document(self, repairs: Counter[str]) -> Document | InputError:
        if self.error:
            return self.error
        title, abstract = self.passages.get("t", ""), self.passages.get("a", "")
        text, passages = title_and_abstract(title, abstract)
        repairs["relation rows, passed over"] += self.relations
        repairs["concept identifiers, passed over"] += self.concepts
        document = Document(self.id, text, passages=passages)
        return annotated(document, self.annotations, repairs)


def read(file: File) -> Iterator[Document | InputError]:
    """A document for each record; passages are `title` and `abstract`.

    A row that is malformed, lies outside the text or has another surface than the text there is
    logged and skipped. A line `|t|` begins a record, as a blank line does. A record that does not
    begin with a line `|t|` or `|a|`, or has two lines `|a|`, is an `InputError`.

    Raises
    ------
    InputError: the file is missing.
    """
    record = _Record(file)
    with repairs_of(file.place) as repairs:
        for number, line in file.lines():
            blank = isinstance(line, str) and not line.strip()
            # a title begins a record, whether or not a blank line stands before it
            title = (
                isinstance(line, str) and (match := _PASSAGE.fullmatch(line)) and match[2] == "t"
            )
            if (blank or (title and record.id)) and not record.empty:
                yield record.document(repairs)
                record = _Record(file)
            if not blank:
                record.add(number, line)
        if not record.empty:
            yield record.document(repairs)


# ---- writing ------------------------------------------------------------------------------------


def _split(document: Document) -> int:
    """Where the title ends: after the first passage, or at the first line break.

    The character there is not written. So it has to be white space; where it is none, the whole
    text is the title.
    """
    first = document.passages[0] if document.passages else None
    for end in (first.end if first and first.start == 0 else -1, document.text.find(GAP)):
        if 0 <= end < len(document.text) and document.text[end].isspace():
            return end
    return len(document.text)


def write(documents: Iterable[Document], file: TextIO, losses: ConversionLosses) -> None:
    """Title and abstract are the first passage and the rest, or the first line and the rest."""
    ids, labels = Names("ids", losses), Names("labels", losses)
    for document in documents:
        if not document.text.strip():
            losses.add("texts without a word, left out", document)
            continue
        plain = " ".join(document.id.replace("|", "_").split()) or "_"
        id = ids.fresh(document.id, encodable(plain), document)
        end = _split(document)
        between, abstract = document.text[end : end + 1], document.text[end + 1 :]
        if between not in ("", GAP) or (between and not abstract):
            losses.add("characters between title and abstract, read as a line break", document)
        if document.passages != title_and_abstract(document.text[:end], abstract)[1]:
            losses.passages(document)  # which counts only those that have some
        for mark, part in (("t", document.text[:end]), ("a", abstract)):
            file.write(f"{id}|{mark}|{losses.one_line(part, 'passages', document)}\n")
        for entity in losses.contiguous(document):
            label = labels.name(entity.label, " ".join(entity.label.split()) or "_", document)
            surface = " ".join(entity.surface(document.text).split())
            columns = (id, entity.start, entity.end, surface, label, NO_CONCEPT)
            file.write("\t".join(map(str, columns)) + "\n")
        file.write("\n")
