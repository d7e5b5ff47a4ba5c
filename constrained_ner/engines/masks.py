"""Masks of a batch: which tokens the grammars let through, and their way onto the logits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from llguidance import LLExecutor, LLMatcher
from llguidance.numpy import fill_next_token_bitmask, fill_next_token_bitmask_par

from constrained_ner.engines.vocabulary import Vocabulary


@cache
def _executor() -> LLExecutor | None:
    """Threads to make masks on, the same for all batches.

    On two cores it would be one thread, and handing a mask over takes longer than making it.
    """
    return LLExecutor() if (os.cpu_count() or 1) > 2 else None


def finite(scores: torch.Tensor) -> torch.Tensor:
    """Scores in float32 of which none is plus infinity, whose softmax is no number."""
    return scores.float().clamp(max=torch.finfo(torch.float32).max)


class Masks:
    """Room for masks, a bit a token, and what is done with them."""

    def __init__(self, vocabulary: Vocabulary):
        self.width = (vocabulary.ll_tokenizer.vocab_size + 31) // 32  # words of 32 bits
        self._words = torch.zeros(0, self.width, dtype=torch.int32)
        # For each byte of a mask the tokens that it forbids, the lowest bit first.
        self._forbidden = (torch.arange(256).unsqueeze(1) >> torch.arange(8)) & 1 == 0  # [256, 8]

    def make_room(self, masks: int) -> None:
        """Have places for so many masks; what is in them already stays."""
        have = len(self._words)
        if masks > have:
            words = torch.zeros(
                masks, self.width, dtype=torch.int32, pin_memory=torch.cuda.is_available()
            )
            words[:have] = self._words
            self._words = words

    def fill(self, matchers: Sequence[tuple[LLMatcher, int]]) -> None:
        """Write the masks of matchers into places, all at once."""
        # Not through `llguidance.torch`, whose import alone sets up torch.compile.
        words = self._words.numpy()
        executor = _executor()
        if executor is None or len(matchers) == 1:
            for matcher, place in matchers:
                fill_next_token_bitmask(matcher, words, place)
        else:
            fill_next_token_bitmask_par(executor, list(matchers), words)

    def allowed(self, place: int, most: int) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """The tokens that a mask lets through, if there are no more than so many."""
        bits = np.unpackbits(self._words[place].numpy().view(np.uint8), bitorder="little")
        return np.flatnonzero(bits) if np.count_nonzero(bits) <= most else None

    def allows(self, place: int, token: int) -> bool:
        return bool(int(self._words[place, token >> 5]) >> (token & 31) & 1)

    def apply(self, places: Sequence[int], rows: Sequence[int], logits: torch.Tensor) -> None:
        """Put masks on logits, in place.

        Parameters
        ----------
        places: of the masks. `rows`: of the logits that they are for.
        logits: [all rows, model's vocabulary].
        """
        # numpy has no bfloat16.
        if logits.is_cpu and logits.dtype is not torch.bfloat16:
            self._apply_by_numpy(places, rows, logits)
        else:
            self._apply_by_torch(places, rows, logits)

    def _apply_by_numpy(
        self, places: Sequence[int], rows: Sequence[int], logits: torch.Tensor
    ) -> None:
        # A row fits into the cache, and numpy starts no threads: torch would, for an operation
        # that takes microseconds, and wait for them where the cores are busy.
        words, scores = self._words.numpy(), logits.detach().numpy()
        for place, row in zip(places, rows, strict=True):
            _forbid(scores[row], words[place])

    def _apply_by_torch(
        self, places: Sequence[int], rows: Sequence[int], logits: torch.Tensor
    ) -> None:
        first, number = places[0], len(places)
        together = list(places) == list(range(first, first + number))
        words_of = self._words[first : first + number] if together else self._words[list(places)]
        forbidden = self._forbidden.to(logits.device)[
            words_of.to(logits.device, non_blocking=True).view(torch.uint8).long()
        ]
        forbidden = forbidden.flatten(1)  # [masks, engine's vocabulary]
        # Logits may be wider than the vocabulary, or narrower by what fills the last word.
        if (beyond := logits.shape[1] - forbidden.shape[1]) > 0:
            forbidden = torch.nn.functional.pad(forbidden, (0, beyond), value=True)
        forbidden = forbidden[:, : logits.shape[1]]
        if list(rows) == list(range(logits.shape[0])):
            logits.masked_fill_(forbidden, -torch.inf)
        else:
            logits[list(rows)] = logits[list(rows)].masked_fill(forbidden, -torch.inf)


def _forbid(logits: np.ndarray[Any, Any], words: np.ndarray[Any, np.dtype[np.int32]]) -> None:
    """Mask one row in place.

    Parameters
    ----------
    logits: [model's vocabulary].
    words: one bit a token, set where it is allowed.
    """
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")[: logits.size].view(bool)
    # A mask lets nearly all tokens through, inside a free string, or a few: whichever are fewer
    # are addressed one by one.
    if 2 * np.count_nonzero(bits) > bits.size:
        logits[np.flatnonzero(~bits)] = -np.inf
        logits[bits.size :] = -np.inf  # none, if the vocabulary is this model's
    else:
        allowed = np.flatnonzero(bits)
        kept = logits[allowed]
        logits.fill(-np.inf)
        logits[allowed] = kept
