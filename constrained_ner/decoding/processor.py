"""The logits processor: one grammar a row, and a token budget within which each answer ends."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from llguidance import LLExecutor, LLMatcher
from outlines.processors import OutlinesLogitsProcessor

from constrained_ner.decoding.completion import complete, shortest_answer
from constrained_ner.decoding.costs import Costs
from constrained_ner.errors import BudgetError, CnerError, DecodingError
from constrained_ner.grammar import Grammar
from constrained_ner.vocabulary import Vocabulary


@cache
def _executor() -> LLExecutor | None:
    """Threads to make masks on, the same for all batches.

    On two cores it would be one thread, and handing a mask over takes longer than making it.
    """
    return LLExecutor() if (os.cpu_count() or 1) > 2 else None


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


@dataclass
class Row:
    """One answer in the making."""

    matcher: LLMatcher
    budget: int
    tokens: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    # Tokens that finish the answer from here, if they are known.
    plan: list[int] | None = None
    # A bound on the length of such a plan, here and for whatever may come.
    reach: int = 0
    # Near the end of the budget: the tokens let through, and the plan after each.
    choices: dict[int, list[int]] | None = None
    ended: bool = False
    forced: bool = False
    dead: bool = False

    def copy(self) -> Row:
        return Row(
            self.matcher.deep_copy(),
            self.budget,
            list(self.tokens),
            list(self.steps),
            self.plan,
            self.reach,
            self.choices,
            self.ended,
            self.forced,
            self.dead,
        )


@dataclass(frozen=True)
class Outcome:
    """What became of one answer.

    Attributes
    ----------
    forced: the budget cut in: the answer was closed where the model would have gone on.
    steps: one for each token where it was recorded, else empty.
    """

    forced: bool
    steps: tuple[Step, ...]


class GrammarLogitsProcessor(OutlinesLogitsProcessor):
    """Masks each row of a batch by the grammar of its own.

    Rows may be reordered between steps (beam search) and may be several for each grammar, one
    block after the other (beams, returned sequences). It can be used again for the same batch.

    Parameters
    ----------
    vocabulary: the model's.
    grammars: one for each prompt of the batch.
    budgets: for each prompt the most tokens of its answer, the end token included; None for no
        bound.
    names: what to call the prompts in messages.
    record: keep `Step`s; it costs two softmaxes a step.
    candidates: how many of the likeliest tokens are tried in each step near the end of a budget.
        One is right for greedy decoding; sampling and beams profit from more.
    costs: what to add the time of the masks to.

    Raises
    ------
    BudgetError: a budget is smaller than the shortest answer.
    GrammarError: the engine refuses a grammar.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        grammars: Sequence[Grammar],
        budgets: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
        *,
        record: bool = False,
        candidates: int = 1,
        costs: Costs | None = None,
    ):
        super().__init__("torch")
        self.vocabulary = vocabulary
        self.grammars = list(grammars)
        self.names = list(names or (f"prompt {i}" for i in range(len(self.grammars))))
        self.record = record
        self.candidates = candidates
        self.costs = costs or Costs()
        self._executor = _executor()
        # Grammars at the syntax level are often the same for the whole batch: a copy is faster.
        self._matchers: dict[str, LLMatcher] = {}
        self._starts: list[Row] = []
        for i, grammar in enumerate(self.grammars):
            try:
                self._starts.append(self._start(grammar, None if budgets is None else budgets[i]))
            except CnerError as error:
                error.row = i
                error.args = (f"{self.names[i]}: {error}",)
                raise
        # For each byte of a mask the tokens that it forbids, the lowest bit first.
        self._forbidden = (torch.arange(256).unsqueeze(1) >> torch.arange(8)) & 1 == 0  # [256, 8]
        self.reset()

    def _start(self, grammar: Grammar, budget: int | None) -> Row:
        """A row before its first token."""
        matcher = self._matchers.get(grammar.source)
        if matcher is None:
            matcher = self._matchers[grammar.source] = self.vocabulary.matcher(grammar)
        if budget is None:
            return Row(matcher, budget=-1)
        plan = shortest_answer(matcher, grammar, self.vocabulary)
        if budget < len(plan):
            raise BudgetError(
                f"a budget of {budget} tokens is smaller than the shortest {grammar.format} "
                f"answer, which takes {len(plan)}"
            )
        return Row(matcher, budget, plan=plan, reach=len(plan) + grammar.detour)

    def reset(self) -> None:
        """Forget the answers of the last run."""
        self._rows: list[Row] = []
        self._prompt_length = -1
        self._length = -1
        self._written = torch.empty(0, 0, dtype=torch.long)  # [rows, generated]
        # Log-probabilities by the model alone and under the mask, [rows, model's vocabulary].
        self._pending: tuple[torch.Tensor, torch.Tensor] | None = None
        self._mask = torch.empty(0, 0, dtype=torch.int32)

    # ---- one step

    def process_logits(self, input_ids: Any, logits: Any) -> Any:
        """Mask the logits in place.

        Parameters
        ----------
        input_ids: prompts and what was generated, [rows, length].
        logits: [rows, model's vocabulary].

        Raises
        ------
        DecodingError: a matcher failed; it names the prompt and the position.
        """
        with self.costs.timed("mask_seconds"):
            return self._masked(input_ids, logits)

    def _masked(self, input_ids: Any, logits: Any) -> Any:
        self._advance(input_ids)
        active = [i for i, row in enumerate(self._rows) if not row.ended and not row.dead]
        dead = [i for i, row in enumerate(self._rows) if row.dead]
        # Before the mask, since a plan may hold a token that the mask does not: where bytes are
        # forced the engine allows only the tokenizer's own token.
        closing = {
            i: logits[i].clone()
            for i in active
            if self._rows[i].budget >= 0 and self._near_the_end(i)
        }
        # Two log-softmaxes, since logsumexp takes eight times as long over what is mostly -inf.
        raw = logits.float().log_softmax(-1) if self.record else None
        if active:
            self._fill(active)
            self._apply(active, logits)
        for i, before in closing.items():
            self._close(i, before, logits[i])
        if dead:
            logits[dead] = -torch.inf
        if raw is not None:
            self._pending = raw, logits.float().log_softmax(-1)
        return logits

    def _advance(self, input_ids: torch.Tensor) -> None:
        """Bring the rows up to date."""
        length = input_ids.shape[1]
        if length == self._length + 1 and len(self._rows) == input_ids.shape[0]:
            written = input_ids[:, self._prompt_length :]
            # Mostly each row goes on from itself; then all but the last tokens can stay a tensor.
            same = torch.equal(written[:, :-1], self._written)
            parents = list(range(len(self._rows))) if same else self._parents(written.tolist())
            if parents is not None:
                self._follow(parents, input_ids[:, -1].tolist())
                self._written = written.clone()
                self._length = length
                return
        # Not a continuation of what we know: a new run.
        self.reset()
        copies, rest = divmod(input_ids.shape[0], max(1, len(self.grammars)))
        if rest:
            raise DecodingError(
                f"{input_ids.shape[0]} rows for {len(self.grammars)} grammars: expected one or "
                "more rows for each",
                0,
            )
        self._rows = [row.copy() for row in self._starts for _ in range(copies)]
        self._prompt_length = self._length = length
        self._written = input_ids[:, length:].clone()

    def _parents(self, generated: list[list[int]]) -> list[int] | None:
        """For each row the row that it goes on from; None where one goes on from none."""
        found = []
        copies = len(self._rows) // len(self.grammars)
        for i, tokens in enumerate(generated):
            first = i - i % copies
            for j in (i, *range(first, first + copies)):
                if len(self._rows[j].tokens) == len(tokens) - 1 and (
                    self._rows[j].tokens == tokens[:-1]
                ):
                    found.append(j)
                    break
            else:
                return None
        return found

    def _follow(self, parents: list[int], last: list[int]) -> None:
        old = self._rows
        last_use = {parent: i for i, parent in enumerate(parents)}
        self._rows = [
            old[parent] if last_use[parent] == i else old[parent].copy()
            for i, parent in enumerate(parents)
        ]
        for i, step in enumerate(self._recorded(parents, last)):
            self._take(i, last[i], step)

    def _recorded(self, parents: list[int], tokens: list[int]) -> list[Step | None]:
        """What there is to record of tokens that were chosen for these rows of the last step."""
        if self._pending is None:
            return [None for _ in tokens]
        before, after = (scores[parents, tokens].tolist() for scores in self._pending)
        return [
            Step(token, b, a, math.exp(min(0.0, b - a)))
            for token, b, a in zip(tokens, before, after, strict=True)
        ]

    def _take(self, i: int, token: int, step: Step | None) -> None:
        """Row i has got one more token."""
        row = self._rows[i]
        row.tokens.append(token)
        if row.ended or row.dead:
            return
        if step is not None:
            row.steps.append(step)
        if row.choices is not None:
            row.plan, row.choices = row.choices.get(token), None
        else:
            row.plan = row.plan[1:] if row.plan and row.plan[0] == token else None
        if token in self.vocabulary.ends and row.matcher.is_accepting():
            row.ended = True
        elif not row.matcher.try_consume_tokens([token]):
            if len(self._rows) > len(self.grammars):
                row.dead = True  # a beam that had nowhere to go: its score is -inf
            else:
                raise self._error(i, f"token {token} does not fit")

    def _fill(self, active: list[int]) -> None:
        """Write the masks of the active rows, all at once."""
        width = (self.vocabulary.engine.vocab_size + 31) // 32
        if self._mask.shape != (len(self._rows), width):
            self._mask = torch.zeros(
                len(self._rows), width, dtype=torch.int32, pin_memory=torch.cuda.is_available()
            )
        # Not through `llguidance.torch`, whose import alone sets up torch.compile.
        place, size = self._mask.data_ptr(), 4 * width
        if self._executor is None or len(active) == 1:
            for i in active:
                self._rows[i].matcher.unsafe_compute_mask_ptr(place + i * size, size)
        else:
            matchers = [(self._rows[i].matcher, i) for i in active]
            self._executor.unsafe_compute_mask_ptr(matchers, place, size, self._mask.shape[0])
        for i in active:
            if self._rows[i].matcher.is_error():
                raise self._error(i, self._rows[i].matcher.get_error())

    def _apply(self, active: list[int], logits: torch.Tensor) -> None:
        """Put the masks of the active rows on the logits."""
        if logits.is_cpu and logits.dtype is not torch.bfloat16:
            # A row fits into the cache, and numpy starts no threads: torch would, for an operation
            # that takes microseconds, and wait for them where the cores are busy.
            words, rows = self._mask.numpy(), logits.detach().numpy()
            for i in active:
                _forbid(rows[i], words[i])
            return
        mask = self._mask if len(active) == len(self._rows) else self._mask[active]
        forbidden = self._forbidden.to(logits.device)[
            mask.to(logits.device, non_blocking=True).view(torch.uint8).long()
        ]
        forbidden = forbidden.flatten(1)[:, : logits.shape[1]]  # [active, vocabulary]
        if len(active) == len(self._rows):
            logits.masked_fill_(forbidden, -torch.inf)
        else:
            logits[active] = logits[active].masked_fill(forbidden, -torch.inf)

    def _error(self, i: int, reason: str) -> DecodingError:
        prompt = i * len(self.grammars) // len(self._rows)
        written = self.vocabulary.text_of(self._rows[i].tokens)
        return DecodingError(
            f"{self.names[prompt]}: {self.grammars[prompt].format}: at token "
            f"{len(self._rows[i].tokens)}, after {written[-60:]!r}: {reason}",
            prompt,
        )

    # ---- the budget

    def _near_the_end(self, i: int) -> bool:
        """Whether some token could leave too few for an answer that ends."""
        row = self._rows[i]
        left = row.budget - len(row.tokens)
        if left > row.reach:
            return False
        if row.plan is None:
            row.plan = self._complete(i, row.matcher, row.tokens)
        row.reach = len(row.plan) + self._grammar(i).detour
        return left <= row.reach

    def _close(self, i: int, before: torch.Tensor, masked: torch.Tensor) -> None:
        """Let only those tokens through after which the answer can still be finished in time."""
        row = self._rows[i]
        left = row.budget - len(row.tokens)
        assert row.plan  # `_near_the_end` made it
        row.choices = {row.plan[0]: row.plan[1:]}
        values, tokens = masked.topk(min(self.candidates, masked.shape[0]))
        likeliest = int(tokens[0])
        for value, token in zip(values.tolist(), tokens.tolist(), strict=True):
            if token in row.choices or value == -torch.inf:
                continue
            if token in self.vocabulary.ends:
                row.choices[token] = []
                continue
            state = row.matcher.deep_copy()
            state.consume_token(token)
            try:
                plan = self._complete(i, state, [*row.tokens, token])
            except CnerError:
                continue  # the plan that we have is known to work
            if len(plan) < left:
                row.choices[token] = plan
        row.forced |= likeliest not in row.choices
        keep = list(row.choices)
        kept = before[keep].nan_to_num(neginf=0.0)
        masked.fill_(-torch.inf)
        masked[keep] = kept

    def _complete(self, i: int, matcher: LLMatcher, tokens: list[int]) -> list[int]:
        return complete(matcher, self.vocabulary.text_of(tokens), self._grammar(i), self.vocabulary)

    def _grammar(self, i: int) -> Grammar:
        return self.grammars[i * len(self.grammars) // len(self._rows)]

    # ---- the end

    def outcomes(self, sequences: Sequence[Sequence[int]]) -> list[Outcome]:
        """What became of the sequences that a run returned, one or more for each prompt.

        Parameters
        ----------
        sequences: the tokens generated, those of one prompt together, padding included or not.
        """
        found = []
        copies = max(1, len(sequences) // max(1, len(self.grammars)))
        for i, sequence in enumerate(sequences):
            tokens = list(sequence)
            rows = len(self._rows) // max(1, len(self.grammars))
            first = i // copies * rows
            for j in (first + i % copies, *range(first, first + rows)):
                row = self._rows[j] if j < len(self._rows) else None
                # The last token has not been seen yet; what follows an end is padding.
                if (
                    row
                    and (row.ended or row.tokens == tokens[:-1])
                    and (row.tokens[: len(tokens)] == tokens[: len(row.tokens)])
                ):
                    if not row.ended and len(tokens) == len(row.tokens) + 1:
                        self._take(j, tokens[-1], *self._recorded([j], tokens[-1:]))
                    found.append(Outcome(row.forced, tuple(row.steps)))
                    break
            else:
                found.append(Outcome(False, ()))
        return found


def _forbid(logits: np.ndarray[Any, Any], words: np.ndarray[Any, np.dtype[np.int32]]) -> None:
    """Mask one row in place.

    Parameters
    ----------
    logits: [model's vocabulary].
    words: one bit a token, set where it is allowed.
    """
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")[: logits.size].view(bool)
    # A mask lets nearly all tokens through, inside a free string, or a few: whichever are fewer
    # are addressed one by one.
    if 2 * np.count_nonzero(bits) > bits.size:
        logits[np.flatnonzero(~bits)] = -np.inf
        logits[bits.size :] = -np.inf  # none, if the vocabulary is this model's
    else:
        allowed = np.flatnonzero(bits)
        kept = logits[allowed]
        logits.fill(-np.inf)
        logits[allowed] = kept
