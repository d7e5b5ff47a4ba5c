"""llguidance's matchers, which say what may come next under a grammar."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from constrained_ner.errors import GrammarError


@lru_cache
def engine_limits() -> Any:
    """`LLParserLimits` for long texts and long words.

    By default the engine stops at 2,000 items in a row, which is a text of 900 words for the tag
    formats and of 600 for the span formats, and inside a word of some hundred letters.
    """
    return LLParserLimits(
        max_items_in_row=100_000,
        initial_lexer_fuel=10**9,
        step_lexer_fuel=10**9,
        step_max_items=10**7,
        max_lexer_states=10**7,
        max_grammar_size=10**8,
    )


def matcher_of(tokenizer: LLTokenizer, source: str) -> LLMatcher:
    """A matcher at the beginning of an answer.

    Raises
    ------
    GrammarError: the engine refuses the grammar.
    """
    matcher = LLMatcher(tokenizer, source, log_level=0, limits=engine_limits())
    if matcher.is_error():
        raise GrammarError(f"llguidance refuses the grammar: {fault_of(matcher)}")
    return matcher


def fault_of(matcher: LLMatcher) -> str:
    """What is wrong with a matcher, without the state that llguidance prints beside it."""
    return str(matcher.get_error()).partition("\n<state>")[0]
