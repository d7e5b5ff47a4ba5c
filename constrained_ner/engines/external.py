"""What engines of others wrote, held to what ours guarantee.

vLLM, a server or a batch file takes a grammar and gives an answer back. None of them closes an
answer that its limit cut off, and some let grammars pass by without a word. So each answer is
replayed under the grammar here: one that was cut is ended behind its last whole item, and one that
the grammar does not let through is refused, or marked as not guaranteed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from llguidance import LLMatcher

from constrained_ner.engines.base import Answer, Request, Step
from constrained_ner.engines.completion import complete
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import CnerError, DecodingError
from constrained_ner.formats.grammar import Grammar

_CUT = "\N{REPLACEMENT CHARACTER}"  # where a limit cut a character in two
# What servers call an answer that is whole, and one that their limit cut off.
_ENDS = ("stop", "eos", "eos_token", "stop_sequence", "end_turn")
_LIMITS = ("length", "max_tokens")
_FEW = 8  # tokens that the end of an answer may have beyond those of an empty one


@dataclass(frozen=True)
class Written:
    """What another engine wrote.

    Attributes
    ----------
    ended: whether it says that the answer came to its end, and was not cut off.
    tokens: their ids, where the engine tells them; without the one that ends the answer.
    log_probabilities: of each token under the mask, where the engine tells them.
    """

    text: str
    ended: bool
    tokens: tuple[int, ...] = ()
    log_probabilities: tuple[float, ...] = ()


def has_ended(reason: object) -> bool:
    """Whether an answer came to its end, by the reason why it went no further.

    Raises
    ------
    DecodingError: it was given up, so that what there is of it says nothing.
    """
    if reason in _ENDS or reason in _LIMITS:
        return reason in _ENDS
    raise DecodingError(f"the answer was given up ({reason!r:.60})")


def limit_of(request: Request) -> int:
    """The most tokens to ask for, which leaves room for the end of the shortest answer.

    The end of another may be longer, so that an answer that is cut there and finished may take some
    tokens more than its budget.
    """
    sequence = request.sequence
    if sequence is None or not sequence.completion:
        return request.budget
    return max(1, request.budget - len(sequence.completion))


def checked(
    request: Request, written: Written, vocabulary: Vocabulary, *, by: str, lenient: bool = False
) -> Answer | CnerError:
    """The answer to a request, whole and under its grammar, or what is wrong with it.

    Parameters
    ----------
    by: the engine, for messages.
    lenient: pass answers on that the grammar does not let through, as not guaranteed.
    """
    # Chat interfaces put white space around answers, and no format has any there. In lists of lines
    # some at the end would begin another item, and in a copy it would be text.
    readings = [written]
    if request.grammar is not None and written.text != written.text.strip():
        readings.insert(0 if written.ended else 1, _bare(written, vocabulary))
    faults: list[CnerError] = []
    for reading in readings:
        found = _replayed(request, reading, vocabulary, by)
        if isinstance(found, Answer):
            return found
        faults.append(found)
    if lenient:
        text, tokens, _, _ = _told(readings[0], vocabulary)
        return Answer(text, tuple(tokens), written.ended, guaranteed=False)
    return faults[0]


def _bare(written: Written, vocabulary: Vocabulary) -> Written:
    """Without the white space around it."""
    tokens = [token for token in written.tokens if token not in vocabulary.ends]
    if _known(tokens, vocabulary):
        while tokens and vocabulary.bytes_of(tokens[-1:]).isspace():
            tokens.pop()
    logs = written.log_probabilities[: len(tokens)]
    return Written(written.text.strip(), written.ended, tuple(tokens), logs)


def _known(tokens: Sequence[int], vocabulary: Vocabulary) -> bool:
    return all(0 <= token < len(vocabulary.spelling.data) for token in tokens)


def _told(
    written: Written, vocabulary: Vocabulary, *, masked: bool = True
) -> tuple[str, list[int], Sequence[float], bool]:
    """Text, tokens and their log-probabilities; and whether the tokens write all of the text."""
    # JSON can hold half of a pair of surrogates, which is no character.
    text = written.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    tokens = [token for token in written.tokens if token not in vocabulary.ends]
    told = vocabulary.text_of(tokens) if _known(tokens, vocabulary) else ""
    if told and text.endswith(told) and (text == told or _CUT in text.removesuffix(told)):
        # In front of it is what a prompt that ends inside a character leaves over.
        return told, tokens, written.log_probabilities, True
    # Not told, or of another tokenizer: ours, which write the same.
    if masked and not written.ended:
        text = text.rstrip(_CUT)
    tokens = vocabulary.tokenize(text)
    return text, tokens, (), vocabulary.bytes_of(tokens) == text.encode()


def _replayed(
    request: Request, written: Written, vocabulary: Vocabulary, by: str
) -> Answer | CnerError:
    """The answer, if the grammar lets it through."""
    masked = request.grammar is not None
    text, tokens, logs, exact = _told(written, vocabulary, masked=masked)
    if request.grammar is None:
        return Answer(text, tuple(tokens), written.ended)
    begun = request.sequence.matcher if request.sequence else vocabulary.matcher(request.grammar)
    matcher = begun.deep_copy()
    good = matcher.try_consume_tokens(tokens)
    what = f"{request.name}: {by} did not apply the grammar: the answer"
    if not exact:
        return DecodingError(f"{what} has characters that the model's tokens cannot write")
    if good < len(tokens):
        fitting = vocabulary.text_of(tokens[:good])
        left = vocabulary.text_of(tokens)[len(fitting) :][:30]
        return DecodingError(f"{what} leaves it after {fitting[-30:]!r} with {left!r}")
    if written.ended and not matcher.is_accepting():
        return DecodingError(f"{what} ends before it may, after {text[-30:]!r}")
    kept, told, rest = tokens, len(tokens), [vocabulary.ends[0]]
    if not written.ended:
        try:
            kept, told, rest = _finished(begun, text, tokens, request.grammar, vocabulary)
        except CnerError as error:
            error.args = (f"{request.name}: {error}",)
            return error
    return Answer(
        vocabulary.text_of([*kept, *rest]),
        (*kept, *rest),
        ended=True,
        forced=not written.ended,
        steps=_steps(tokens[:told], logs),
    )


def _finished(
    begun: LLMatcher, text: str, tokens: list[int], grammar: Grammar, vocabulary: Vocabulary
) -> tuple[list[int], int, list[int]]:
    """An answer that was cut, as far as it is kept, see `_first`; and the tokens that end it.

    An item that was cut is taken back, since to finish it would be to write what nobody wrote. So
    the answer ends at the last place of `Grammar.whole_items` behind which the end of an empty
    answer follows. Where there is none, it has hardly begun.
    """
    most = len(vocabulary.tokenize(grammar.empty)) + _FEW
    written = list(accumulate(len(vocabulary.bytes_of([token])) for token in tokens))
    places = [match.start() for match in re.finditer(grammar.whole_items, text)]
    for end in reversed(places):
        kept, told = _first(end, text, tokens, written, vocabulary)
        state = begun.deep_copy()
        if state.try_consume_tokens(kept) < len(kept):
            continue
        try:
            rest = complete(state, kept, grammar, vocabulary, most, thorough=False)
        except CnerError:
            continue
        closing = vocabulary.text_of([*kept, *rest]).removeprefix(text[:end])
        if grammar.empty.endswith(closing):
            return kept, told, rest
    state = begun.deep_copy()
    state.consume_tokens(tokens)
    return tokens, len(tokens), complete(state, tokens, grammar, vocabulary)


def _first(
    end: int, text: str, tokens: list[int], written: Sequence[int], vocabulary: Vocabulary
) -> tuple[list[int], int]:
    """The tokens of an answer up to a place: its own, and for the rest of one that goes on ours.

    Parameters
    ----------
    written: how many bytes there are behind each token.

    Returns
    -------
    These tokens, and how many of them have a probability among the model's own. What is kept of a
    token that goes on has that of the whole token, and is more likely.
    """
    wanted = vocabulary.prefix(tokens) + len(text[:end].encode())
    size = bisect_right(written, wanted)
    missing = wanted - (written[size - 1] if size else 0)
    if not missing:
        return tokens[:size], size
    try:
        rest = text[:end].encode()[-missing:].decode()
    except UnicodeDecodeError:  # a token ends inside a character
        return vocabulary.tokenize(text[:end]), 0
    # Masks are by bytes: how they are spelt does not matter.
    tail = vocabulary.continuation(text[:end].removesuffix(rest), rest) or vocabulary.tokenize(rest)
    return [*tokens[:size], *tail], size + 1


def _steps(tokens: Sequence[int], logs: Sequence[float]) -> tuple[Step, ...]:
    """Steps of tokens whose probability is known under the mask only; none where one is not."""
    if len(logs) < len(tokens):
        return ()
    return tuple(Step(token, None, log, None) for token, log in zip(tokens, logs, strict=False))
