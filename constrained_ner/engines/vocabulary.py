"""A model's tokenizer as the grammar engine sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from constrained_ner.engines.matcher import matcher_of
from constrained_ner.engines.spelling import Spelling
from constrained_ner.errors import ModelError
from constrained_ner.formats.grammar import Grammar

# Where the grammar forces bytes, the engine would allow only the token with which the tokenizer
# begins *these bytes*. After `ph` that is not always the one with which it goes on, as part of
# `pharmacogenetic`, and the gold answer's own tokens would be refused.
NO_FORCING = '%llguidance {"no_forcing": true}\n'
# No format's answers begin with a space: one is the tokenizer's.
_BEHIND_A_SPACE = 'start: " "? behind_a_space\n'

_cache: WeakKeyDictionary[Any, dict[tuple[int, tuple[int, ...]], Vocabulary]] = WeakKeyDictionary()


class Vocabulary:
    """Tokens, their bytes, and those that end an answer.

    Building one takes about half a second: use `of`, which keeps it.

    Attributes
    ----------
    size: width of the model's logits, which may be larger than the tokenizer.
    ends: ids of the tokens that end an answer; the first one is what we write ourselves.
    spelling: what the tokens write.
    """

    def __init__(self, tokenizer: Any, size: int, ends: Sequence[int]):
        if not ends:
            raise ModelError("the tokenizer has no end-of-turn token: nothing could end an answer")
        self.spelling = Spelling(tokenizer, size, ends)
        self.size = size
        # A token that is text, too, could not be told from the end where it is written as text.
        self.ends = tuple(end for end in ends if end in self.spelling.control)
        if not self.ends:
            raise ModelError(
                "each token that ends an answer is ordinary text, too: expected a special one"
            )
        self.ll_tokenizer = LLTokenizer(
            TokenizerWrapper(_EngineTokenizer(self.spelling, self.ends[0])),
            eos_token=list(self.ends),
        )
        # Mostly parts of answers, which come again and again; there is no end of other texts.
        self._tokens_of_piece = lru_cache(4096)(self.spelling.tokenize)
        self._times = lru_cache(1024)(self._often)
        self._ranks = lru_cache(16)(self._rank)

    @classmethod
    def of(cls, tokenizer: Any, size: int, ends: Sequence[int]) -> Vocabulary:
        """The vocabulary of a tokenizer, built once per process."""
        known = _cache.setdefault(tokenizer, {})
        key = size, tuple(ends)
        if key not in known:
            known[key] = cls(tokenizer, size, ends)
        return known[key]

    def source_of(self, grammar: Grammar) -> str:
        """The grammar's source as an engine takes it."""
        source = grammar.source
        if self.spelling.prefixes:
            source = _BEHIND_A_SPACE + source.replace("start:", "behind_a_space:", 1)
        return NO_FORCING + source

    def matcher(self, grammar: Grammar) -> LLMatcher:
        """A matcher at the beginning of an answer.

        Raises
        ------
        GrammarError: the engine refuses the grammar.
        """
        return matcher_of(self.ll_tokenizer, self.source_of(grammar))

    def tokenize(self, text: str) -> list[int]:
        """The tokenizer's own tokens that write exactly a text, whatever it reads like."""
        if len(text) > 80:
            return self.spelling.tokenize(text)
        return list(self._tokens_of_piece(text))

    def continuation(self, written: str, rest: str) -> list[int]:
        """The tokenizer's own tokens for the rest of a text; none where one begins before it."""
        tokens = self.tokenize(written + rest)
        size, wanted = len(tokens), len(rest.encode())
        while wanted > 0 and size > 0:
            size -= 1
            wanted -= len(self.spelling.data[tokens[size]])
        return tokens[size:] if self.bytes_of(tokens[size:]) == rest.encode() else []

    def bytes_of(self, tokens: Sequence[int]) -> bytes:
        return self.spelling.written(tokens)

    def prefix(self, tokens: Sequence[int]) -> int:
        """How many bytes the tokens of an answer write before it: a tokenizer's own space."""
        return int(self.spelling.prefixes and self.bytes_of(tokens[:1]).startswith(b" "))

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text of an answer's tokens from the first one on, without the one that ends it."""
        data = self.bytes_of([t for t in tokens if t not in self.ends])
        return data[self.prefix(tokens) :].decode(errors="replace")

    def first_unspellable(self, text: str) -> int | None:
        """Offset of the first character that the tokens cannot write; None where they can."""
        return self.spelling.first_unspellable(text)

    def allowed(self, matcher: LLMatcher) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Ids of the tokens that may come next."""
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        return np.flatnonzero(np.unpackbits(bits, bitorder="little"))

    def towards_the_end(
        self, markup: bytes, short_steps: bool = False
    ) -> np.ndarray[Any, np.dtype[np.int64]]:
        """A rank for each token, the lower the more likely it brings an answer to its end.

        Long tokens come before short ones, or the other way round, then digits, since a number may
        go on for ever, and last what may open markup, see `Grammar.markup`.
        """
        return self._ranks(markup, short_steps)

    def _rank(self, markup: bytes, short_steps: bool) -> np.ndarray[Any, np.dtype[np.int64]]:
        rank = np.zeros(self.ll_tokenizer.vocab_size, dtype=np.int64)
        for token, data in enumerate(self.spelling.data):
            opens = bool(data) and data[0] in markup
            size = min(len(data), 100)
            rank[token] = 2000 * opens + 1000 * data.isdigit() + (size if short_steps else -size)
        return rank

    @cached_property
    def lengths(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Of each token, in bytes."""
        return np.array(list(map(len, self.spelling.data)))

    def growth(self, markers: Sequence[tuple[str, str]]) -> int:
        """By how many bytes one token can add to what has to be closed.

        Parameters
        ----------
        markers: what is opened, each with what closes it.
        """
        # One may have begun before the token, and others may lie inside it.
        begun = max((len(closes.encode()) for _, closes in markers), default=0)
        inside: Counter[int] = Counter()
        for opens, closes in markers:
            for token, times in self._times(opens):
                inside[token] += times * len(closes.encode())
        return begun + max(inside.values(), default=0)

    def _often(self, part: str) -> list[tuple[int, int]]:
        """The tokens that a text stands in, and how often in each."""
        data = part.encode()
        found = ((token, one.count(data)) for token, one in enumerate(self.spelling.data))
        return [(token, times) for token, times in found if times]


class _EngineTokenizer:
    """The tokens as the grammar engine takes them."""

    bos_token_id = None

    def __init__(self, spelling: Spelling, end: int):
        self.tokens = spelling.data
        self.special_token_ids = sorted(spelling.control)
        self.eos_token_id = end
        self._tokenize = spelling.tokenize

    def __call__(self, text: str) -> list[int]:
        return self._tokenize(text)
