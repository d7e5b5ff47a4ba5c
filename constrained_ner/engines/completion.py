"""The shortest way from an unfinished answer to its end, in tokens.

It is found with what the grammar forces, what the format proposes (`Grammar.completions`), and,
where neither helps, one token that leads on. Each step is taken on a copy of the matcher, so that
what comes out is known to be accepted; that nothing shorter exists is not proven, but holds for the
answer that finds nothing, which every format knows.
"""

from __future__ import annotations

from collections.abc import Sequence

from llguidance import LLMatcher

from constrained_ner.engines.matcher import fault_of
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import GrammarError
from constrained_ner.formats.grammar import Grammar

# The longest completion is that of a copied text; a sentence has some hundred tokens.
MAX_STEPS = 20_000


def complete(
    matcher: LLMatcher,
    tokens: Sequence[int],
    grammar: Grammar,
    vocabulary: Vocabulary,
    most: int = MAX_STEPS,
) -> list[int]:
    """Tokens that finish an answer, the end token included.

    Parameters
    ----------
    matcher: has taken the answer's tokens so far; it is not changed.
    tokens: these.
    most: give up where more tokens would be needed.

    Raises
    ------
    GrammarError: no way to an end was found.
    """
    end = vocabulary.ends[0]
    ranks = vocabulary.towards_the_end(grammar.markup)
    state = matcher.deep_copy()
    answer = vocabulary.text_of(tokens)
    path: list[int] = []
    for _ in range(MAX_STEPS):
        if len(path) > most:
            break
        if state.is_accepting():
            return [*path, end]
        # Half a character at the end of the answer does no harm.
        before = 0 if tokens else vocabulary.prefix(path)
        written = answer + vocabulary.bytes_of(path)[before:].decode(errors="ignore")
        for closer in grammar.completions(written):
            closing = vocabulary.tokenize(closer) if closer else []
            if closing and state.validate_tokens(closing) == len(closing):
                finished = state.deep_copy()
                finished.consume_tokens(closing)
                if finished.is_accepting():
                    return [*path, *closing, end]
        forced = state.compute_ff_bytes().decode(errors="ignore")
        step = vocabulary.tokenize(forced) if forced else []
        if not step or state.validate_tokens(step) < len(step):
            allowed = vocabulary.allowed(state)
            if not allowed.size:
                break
            step = [int(allowed[ranks[allowed].argmin()])]
        if not state.consume_tokens(step):
            break
        path += step
    raise GrammarError(
        f"{grammar.format}: no way to the end of the answer was found after {written[-60:]!r}"
        + (f": {fault_of(state)}" if state.is_error() else "")
    )


def shortest_answer(matcher: LLMatcher, grammar: Grammar, vocabulary: Vocabulary) -> list[int]:
    """Tokens of the shortest whole answer, the end token included.

    Parameters
    ----------
    matcher: stands at the beginning of the answer; it is not changed.
    """
    found = complete(matcher, (), grammar, vocabulary)
    empty = vocabulary.tokenize(grammar.empty)
    if len(empty) + 1 < len(found) and matcher.validate_tokens(empty) == len(empty):
        finished = matcher.deep_copy()
        finished.consume_tokens(empty)
        if finished.is_accepting():
            return [*empty, vocabulary.ends[0]]
    return found
