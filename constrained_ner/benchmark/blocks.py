"""What a report is made of, whatever it is written as: words, tables, plots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, stdev
from typing import ClassVar

MINUS = "\N{MINUS SIGN}"
UNDEFINED = "\N{EN DASH}"  # there is nothing to measure
NOT_RUN = "not run"
NOT_MEASURED = "not measured"


class Tone(StrEnum):
    """What an entry says beyond its number; shown in words, too, never by colour alone."""

    PLAIN = ""
    BETTER = "better"
    WORSE = "worse"
    ABSENT = "absent"
    BEST = "best"


@dataclass(frozen=True)
class Entry:
    """What stands in one field of a table.

    Attributes
    ----------
    note: an interval, say; smaller, below the text. `lead`: a word before the text.
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
    """
    Attributes
    ----------
    group: what neighbouring columns have in common; empty where they have nothing.
    """

    name: str
    group: str = ""


@dataclass(frozen=True)
class Table:
    """
    Attributes
    ----------
    keys: how many columns from the left say what a row is about.
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
    """Points, each with the words it begins with."""

    kind: ClassVar[str] = "items"
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Plot:
    """
    Attributes
    ----------
    caption: what it shows, and where the numbers stand.
    """

    kind: ClassVar[str] = "plot"
    caption: str
    svg: str


@dataclass(frozen=True)
class Fold:
    """Blocks that are opened when they are wanted."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: tuple[Block, ...]


Block = Table | Words | Items | Plot | Fold


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    blocks: tuple[Block, ...]


# ---- numbers ------------------------------------------------------------------------------------

Interval = Sequence[float]


def number(value: float, digits: int = 3) -> str:
    """With a minus sign that is one; zero has none."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not float(text) else text.replace("-", MINUS)


def signed(value: float, digits: int = 3) -> str:
    text = number(value, digits)
    return text if text.startswith(MINUS) or not float(text) else f"+{text}"


def bounds(interval: Interval, write: Callable[[float], str] = number) -> str:
    low, high = interval
    return f"[{write(low)}, {write(high)}]"


def percent(part: float, whole: float) -> str:
    """All only where it is all, and none only where it is none."""
    if not whole:
        return UNDEFINED
    share = 100 * part / whole
    if part and share < 0.05:
        return "<0.1 %"
    if part < whole and share > 99.95:
        return ">99.9 %"
    return f"{share:.1f} %" if 0 < part < whole else f"{share:.0f} %"


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def entry(
    values: Iterable[float | None], interval: Interval | None = None, digits: int = 3
) -> Entry:
    """One value and its interval; or of several draws mean and standard deviation.

    Parameters
    ----------
    values: one of each draw; None where there is nothing to measure; none at all: not run.
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


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The sample standard deviation, where there are two values."""
    return f"\N{PLUS-MINUS SIGN} {stdev(values):.{digits}f}" if len(values) > 1 else ""
