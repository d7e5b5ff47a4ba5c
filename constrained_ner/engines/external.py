"""What engines of others wrote, held to what ours guarantee.

vLLM, a server or a batch file takes a grammar and gives an answer back. None of them closes an
answer that its limit cut off, and some let grammars pass by without a word. So each answer is
replayed under the grammar here: one that was cut is finished by the shortest way to an end that is
known, and one that the grammar does not let through is refused, or marked as not guaranteed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from constrained_ner.engines.base import Answer, Request, Step
from constrained_ner.engines.completion import complete
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import CnerError, DecodingError

_CUT = "\N{REPLACEMENT CHARACTER}"  # where a limit cut a character in two
# What servers call an answer that is whole, and one that their limit cut off.
_ENDS = ("stop", "eos", "eos_token", "stop_sequence", "end_turn")
_LIMITS = ("length", "max_tokens")


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
    # JSON can hold half of a pair of surrogates, which is no character.
    text = written.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    tokens = [token for token in written.tokens if token not in vocabulary.ends]
    logs: Sequence[float] = written.log_probabilities
    known = all(0 <= token < len(vocabulary.spelling.data) for token in tokens)
    told = vocabulary.text_of(tokens) if known else ""
    exact = True
    if told and text.endswith(told) and (text == told or _CUT in text.removesuffix(told)):
        text = told  # in front of it is what a prompt that ends inside a character leaves over
    else:
        # Not told, or of another tokenizer: ours, which write the same.
        if request.grammar is not None and not written.ended:
            text = text.rstrip(_CUT)
        tokens, logs = vocabulary.tokenize(text), ()
        exact = vocabulary.bytes_of(tokens) == text.encode()
    if request.grammar is None:
        return Answer(text, tuple(tokens), written.ended)
    begun = request.sequence.matcher if request.sequence else vocabulary.matcher(request.grammar)
    matcher = begun.deep_copy()
    good = matcher.try_consume_tokens(tokens)
    follows = exact and good == len(tokens)
    if not follows and (bare := text.strip()) != text:
        # Chat interfaces put white space around answers; no format's have any there.
        return checked(request, Written(bare, written.ended), vocabulary, by=by, lenient=lenient)
    early = follows and written.ended and not matcher.is_accepting()
    if lenient and (early or not follows):
        return Answer(text, tuple(tokens), written.ended, guaranteed=False)
    what = f"{request.name}: {by} did not apply the grammar: the answer"
    if not exact:
        return DecodingError(f"{what} has characters that the model's tokens cannot write")
    if not follows:
        kept = vocabulary.text_of(tokens[:good])
        left = vocabulary.text_of(tokens)[len(kept) :][:30]
        return DecodingError(f"{what} leaves it after {kept[-30:]!r} with {left!r}")
    if early:
        return DecodingError(f"{what} ends before it may, after {text[-30:]!r}")
    try:
        rest = complete(matcher, tokens, request.grammar, vocabulary)
    except CnerError as error:
        error.args = (f"{request.name}: {error}",)
        return error
    return Answer(
        vocabulary.text_of([*tokens, *rest]),
        (*tokens, *rest),
        ended=True,
        forced=not written.ended,
        steps=_steps(tokens, logs),
    )


def _steps(tokens: Sequence[int], logs: Sequence[float]) -> tuple[Step, ...]:
    """Steps of the tokens whose probability is known under the mask only."""
    return tuple(Step(token, None, log, None) for token, log in zip(tokens, logs, strict=False))
