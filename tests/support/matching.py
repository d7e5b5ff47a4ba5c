"""Which strings a grammar accepts, by llguidance over bytes: without any model's tokenizer."""

from __future__ import annotations

from functools import lru_cache

from llguidance import LLMatcher, LLTokenizer

from constrained_ner.engines.matcher import matcher_of
from constrained_ner.formats.grammar import Grammar


@lru_cache
def byte_tokenizer() -> LLTokenizer:
    return LLTokenizer("byte")


def byte_matcher(source: str) -> LLMatcher:
    return matcher_of(byte_tokenizer(), source)


def reject(grammar: Grammar, answer: str) -> int | None:
    """None where llguidance accepts the answer; else where it goes wrong.

    That is the offset, in code points, of the first character that no answer has there; the length
    of the string where it only ends too early.
    """
    matcher = byte_matcher(grammar.source)
    data = answer.encode()
    good = matcher.try_consume_tokens(list(data))
    if good < len(data):
        return len(data[:good].decode(errors="ignore"))
    return None if matcher.is_accepting() else len(answer)
