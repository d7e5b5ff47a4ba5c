"""Which strings a grammar accepts, by llguidance over bytes: without any model's tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from constrained_ner.errors import GrammarError
from constrained_ner.formats.grammar import Grammar


@dataclass(frozen=True)
class Rejection:
    """Where a string leaves a grammar.

    Attributes
    ----------
    position: offset, in code points, of the first character that no answer has there; the length
        of the string where it only ends too early.
    """

    position: int


@lru_cache
def byte_tokenizer() -> Any:
    """An `LLTokenizer` whose tokens are bytes: grammars without any model's tokenizer."""
    from llguidance import LLTokenizer

    return LLTokenizer("byte")


@lru_cache
def engine_limits() -> Any:
    """`LLParserLimits` for long texts and long words.

    By default the engine stops at 2,000 items in a row, which is a text of 900 words for the tag
    formats and of 600 for the span formats, and inside a word of some hundred letters.
    """
    from llguidance import LLParserLimits

    return LLParserLimits(
        max_items_in_row=100_000,
        initial_lexer_fuel=10**9,
        step_lexer_fuel=10**9,
        step_max_items=10**7,
        max_lexer_states=10**7,
        max_grammar_size=10**8,
    )


def fault_of(matcher: Any) -> str:
    """What is wrong with a matcher, without the state that llguidance prints beside it."""
    return str(matcher.get_error()).partition("\n<state>")[0]


def byte_matcher(source: str) -> Any:
    """A matcher over bytes.

    Raises
    ------
    GrammarError: llguidance refuses the grammar.
    """
    from llguidance import LLMatcher

    matcher = LLMatcher(byte_tokenizer(), source, log_level=0, limits=engine_limits())
    if matcher.is_error():
        raise GrammarError(f"llguidance refuses the grammar: {fault_of(matcher)}")
    return matcher


def reject(grammar: Grammar, answer: str) -> Rejection | None:
    """None where llguidance accepts the answer; else where it goes wrong."""
    matcher = byte_matcher(grammar.source)
    data = answer.encode()
    good = matcher.try_consume_tokens(list(data))
    if good < len(data):
        return Rejection(len(data[:good].decode(errors="ignore")))
    return None if matcher.is_accepting() else Rejection(len(answer))
