"""Answers, and an answer in the making: where its grammar stands, and how it can end in time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import torch
from llguidance import LLMatcher

from constrained_ner.engines.completion import complete, shortest_answer
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import BudgetError, CnerError, GrammarError
from constrained_ner.formats.grammar import Curb, Grammar

# In whatever format: only behind such a byte an answer can have come to a whole item.
_ENDS_AN_ITEM = re.compile(rb'["}\n]')
NOTHING_LEFT = "the model gives no token a probability above zero that the grammar lets through"


@dataclass(frozen=True)
class Step:
    """What was recorded of one token.

    Attributes
    ----------
    token: its id.
    before, after: its log-probability by the model alone, and under the mask.
    kept: the share of the model's probability that the mask let through, 0 to 1.
    """

    token: int
    before: float
    after: float
    kept: float


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    Attributes
    ----------
    text: the answer, without the token that ends it.
    tokens: its token ids, the one that ends it included where there is one.
    ended: whether it came to its end, and was not cut off by the budget.
    forced: whether the budget made a masked answer end where the model would have gone on.
    steps: log-probabilities and kept mass, a token each, where they were asked for.
    """

    text: str
    tokens: tuple[int, ...]
    ended: bool
    forced: bool = False
    steps: tuple[Step, ...] = ()


class Row:
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
        self.plan: list[int] | None = None
        # How long a plan was, and behind how many tokens.
        self._known = (0, 0)
        self._growth = vocabulary.growth(grammar.markers)
        # Near the end of the budget: the tokens let through, and the plan after each.
        self.choices: dict[int, list[int]] | None = None
        if budget is not None:
            self.plan = shortest_answer(self.matcher, grammar, vocabulary)
            if budget < len(self.plan):
                raise BudgetError(
                    f"a budget of {budget} tokens is smaller than the shortest {grammar.format} "
                    f"answer, which takes {len(self.plan)}"
                )
            self._known = (len(self.plan), 0)

    def copy(self) -> Row:
        other = copy(self)
        other.matcher = self.matcher.deep_copy()
        other.tokens, other.steps = list(self.tokens), list(self.steps)
        return other

    def room(self) -> int | None:
        """How many tokens the answer can grow by, whatever they are, before the budget cuts in.

        None where there is no bound.

        Whatever they are, a plan is longer then by no more than `Grammar.detour`, and by what has
        to be closed of all that they open: so long as that fits into what is left, the answer can
        be ended.

        Raises
        ------
        GrammarError: no way to an end was found, or none that is short enough.
        """
        if self.budget is None:
            return None
        room = self._room()
        if room <= 0:
            if self.plan is None:
                self.plan = self._complete(self.matcher, self.tokens)
            if len(self.plan) > self.budget - len(self.tokens):
                raise GrammarError(
                    f"the shortest end that was found takes {len(self.plan)} tokens, and the "
                    f"budget leaves {self.budget - len(self.tokens)}"
                )
            self._known = (len(self.plan), len(self.tokens))
            room = self._room()
        return max(0, room)

    def _room(self) -> int:
        assert self.budget is not None
        length, tokens = self._known
        left = self.budget - len(self.tokens)
        reach = length + self.grammar.detour + self._growth * (len(self.tokens) - tokens)
        return (left - reach) // (1 + self._growth)

    def close(self, before: torch.Tensor, masked: torch.Tensor, candidates: int) -> None:
        """Let only those tokens through after which the answer can still be finished in time.

        To be called where there is no `room`.

        Parameters
        ----------
        before: the model's logits, [vocabulary]. They count, since a plan may hold a token that
            the mask does not: where bytes are forced the engine allows only the tokenizer's own.
        masked: the same under the mask; changed in place.
        candidates: how many of the likeliest tokens are tried.

        Raises
        ------
        GrammarError: the model gives nothing a chance that the mask lets through.
        """
        assert self.budget is not None
        assert self.plan  # `room` made it
        left = self.budget - len(self.tokens)
        self.choices = {self.plan[0]: self.plan[1:]}
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
                plan = self._complete(state, [*self.tokens, token])
            except CnerError:
                continue  # the plan that we have is known to work
            if len(plan) < left:
                self.choices[token] = plan
        self.forced |= likeliest not in self.choices
        keep = list(self.choices)
        kept = before[keep].clamp(min=torch.finfo(before.dtype).min)
        masked.fill_(-torch.inf)
        masked[keep] = kept

    def take(self, token: int, step: Step | None = None, *, consumed: bool = False) -> None:
        """The answer has got one more token.

        Parameters
        ----------
        consumed: the matcher stands behind it already.
        """
        self.tokens.append(token)
        if self.ended or self.dead:
            return
        if step is not None:
            self.steps.append(step)
        if self.choices is not None:
            self.plan, self.choices = self.choices.get(token), None
        else:
            self.plan = self.plan[1:] if self.plan and self.plan[0] == token else None
        if not consumed:
            if token in self.vocabulary.ends and self.matcher.is_accepting():
                self.ended = True
                return
            if not self.matcher.try_consume_tokens([token]):
                self.dead = True
                return
        if self.grammar.curb is not None:
            self._curb(self.grammar.curb)

    def _curb(self, curb: Curb) -> None:
        """Have another grammar, if there is a tighter one and the answer can end in time by it."""
        if not _ENDS_AN_ITEM.search(self.vocabulary.bytes_of(self.tokens[-1:])):
            return
        tighter = curb(self.vocabulary.text_of(self.tokens))
        if tighter is None:
            return
        self.grammar = replace(self.grammar, curb=None)  # once is enough
        try:
            matcher = self.vocabulary.matcher(tighter)
            if matcher.try_consume_tokens(self.tokens) < len(self.tokens):
                return
            plan = self._complete(matcher, self.tokens)
        except CnerError:
            return  # the grammar that we have is known to work
        if self.budget is not None:
            if len(plan) > self.budget - len(self.tokens):
                return
            self.plan, self._known = plan, (len(plan), len(self.tokens))
        self.matcher, self.grammar = matcher, replace(tighter, curb=None)

    def refusal(self, token: int) -> str:
        """Why the last token was not taken: the grammar refuses it, or the engine failed."""
        if self.matcher.is_error():
            return str(self.matcher.get_error())
        return f"token {token} does not fit"

    def place(self) -> str:
        """Where the answer stands, for messages."""
        written = self.vocabulary.text_of(self.tokens)
        return f"{self.grammar.format}: at token {len(self.tokens)}, after {written[-60:]!r}"

    def _complete(self, matcher: LLMatcher, tokens: Sequence[int]) -> list[int]:
        return complete(matcher, self.vocabulary.text_of(tokens), self.grammar, self.vocabulary)
