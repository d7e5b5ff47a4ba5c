"""An answer that grows under its grammar: what may come next, and how it can still end in time."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import torch
from llguidance import LLMatcher

from constrained_ner.engines.base import Request, Step
from constrained_ner.engines.completion import complete, shortest_answer
from constrained_ner.engines.matcher import fault_of
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import BudgetError, CnerError, GrammarError
from constrained_ner.formats.grammar import Grammar, RepetitionGuard

NOTHING_LEFT = "the model gives no token a probability above zero that the grammar lets through"


class ConstrainedSequence:
    """An answer that follows a grammar.

    Parameters
    ----------
    budget: the most tokens, the end token included; None for no bound.
    matcher: one at the beginning of the grammar, if it is there already.

    Attributes
    ----------
    tokens: the answer so far. `steps`: what was recorded of them.
    ended: the end token was taken. `forced`: the budget has cut in.
    dead: a token was taken that the grammar does not let through.

    Raises
    ------
    BudgetError: the budget is smaller than the shortest answer.
    GrammarError: the engine refuses the grammar.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        grammar: Grammar,
        budget: int | None = None,
        matcher: LLMatcher | None = None,
    ):
        self.vocabulary = vocabulary
        self.grammar = grammar
        self.budget = budget
        self.matcher = matcher or vocabulary.matcher(grammar)
        self.tokens: list[int] = []
        self.steps: list[Step] = []
        self.ended = self.forced = self.dead = False
        # Tokens that finish the answer from here, if they are known.
        self.completion: list[int] | None = None
        # How long a completion was, and behind how many tokens.
        self._bound = (0, 0)
        self._growth = vocabulary.growth(grammar.markers)
        # Near the end of the budget: the tokens let through, and the completion after each.
        self.choices: dict[int, list[int]] | None = None
        if budget is not None:
            self.completion = shortest_answer(self.matcher, grammar, vocabulary)
            if budget < len(self.completion):
                raise BudgetError(
                    f"a budget of {budget} tokens is smaller than the shortest {grammar.format} "
                    f"answer, which takes {len(self.completion)}"
                )
            self._bound = (len(self.completion), 0)

    def copy(self) -> ConstrainedSequence:
        other = copy(self)
        other.matcher = self.matcher.deep_copy()
        other.tokens, other.steps = list(self.tokens), list(self.steps)
        return other

    def slack(self) -> int | None:
        """How many tokens the answer can grow by, whatever they are, before the budget cuts in.

        None where there is no bound.

        Whatever they are, the shortest completion is longer then by no more than
        `Grammar.largest_growth`, and by what has to be closed of all that they open: so long as
        that fits into what is left, the answer can be ended.

        Raises
        ------
        GrammarError: no way to an end was found, or none that is short enough.
        """
        if self.budget is None:
            return None
        slack = self._slack()
        if slack <= 0:
            if self.completion is None:
                self.completion = self._complete(self.matcher, self.tokens)
            if len(self.completion) > self.budget - len(self.tokens):
                raise GrammarError(
                    f"the shortest end that was found takes {len(self.completion)} tokens, and the "
                    f"budget leaves {self.budget - len(self.tokens)}"
                )
            self._bound = (len(self.completion), len(self.tokens))
            slack = self._slack()
        return max(0, slack)

    def _slack(self) -> int:
        assert self.budget is not None
        length, tokens = self._bound
        left = self.budget - len(self.tokens)
        bound = length + self.grammar.largest_growth + self._growth * (len(self.tokens) - tokens)
        return (left - bound) // (1 + self._growth)

    def close(self, before: torch.Tensor, masked: torch.Tensor, candidates: int) -> None:
        """Let only those tokens through after which the answer can still be finished in time.

        To be called where there is no `slack`.

        Parameters
        ----------
        before: the model's logits, [vocabulary]. They count, since a completion may hold a token
            that the mask does not: where bytes are forced llguidance allows only the tokenizer's
            own.
        masked: the same under the mask; changed in place.
        candidates: how many of the likeliest tokens are tried.

        Raises
        ------
        GrammarError: the model gives nothing a chance that the mask lets through.
        """
        assert self.budget is not None
        assert self.completion  # `slack` made it
        left = self.budget - len(self.tokens)
        self.choices = {self.completion[0]: self.completion[1:]}
        values, tokens = masked.topk(min(candidates, masked.shape[0]))
        if not values[0] > -torch.inf:
            raise GrammarError(NOTHING_LEFT)
        likeliest = int(tokens[0])
        for value, token in zip(values.tolist(), tokens.tolist(), strict=True):
            if token in self.choices or value == -torch.inf:
                continue
            if token in self.vocabulary.ends:
                self.choices[token] = []
                continue
            state = self.matcher.deep_copy()
            state.consume_token(token)
            try:
                completion = self._complete(state, [*self.tokens, token], thorough=False)
            except CnerError:
                continue  # the completion that we have is known to work
            if len(completion) < left:
                self.choices[token] = completion
        self.forced |= likeliest not in self.choices
        keep = list(self.choices)
        kept = before[keep].clamp(min=torch.finfo(before.dtype).min)
        masked.fill_(-torch.inf)
        masked[keep] = kept

    def take(self, token: int, step: Step | None = None, *, consumed: bool = False) -> None:
        """The answer has got one more token.

        Parameters
        ----------
        consumed: the matcher has taken it already.
        """
        self.tokens.append(token)
        if self.ended or self.dead:
            return
        if step is not None:
            self.steps.append(step)
        if self.choices is not None:
            self.completion, self.choices = self.choices.get(token), None
        else:
            self.completion = (
                self.completion[1:] if self.completion and self.completion[0] == token else None
            )
        if not consumed:
            if token in self.vocabulary.ends and self.matcher.is_accepting():
                self.ended = True
                return
            if not self.matcher.try_consume_tokens([token]):
                self.dead = True
                return
        if self.grammar.repetition_guard is not None:
            self._guard_against_repeats(self.grammar.repetition_guard)

    def _guard_against_repeats(self, guard: RepetitionGuard) -> None:
        """Go on under a tighter grammar, if there is one and the answer can end in time by it."""
        if guard.item_end not in self.vocabulary.bytes_of(self.tokens[-1:]):
            return
        tighter = guard.tightened(self.vocabulary.text_of(self.tokens))
        if tighter is None:
            return
        self.grammar = replace(self.grammar, repetition_guard=None)  # once is enough
        try:
            matcher = self.vocabulary.matcher(tighter)
            if matcher.try_consume_tokens(self.tokens) < len(self.tokens):
                return
            completion = self._complete(matcher, self.tokens)
        except CnerError:
            return  # the grammar that we have is known to work
        if self.budget is not None:
            if len(completion) > self.budget - len(self.tokens):
                return
            self.completion, self._bound = completion, (len(completion), len(self.tokens))
        self.matcher, self.grammar = matcher, replace(tighter, repetition_guard=None)

    def roll_back(self, drafted: int) -> None:
        """Take back tokens that the matcher has consumed beyond the answer: those of a draft."""
        if drafted > 0:
            self.matcher.rollback(drafted)
            # llguidance (1.9.1) keeps the last mask that it made, by the row of its parser and the
            # state of its lexer, and a rollback does not drop it. Behind another token both may be
            # the same again, but the mask is not. One made here takes its place.
            self.matcher.compute_bitmask()

    def refusal(self, token: int) -> str:
        """Why the last token was not taken: the grammar refuses it, or the engine failed."""
        if self.matcher.is_error():
            return fault_of(self.matcher)
        return f"token {token} does not fit"

    def place(self) -> str:
        """Where the answer stands, for messages."""
        written = self.vocabulary.text_of(self.tokens)
        return f"{self.grammar.format}: at token {len(self.tokens)}, after {written[-60:]!r}"

    def _complete(
        self, matcher: LLMatcher, tokens: Sequence[int], *, thorough: bool = True
    ) -> list[int]:
        left = None if self.budget is None else self.budget - len(tokens)
        return complete(matcher, tokens, self.grammar, self.vocabulary, left, thorough=thorough)


def begin(request: Request, vocabulary: Vocabulary) -> ConstrainedSequence | None:
    """The empty answer to a request; None for a free one.

    Raises
    ------
    BudgetError, GrammarError: see `ConstrainedSequence`; they name the request.
    """
    if request.grammar is None:
        return None
    try:
        return ConstrainedSequence(vocabulary, request.grammar, request.budget)
    except CnerError as error:
        error.args = (f"{request.name}: {error}",)
        raise
