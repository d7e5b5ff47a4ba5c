"""The shortest way from an unfinished answer to its end, in tokens.

It is found with what the grammar forces, what the format proposes (`Grammar.completions`), and,
where neither helps, one token that leads on. Each step is taken on a copy of the matcher, so that
what comes out is known to be accepted; that nothing shorter exists is not proven, but holds for the
answer that finds nothing, which every format knows.
"""

from __future__ import annotations

from llguidance import LLMatcher

from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import GrammarError
from constrained_ner.formats.grammar import Grammar
from constrained_ner.formats.matching import fault_of

# The longest completion is that of a copied text; a sentence has some hundred tokens.
MAX_STEPS = 20_000


def complete(
    matcher: LLMatcher, answer: str, grammar: Grammar, vocabulary: Vocabulary
) -> list[int]:
    """Tokens that finish the answer, the end token included.

    Parameters
    ----------
    matcher: has taken the tokens of `answer`; it is not changed.
    answer: what is written so far. Half a character at its end does no harm.

    Raises
    ------
    GrammarError: no way to an end was found.
    """
    end = vocabulary.ends[0]
    ranks = vocabulary.towards_the_end(grammar.markup)
    state = matcher.deep_copy()
    path: list[int] = []
    for _ in range(MAX_STEPS):
        if state.is_accepting():
            return [*path, end]
        written = answer + vocabulary.bytes_of(path).decode(errors="ignore")
        for closer in grammar.completions(written):
            tokens = vocabulary.tokenize(closer) if closer else []
            if tokens and state.validate_tokens(tokens) == len(tokens):
                finished = state.deep_copy()
                finished.consume_tokens(tokens)
                if finished.is_accepting():
                    return [*path, *tokens, end]
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
    found = complete(matcher, "", grammar, vocabulary)
    empty = vocabulary.tokenize(grammar.empty)
    if len(empty) + 1 < len(found) and matcher.validate_tokens(empty) == len(empty):
        finished = matcher.deep_copy()
        finished.consume_tokens(empty)
        if finished.is_accepting():
            return [*empty, vocabulary.ends[0]]
    return found
