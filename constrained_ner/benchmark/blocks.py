"""The parts of a report, independent of its file format: words, tables, plots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, stdev
from typing import ClassVar

MINUS = "\N{MINUS SIGN}"
UNDEFINED = "\N{EN DASH}"  # nothing to measure
NOT_RUN = "not run"
NOT_MEASURED = "not measured"
DIGITS = 3  # of scores and p-values, unless another number is given


class Tone(StrEnum):
    """How an entry is to be taken. It is always said in words, too, never by colour alone."""

    PLAIN = ""
    BETTER = "better"
    WORSE = "worse"
    UNCLEAR = "unclear"
    ABSENT = "absent"
    BEST = "best"


@dataclass(frozen=True)
class Entry:
    """One field of a table.

    Attributes
    ----------
    note: shown smaller, below the text, such as an interval. `lead`: a word before the text.
    """

    text: str
    note: str = ""
    tone: Tone = Tone.PLAIN
    lead: str = ""


ABSENT = Entry(NOT_RUN, tone=Tone.ABSENT)
UNMEASURED = Entry(NOT_MEASURED, tone=Tone.ABSENT)
EMPTY = Entry(UNDEFINED, tone=Tone.ABSENT)


@dataclass(frozen=True)
class Column:
    """The head of a column.

    Attributes
    ----------
    group: a second head over neighbouring columns of the same group; empty for none.
    """

    name: str
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a caption.

    Attributes
    ----------
    keys: how many columns, from the left, name the row.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    keys: int = 1

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The groups of the columns in order, and how many columns each spans."""
        found: list[tuple[str, int]] = []
        for i, column in enumerate(self.columns):
            if found and i > self.keys and column.group and column.group == found[-1][0]:
                found[-1] = (column.group, found[-1][1] + 1)
            else:
                found.append((column.group, 1))
        return found


@dataclass(frozen=True)
class Words:
    kind: ClassVar[str] = "words"
    text: str


@dataclass(frozen=True)
class Items:
    """A list. Each item has a few words in bold and the rest of its text."""

    kind: ClassVar[str] = "items"
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes
    ----------
    caption: what it shows, and which table has the numbers.
    """

    kind: ClassVar[str] = "plot"
    caption: str
    svg: str


@dataclass(frozen=True)
class Plots:
    """Plots side by side, where there is room for that."""

    kind: ClassVar[str] = "plots"
    plots: tuple[Plot, ...]


@dataclass(frozen=True)
class Fold:
    """Blocks that are hidden until the reader opens them."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: tuple[Block, ...]


Block = Table | Words | Items | Plot | Plots | Fold


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    blocks: tuple[Block, ...]


# ---- numbers ------------------------------------------------------------------------------------

Interval = Sequence[float]


def number(value: float, digits: int = DIGITS) -> str:
    """Rounded, with a real minus sign; what rounds to zero has no sign."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not float(text) else text.replace("-", MINUS)


def signed(value: float) -> str:
    text = number(value)
    return text if text.startswith(MINUS) or not float(text) else f"+{text}"


def bounds(interval: Interval, write: Callable[[float], str] = number) -> str:
    low, high = interval
    return f"[{write(low)}, {write(high)}]"


def percent(part: float, whole: float) -> str:
    """A share. `100 %` and `0 %` are never the result of rounding."""
    if not whole:
        return UNDEFINED
    share = 100 * part / whole
    if part and share < 0.05:
        return "<0.1 %"
    if part < whole and share >= 99.95:
        return ">99.9 %"
    return f"{share:.1f} %" if 0 < part < whole else f"{share:.0f} %"


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {number(p)}"


def entry(
    values: Iterable[float | None], interval: Interval | None = None, digits: int = DIGITS
) -> Entry:
    """A value with its interval; for several draws, their mean and standard deviation.

    Parameters
    ----------
    values: one for each draw, None where there is nothing to measure; empty if nothing was run.
    """
    drawn = list(values)
    known = [value for value in drawn if value is not None]
    if not drawn:
        return ABSENT
    if not known:
        return EMPTY
    if len(drawn) == 1:
        return Entry(number(known[0], digits), bounds(interval) if interval else "")
    return Entry(number(fmean(known), digits), spread(known, digits))


def spread(values: Sequence[float], digits: int = DIGITS) -> str:
    """The sample standard deviation; empty for a single value."""
    return f"\N{PLUS-MINUS SIGN} {stdev(values):.{digits}f}" if len(values) > 1 else ""
