"""Guesses at how an answer goes on, for the model to check many of them in one call.

Answers copy: from the text in the prompt, from what was just written, from the answers of other
documents in the same format. Where the grammar leaves little choice, its longest token is a guess,
too, and a format may know how an answer is likely to go on. How often each kind of guess was right
is learned on the way, and a draft ends where it is no longer likely to hold. No guess changes an
answer; a bad one costs time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_ORDERS = (4, 3, 2, 1)  # by how many tokens before it a token is guessed
_MEMORY = 0.95  # how slowly it is forgotten whether a kind of guess was right
_ONLY = "the only one"
_AHEAD = "as the format goes on"
_TAIL = 64  # tokens of an answer that its format is asked about
_MOST = 200_000  # habits that are kept, some tens of megabytes
FEW = 64  # tokens: if a grammar lets more through, the longest of them says nothing

Tokens = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class DraftStatistics:
    """What the answers of one format have taught: shared by all rows that write it.

    Attributes
    ----------
    follows: the token that came after these the last time.
    right: by kind of guess, how often it was right of late, 0 to 1.
    """

    follows: dict[tuple[int, ...], int] = field(default_factory=dict)
    right: dict[str, float] = field(default_factory=lambda: {_ONLY: 1.0})

    def trust(self, kind: str) -> float:
        return self.right.get(kind, 0.7)

    def learn(self, kind: str, right: bool) -> None:
        self.right[kind] = _MEMORY * self.trust(kind) + (1 - _MEMORY) * right

    def keep(self, before: tuple[int, ...], token: int) -> None:
        # A long document, or a server that is never idle, would fill the memory.
        if len(self.follows) >= _MOST:
            self.follows.clear()
        self.follows[before] = token


class Drafter:
    """Guesses for one row.

    Parameters
    ----------
    prompt: its tokens.
    habits: of the format that it writes.
    lengths: of each token of the vocabulary, in bytes.
    ahead: from the end of the answer so far to the tokens that are likely to follow.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        habits: DraftStatistics,
        lengths: Tokens,
        ahead: Callable[[Sequence[int]], Sequence[int]] | None = None,
    ):
        self.habits = habits
        self._propose = ahead
        self._lengths = lengths
        self._tokens = list(prompt)  # and the answer after it
        self._prompt = len(prompt)
        # For some tokens where they came last: the place of what came after them.
        self._seen: dict[tuple[int, ...], int] = {}
        for place in range(1, len(prompt)):
            self._remember(place)
        # Where in the prompt the copying stands: the place of the next token to copy.
        self._reading = 0

    def _remember(self, place: int) -> None:
        for order in _ORDERS:
            if order <= place:
                self._seen[tuple(self._tokens[place - order : place])] = place

    def take(self, token: int) -> None:
        """The answer has got one more token."""
        place = len(self._tokens)
        for order in _ORDERS[:-1]:  # one token tells too little of another document
            self.habits.keep(tuple(self._tokens[place - order :]), token)
        self._remember(place)
        self._reading = self._read(self._reading, self._tokens[-1:], token)
        self._tokens.append(token)

    def _read(self, reading: int, before: Sequence[int], token: int) -> int:
        """Where copying stands after a token."""
        if reading < self._prompt and self._tokens[reading] == token:
            return reading + 1
        place = self._seen.get((*before, token), self._prompt)
        return place if place < self._prompt else reading

    def begin(self) -> Draft:
        ahead = self._propose(self._tokens[self._prompt :][-_TAIL:]) if self._propose else ()
        return Draft(self, ahead)

    def _guesses(
        self, tail: tuple[int, ...], reading: int, few: Tokens | None
    ) -> list[tuple[int, str]]:
        if few is not None and few.size == 1:
            return [(int(few[0]), _ONLY)]
        found = []
        for order in _ORDERS:
            place = self._seen.get(tail[-order:])
            if place is not None:
                found.append((self._tokens[place], f"seen after {order}"))
                break
        for order in _ORDERS[:-1]:
            token = self.habits.follows.get(tail[-order:])
            if token is not None:
                found.append((token, f"habit after {order}"))
                break
        if reading < self._prompt:
            found.append((self._tokens[reading], "read on"))
        if few is not None and few.size:
            longest = int(few[self._lengths[few].argmax()])
            found.append((longest, f"longest of {1 << int(few.size - 1).bit_length()}"))
        return found


class Draft:
    """What a row is likely to go on with.

    Attributes
    ----------
    tokens: the guesses. `kinds`: what each goes by.
    likely: that all of them are right.
    unsure: the guess after them that was not worth it.
    """

    def __init__(self, drafter: Drafter, ahead: Sequence[int] = ()):
        self._drafter = drafter
        self._propose = ahead  # nothing once a guess was another
        self._reading = drafter._reading
        self._tail = tuple(drafter._tokens[-_ORDERS[0] :])
        self.tokens: list[int] = []
        self.kinds: list[str] = []
        self.likely = 1.0
        self.unsure: tuple[int, str] | None = None

    def extend(
        self,
        least: float,
        few: Tokens | None = None,
        allows: Callable[[int], bool] | None = None,
    ) -> int | None:
        """The next guess; None where there is none that leaves the draft likely enough.

        Parameters
        ----------
        least: how likely the draft has to be.
        few: the tokens that the grammar lets through, where they are few.
        allows: whether it lets a token through; None without a grammar.
        """
        drafter, habits = self._drafter, self._drafter.habits
        best, trust, kind = None, 0.0, ""
        place = len(self.tokens)
        guesses = drafter._guesses(self._tail, self._reading, few)
        if place < len(self._propose):
            # Before the others, which know less; and once its beginning holds, so does the rest.
            guesses.insert(0, (self._propose[place], f"{_AHEAD}, {min(place, 3)}"))
        for token, goes_by in guesses:
            if (found := habits.trust(goes_by)) > trust and (allows is None or allows(token)):
                best, trust, kind = token, found, goes_by
        if best is None:
            return None
        if self.likely * trust < least:
            self.unsure = best, kind
            return None
        self.likely *= trust
        if place < len(self._propose) and self._propose[place] != best:
            self._propose = ()
        self._reading = drafter._read(self._reading, self._tail[-1:], best)
        self._tail = (*self._tail, best)[-_ORDERS[0] :]
        self.tokens.append(best)
        self.kinds.append(kind)
        return best

    def learn(self, place: int, token: int) -> None:
        """The model's own token at a place of the draft, or at the one after its last."""
        if place < len(self.tokens):
            self._drafter.habits.learn(self.kinds[place], self.tokens[place] == token)
        elif self.unsure is not None:
            # Else a kind that is not tried could never show that it should be.
            guess, kind = self.unsure
            self._drafter.habits.learn(kind, guess == token)
