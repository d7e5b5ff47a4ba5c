r"""What the offsets of a file count, and which characters of a text they mean.

Most files count characters. Others count bytes (as BioC's own description has it), the units of
UTF-16 (Java, JavaScript), a line break `\r\n` as one character (brat, Python's text mode), a line
break `\n` as two (where it was `\r\n` before the text was copied), or a byte order mark. A file
does not say which, but it gives the text of each mention as well, and so it shows under which
reading its offsets fit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, product

from constrained_ner.corpora.files import BOM

# By what is counted: how much one character counts.
_WIDTHS: dict[str, Callable[[str], int]] = {
    "characters": lambda character: 1,
    "bytes": lambda character: len(character.encode()),
    "UTF-16 units": lambda character: 2 if character > "\uffff" else 1,
}
# By how much a line break counts: what messages say of it.
_LINE_BREAKS: dict[int | None, str] = {
    None: "",
    1: r", a line break \r\n as one",
    2: r", a line break \n as two",
}


@dataclass(frozen=True, slots=True)
class OffsetReading:
    r"""One way to understand the offsets of a file.

    Attributes
    ----------
    unit: a key of `_WIDTHS`.
    line_break: how much `\n` and `\r\n` count; None for as much as their characters.
    mark_counts: the byte order mark before the text is counted, too.
    """

    unit: str = "characters"
    line_break: int | None = None
    mark_counts: bool = False

    def __str__(self) -> str:
        mark = ", the byte order mark as well" if self.mark_counts else ""
        return self.unit + _LINE_BREAKS[self.line_break] + mark

    @property
    def start(self) -> int:
        """The offset of the text's first character."""
        return _WIDTHS[self.unit](BOM) if self.mark_counts else 0

    def widths(self, text: str) -> Iterator[int]:
        """How much each character of `text` counts."""
        width = _WIDTHS[self.unit]
        for character, follower in zip(text, text[1:] + " ", strict=False):
            if self.line_break is None:
                yield width(character)
            elif character == "\n":
                yield self.line_break
            else:
                yield 0 if character == "\r" and follower == "\n" else width(character)

    def length(self, text: str) -> int:
        """How much `text` counts."""
        return len(text) if self == CHARACTERS else sum(self.widths(text))


CHARACTERS = OffsetReading()


def readings_of(text: str, marked: bool = False) -> Iterator[OffsetReading]:
    """The readings that can differ on this text; that of plain characters comes first.

    Parameters
    ----------
    marked: a byte order mark stands before the text.
    """
    yield CHARACTERS
    units = ["characters"]
    if not text.isascii() or marked:
        units.append("bytes")
    if max(text, default="") > "\uffff":
        units.append("UTF-16 units")
    line_breaks: list[int | None] = [None]
    if "\n" in text:
        line_breaks.append(1 if "\r\n" in text else 2)
    marks = [False, True] if marked else [False]
    for options in product(units, line_breaks, marks):
        reading = OffsetReading(*options)
        if reading != CHARACTERS:
            yield reading


@dataclass(frozen=True)
class StandoffText:
    """A text to which the offsets of a file belong."""

    text: str
    reading: OffsetReading = CHARACTERS

    @cached_property
    def _offsets(self) -> list[int]:
        """The offset at which each character begins, and the one after the last character."""
        return list(accumulate(self.reading.widths(self.text), initial=self.reading.start))

    @property
    def end(self) -> int:
        """The offset after the last character."""
        return len(self.text) if self.reading == CHARACTERS else self._offsets[-1]

    def index(self, offset: int) -> int:
        """Which character an offset means; inside a character, the next one."""
        if self.reading == CHARACTERS:
            return offset
        return bisect_left(self._offsets, offset)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The characters from one offset to another, half-open."""
        return self.index(start), self.index(end)

    def between(self, start: int, end: int) -> str:
        """The text from one offset to another."""
        first, last = self.span(start, end)
        return self.text[first:last]
