"""Drafts: guesses at how an answer goes on, many of which the model checks in one call.

Answers copy: from the text in the prompt, from what was just written, from the answers to other
prompts of the same kind. So a draft is made of n-grams, as in prompt lookup decoding: what came
last after the same tokens. Where the grammar leaves little choice, its longest token is a guess,
too, and a format may know how an answer is likely to go on. The acceptance rate of each source of
guesses is learned on the way, and a draft ends where it is no longer likely to be accepted. No
guess changes an answer; a bad one costs time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_ORDERS = (4, 3, 2, 1)  # tokens before a guess: the n of the n-grams, less one
_MEMORY = 0.95  # of the moving average of acceptance: about the last twenty guesses
_ONLY = "the only token"
_PROPOSED = "proposed by the format"
_TAIL = 64  # tokens of an answer that its format is asked about
_MOST = 200_000  # n-grams that are kept, some tens of megabytes
FEW = 64  # tokens: if a grammar lets more through, the longest of them says nothing

Tokens = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class DraftStatistics:
    """What the answers of one kind have taught: shared by all sequences of that kind.

    Attributes
    ----------
    ngrams: the token that came last after these.
    rates: by source of guesses, the share of late that was accepted, 0 to 1.
    """

    ngrams: dict[tuple[int, ...], int] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=lambda: {_ONLY: 1.0})

    def acceptance(self, source: str) -> float:
        return self.rates.get(source, 0.7)

    def learn(self, source: str, accepted: bool) -> None:
        self.rates[source] = _MEMORY * self.acceptance(source) + (1 - _MEMORY) * accepted

    def remember(self, before: tuple[int, ...], token: int) -> None:
        # A long document, or a server that is never idle, would fill the memory.
        if len(self.ngrams) >= _MOST:
            self.ngrams.clear()
        self.ngrams[before] = token


class Drafter:
    """Guesses for one sequence.

    Parameters
    ----------
    prompt: its tokens.
    statistics: of its kind.
    lengths: of each token of the vocabulary, in bytes.
    propose: from the end of the answer so far to tokens that are likely to follow.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        statistics: DraftStatistics,
        lengths: Tokens,
        propose: Callable[[Sequence[int]], Sequence[int]] | None = None,
    ):
        self.statistics = statistics
        self._propose = propose
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
            self.statistics.remember(tuple(self._tokens[place - order :]), token)
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
        tail = self._tokens[self._prompt :][-_TAIL:]
        return Draft(self, self._propose(tail) if self._propose else ())

    def _guesses(
        self, tail: tuple[int, ...], reading: int, few: Tokens | None
    ) -> list[tuple[int, str]]:
        if few is not None and few.size == 1:
            return [(int(few[0]), _ONLY)]
        found = []
        for order in _ORDERS:
            place = self._seen.get(tail[-order:])
            if place is not None:
                found.append((self._tokens[place], f"n-gram of this sequence, {order + 1}"))
                break
        for order in _ORDERS[:-1]:
            token = self.statistics.ngrams.get(tail[-order:])
            if token is not None:
                found.append((token, f"n-gram of others, {order + 1}"))
                break
        if reading < self._prompt:
            found.append((self._tokens[reading], "copying goes on"))
        if few is not None and few.size:
            longest = int(few[self._lengths[few].argmax()])
            found.append((longest, f"longest of {1 << int(few.size - 1).bit_length()}"))
        return found


class Draft:
    """What a sequence is likely to go on with.

    Attributes
    ----------
    tokens: the guesses. `sources`: of each.
    probability: that all of them are accepted.
    untried: the guess after them that was not worth it, and its source.
    """

    def __init__(self, drafter: Drafter, proposed: Sequence[int]):
        self._drafter = drafter
        self._proposed = proposed  # nothing once a guess was another
        self._reading = drafter._reading
        self._tail = tuple(drafter._tokens[-_ORDERS[0] :])
        self.tokens: list[int] = []
        self.sources: list[str] = []
        self.probability = 1.0
        self.untried: tuple[int, str] | None = None

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
        drafter, statistics = self._drafter, self._drafter.statistics
        best, rate, source = None, 0.0, ""
        place = len(self.tokens)
        guesses = drafter._guesses(self._tail, self._reading, few)
        if place < len(self._proposed):
            # Before the others, which know less; and once its beginning holds, so does the rest.
            guesses.insert(0, (self._proposed[place], f"{_PROPOSED}, {min(place, 3)}"))
        for token, of in guesses:
            found = statistics.acceptance(of)
            if found > rate and (allows is None or allows(token)):
                best, rate, source = token, found, of
        if best is None:
            return None
        if self.probability * rate < least:
            self.untried = best, source
            return None
        self.probability *= rate
        if place < len(self._proposed) and self._proposed[place] != best:
            self._proposed = ()
        self._reading = drafter._read(self._reading, self._tail[-1:], best)
        self._tail = (*self._tail, best)[-_ORDERS[0] :]
        self.tokens.append(best)
        self.sources.append(source)
        return best

    def learn(self, place: int, token: int) -> None:
        """The model's own token at a place of the draft, or at the one after its last."""
        if place < len(self.tokens):
            self._drafter.statistics.learn(self.sources[place], self.tokens[place] == token)
        elif self.untried is not None:
            # Else a source that is not tried could never show that it should be.
            guess, source = self.untried
            self._drafter.statistics.learn(source, guess == token)
