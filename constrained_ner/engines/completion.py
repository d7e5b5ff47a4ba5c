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
    most: int | None = None,
    *,
    thorough: bool = True,
) -> list[int]:
    """Tokens that finish an answer, the end token included.

    Parameters
    ----------
    matcher: has taken the answer's tokens so far; it is not changed.
    tokens: these.
    most: how many there may be. More are returned where no way is found that is shorter.
    thorough: look for another way where the first one is longer than that.

    Raises
    ------
    GrammarError: no way to an end was found.
    """
    found: list[int] = []
    try:
        found = _complete(matcher, tokens, grammar, vocabulary, most)
    except GrammarError:
        if not thorough:
            raise
    if not thorough or (found and (most is None or len(found) <= most)):
        return found
    # A long token may end inside the next word or character, and the one after it again.
    other = _complete(matcher, tokens, grammar, vocabulary, short_steps=True)
    return min(filter(None, (found, other)), key=len)


def _complete(
    matcher: LLMatcher,
    tokens: Sequence[int],
    grammar: Grammar,
    vocabulary: Vocabulary,
    most: int | None = None,
    *,
    short_steps: bool = False,
) -> list[int]:
    """See `complete`.

    Parameters
    ----------
    most: give up where more tokens would be needed.
    short_steps: where neither grammar nor format say how it goes on, take short tokens.
    """
    end = vocabulary.ends[0]
    ranks = vocabulary.towards_the_end(grammar.markup, short_steps)
    state = matcher.deep_copy()
    answer = vocabulary.text_of(tokens)
    path: list[int] = []
    for _ in range(MAX_STEPS):
        if most is not None and len(path) > most:
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
