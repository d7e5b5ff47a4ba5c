"""What ends an answer that says the same again and again.

Models repeat themselves, small ones above all. Settling drops what an answer says too often, so it
costs no entity, only tokens: without a guard such answers go on until their budgets end. Once an
answer repeats itself, its grammar is replaced by the same one with no room for further items.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import TypeVar

from constrained_ner.formats.fillings import with_bound
from constrained_ner.formats.grammar import Grammar, RepetitionGuard

# An answer that has said so many things more often than its text does gets no further item. Small
# models go on saying the same until their budgets end, and would write most of their tokens so.
REPEATS = 3

Thing = TypeVar("Thing", bound=Hashable)


@dataclass(frozen=True)
class WrittenItems:
    """What an unfinished answer has said.

    Attributes
    ----------
    finished: whole items. `rest`: what stands behind them.
    repeats: items that say something more often than the text does.
    """

    finished: int
    rest: str
    repeats: int

    @property
    def begun(self) -> int:
        """How many items there will be if no further one begins."""
        return self.finished + bool(self.rest)


def written_items(
    answer: str,
    begin: int,
    item: re.Pattern[str],
    said: Callable[[re.Match[str]], Thing],
    most: Callable[[Thing], int],
) -> WrittenItems:
    """The items of an unfinished answer.

    Parameters
    ----------
    begin: where in the answer the first item begins.
    item: a whole item, with what separates it from the one before.
    said: what an item says. `most`: how often an answer may say that.
    """
    times: Counter[Thing] = Counter()
    while match := item.match(answer, begin):
        begin = match.end()
        times[said(match)] += 1
    repeats = sum(max(0, often - most(thing)) for thing, often in times.items() if often > 1)
    return WrittenItems(times.total(), answer[begin:], repeats)


def bounding_guard(
    grammar: Grammar, item_end: bytes, bound: Callable[[str], int | None]
) -> RepetitionGuard:
    """A guard that leaves no room for further items.

    Parameters
    ----------
    grammar: at the faithful level, where the number of items has a bound.
    item_end: see `RepetitionGuard`.
    bound: from an unfinished answer to the bound that is to hold from there on; None where the
        answer does not repeat itself.
    """

    def tightened(answer: str) -> Grammar | None:
        most = bound(answer)
        if most is None:
            return None
        return replace(grammar, source=with_bound(grammar.source, most))

    return RepetitionGuard(item_end, tightened)
