"""The logits processor: one grammar a row, and a token budget within which each answer ends."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from llguidance import LLMatcher
from outlines.processors import OutlinesLogitsProcessor

from constrained_ner.engines.base import Step
from constrained_ner.engines.costs import Costs
from constrained_ner.engines.masks import Masks, finite
from constrained_ner.engines.matcher import fault_of
from constrained_ner.engines.sequence import NOTHING_LEFT, ConstrainedSequence
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import CnerError, DecodingError
from constrained_ner.formats.grammar import Grammar


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

    Of beams the best one is an answer. Others need not be: where a grammar has fewer answers than
    there are beams, the rest are tokens without a chance.

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
        self._masks = Masks(vocabulary)
        # Grammars at the syntax level are often the same for the whole batch: a copy is faster.
        self._matchers: dict[str, LLMatcher] = {}
        self._starts: list[ConstrainedSequence] = []
        for i, grammar in enumerate(self.grammars):
            try:
                self._starts.append(self._start(grammar, None if budgets is None else budgets[i]))
            except CnerError as error:
                error.row = i
                error.args = (f"{self.names[i]}: {error}",)
                raise
        self.reset()

    def _start(self, grammar: Grammar, budget: int | None) -> ConstrainedSequence:
        """A row before its first token."""
        matcher = self._matchers.get(grammar.source)
        if matcher is None:
            matcher = self._matchers[grammar.source] = self.vocabulary.matcher(grammar)
        return ConstrainedSequence(self.vocabulary, grammar, budget, matcher)

    def reset(self) -> None:
        """Forget the answers of the last run."""
        self._sequences: list[ConstrainedSequence] = []
        # Beams that may have ended where others went on: of a prompt's tokens whether forced.
        self._left: dict[tuple[int, tuple[int, ...]], bool] = {}
        self._prompt_length = -1
        self._length = -1
        self._written = torch.empty(0, 0, dtype=torch.long)  # [rows, generated]
        # Log-probabilities by the model alone and under the mask, [rows, model's vocabulary].
        self._pending: tuple[torch.Tensor, torch.Tensor] | None = None

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
        logits.clamp_(max=torch.finfo(logits.dtype).max)  # softmax of infinity is no number
        active = [i for i, row in enumerate(self._sequences) if not row.ended and not row.dead]
        dead = [i for i, row in enumerate(self._sequences) if row.dead]
        closing = {}
        for i in active:
            with self._about(i):
                if self._sequences[i].slack() == 0:
                    closing[i] = logits[i].clone()
        # Two log-softmaxes, since logsumexp takes eight times as long over what is mostly -inf.
        raw = finite(logits).log_softmax(-1) if self.record else None
        if active:
            self._masks.make_room(len(self._sequences))
            self._masks.fill([(self._sequences[i].matcher, i) for i in active])
            for i in active:
                if self._sequences[i].matcher.is_error():
                    raise self._error(i, fault_of(self._sequences[i].matcher))
            self._masks.apply(active, active, logits)
            # Among scores that are all the same the first token would be taken.
            rows = logits if len(active) == len(logits) else logits[active]  # that is a copy
            for i, most in zip(active, rows.amax(-1).tolist(), strict=True):
                if not most > -math.inf:
                    raise self._error(i, NOTHING_LEFT)
        if dead:
            logits[dead] = -torch.inf
        # Whoever generates may not know each token that ends an answer, and go on.
        for i in (i for i, row in enumerate(self._sequences) if row.ended):
            logits[i] = -torch.inf
            logits[i, list(self.vocabulary.ends)] = 0.0
        if raw is not None:
            # How likely a token is under the grammar does not depend on the budget that is left.
            self._pending = raw, finite(logits).log_softmax(-1)
        for i, before in closing.items():
            with self._about(i):
                self._sequences[i].close(before, logits[i], self.candidates)
        return logits

    def _advance(self, input_ids: torch.Tensor) -> None:
        """Bring the rows up to date."""
        length = input_ids.shape[1]
        if length == self._length + 1 and len(self._sequences) == input_ids.shape[0]:
            written = input_ids[:, self._prompt_length :]
            # Mostly each row goes on from itself; then all but the last tokens can stay a tensor.
            same = torch.equal(written[:, :-1], self._written)
            parents = list(range(len(self._sequences))) if same else self._parents(written.tolist())
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
        self._sequences = [row.copy() for row in self._starts for _ in range(copies)]
        self._prompt_length = self._length = length
        self._written = input_ids[:, length:].clone()

    def _parents(self, generated: list[list[int]]) -> list[int] | None:
        """For each row the row that it goes on from; None where one goes on from none."""
        found = []
        copies = len(self._sequences) // len(self.grammars)
        for i, tokens in enumerate(generated):
            before, first = tokens[:-1], i - i % copies
            for j in (i, *range(first, first + copies)):
                if self._sequences[j].tokens == before:
                    found.append(j)
                    break
            else:
                return None
        return found

    def _follow(self, parents: list[int], last: list[int]) -> None:
        old = self._sequences
        copies = len(old) // len(self.grammars)
        if copies > 1:
            for i, row in enumerate(old):
                if not row.ended and not row.dead and row.matcher.is_accepting():
                    self._left[i // copies, tuple(row.tokens)] = row.forced
        last_use = {parent: i for i, parent in enumerate(parents)}
        self._sequences = [
            old[parent] if last_use[parent] == i else old[parent].copy()
            for i, parent in enumerate(parents)
        ]
        for i, step in enumerate(self._recorded(parents, last)):
            row = self._sequences[i]
            with self._about(i):
                row.take(last[i], step)
            if row.dead and copies == 1:
                # A beam that had nowhere to go is another matter: its score is -inf.
                raise self._error(i, row.refusal(last[i]))

    def _recorded(self, parents: list[int], tokens: list[int]) -> list[Step | None]:
        """What there is to record of tokens that were chosen for these rows of the last step."""
        if self._pending is None:
            return [None for _ in tokens]
        before, after = (scores[parents, tokens].tolist() for scores in self._pending)
        return list(map(Step.of, tokens, before, after))

    @contextmanager
    def _about(self, i: int) -> Iterator[None]:
        """Whatever fails here is said to have failed for row `i`."""
        try:
            yield
        except CnerError as error:
            raise self._error(i, str(error)) from error

    def _error(self, i: int, reason: str) -> DecodingError:
        prompt = i * len(self.grammars) // len(self._sequences)
        row = self._sequences[i]
        return DecodingError(f"{self.names[prompt]}: {row.place()}: {reason}", prompt)

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
            rows = len(self._sequences) // max(1, len(self.grammars))
            first = i // copies * rows
            for j in (first + i % copies, *range(first, first + rows)):
                row = self._sequences[j] if j < len(self._sequences) else None
                # The last token has not been seen yet; what follows an end is padding.
                if (
                    row
                    and (row.ended or row.tokens == tokens[:-1])
                    and (row.tokens[: len(tokens)] == tokens[: len(row.tokens)])
                ):
                    if not row.ended and len(tokens) == len(row.tokens) + 1:
                        row.take(tokens[-1], *self._recorded([j], tokens[-1:]))
                    found.append(Outcome(row.forced, tuple(row.steps)))
                    break
            else:
                end = next((k for k, t in enumerate(tokens) if t in self.vocabulary.ends), None)
                forced = self._left.get((i // copies, tuple(tokens[:end])), False)
                found.append(Outcome(forced, ()))
        return found
