"""Speculative decoding without a second model: several tokens of each answer with every call.

Each call takes, for every row, its newest token and a draft of what is likely to follow (`drafts`:
n-grams of the prompt and of earlier answers, what the grammar leaves, what the format proposes).
The model's own choice is made at every place of it, under the mask that belongs there: the draft is
accepted as far as it agrees, and one token more is gained. So the answers are those of token by
token decoding. Where the grammar leaves one token, no call is made for it. Batching is continuous:
a row whose answer has ended takes the next prompt, and a prompt reuses the longest prefix that some
row of the KV cache shares with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch

from constrained_ner.engines.base import (
    Answer,
    Answered,
    Capabilities,
    Engine,
    Request,
    Requests,
    Step,
)
from constrained_ner.engines.costs import Costs
from constrained_ner.engines.drafts import FEW, Draft, Drafter, DraftStatistics
from constrained_ner.engines.kv_cache import RaggedKVCache
from constrained_ner.engines.masks import Masks, finite
from constrained_ner.engines.matcher import fault_of
from constrained_ner.engines.models import LoadedModel, has_window, turn_of
from constrained_ner.engines.sequence import NOTHING_LEFT, ConstrainedSequence, begin
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import CnerError, DecodingError, reason_of
from constrained_ner.words import shared_prefix

NONE = -1  # in place of a token
_LONGEST = 32  # tokens of a draft
_WORTH = 24  # shared tokens from which on a call for them alone is worth it
# What a call costs by itself, in tokens: a CPU reads the weights (40 to 50 on two cores, in float32
# as in bfloat16), a GPU does little else.
_CALL = {"cpu": 40.0, "cuda": 400.0}


@dataclass
class _ActiveSequence:
    """An answer that grows in a row of the cache.

    Attributes
    ----------
    constrained: where its grammar stands; None for a free one.
    draft: how it is likely to go on; made anew before each call. `drafts`: whether it may be more
        than nothing.
    slack: before the budget cuts in, see `ConstrainedSequence.slack`; where the draft begins.
    places: of the masks along the draft.
    """

    request: Request
    constrained: ConstrainedSequence | None
    drafter: Drafter
    draft: Draft = field(init=False)
    drafts: bool = True
    tokens: list[int] = field(default_factory=list)
    slack: int | None = None
    places: list[int] = field(default_factory=list)
    ended: bool = False
    error: CnerError | None = None

    @property
    def done(self) -> bool:
        full = len(self.tokens) >= self.request.budget
        return self.ended or full or self.error is not None

    def take(
        self,
        token: int,
        ends: Collection[int],
        step: Step | None = None,
        *,
        consumed: bool = False,
    ) -> None:
        """The answer has got one more token; see `ConstrainedSequence.take`."""
        if token == NONE:
            self.fail(NOTHING_LEFT)
            return
        if self.constrained is not None:
            self.constrained.take(token, step, consumed=consumed)
            if self.constrained.dead:
                self.fail(self.constrained.refusal(token))
                return
        self.tokens.append(token)
        self.drafter.take(token)
        self.ended = self.constrained.ended if self.constrained is not None else token in ends

    @contextmanager
    def to_itself(self) -> Iterator[None]:
        """Whatever fails here fails this answer, and none of those beside it."""
        try:
            yield
        except CnerError as error:
            self.fail(str(error))

    def fail(self, reason: str) -> None:
        place = (
            self.constrained.place()
            if self.constrained is not None
            else f"at token {len(self.tokens)}"
        )
        self.error = DecodingError(f"{self.request.name}: {place}: {reason}")

    def result(self, vocabulary: Vocabulary) -> Answer | CnerError:
        if self.error is None and self.constrained is not None and not self.ended:
            self.fail(f"the answer did not end within {self.request.budget} tokens")
        if self.error is not None:
            return self.error
        return Answer(
            vocabulary.text_of(self.tokens),
            tuple(self.tokens),
            self.ended,
            self.constrained is not None and self.constrained.forced,
            tuple(self.constrained.steps) if self.constrained is not None else (),
        )


_reasons: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
_trying = Lock()


def unsupported_reason(model: LoadedModel) -> str:
    """Why a model cannot be decoded by this engine; empty where it can.

    It is tried once: the logits of a few tokens in two rows and two calls against those of the
    model as it is.
    """
    bare = model.steerable.model
    with _trying:  # threads may come with one model together
        if bare not in _reasons:
            _reasons[bare] = _tried(bare)
        return _reasons[bare]


def _tried(model: Any) -> str:
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ())
    if other := kinds - {"full_attention", "sliding_attention"}:
        return f"it has layers of {', '.join(sorted(other))}"
    generator = torch.Generator().manual_seed(0)
    rows = [
        torch.randint(config.vocab_size, (length,), generator=generator).tolist()
        for length in (9, 6)
    ]
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        cache = RaggedKVCache(model, len(rows))
        cache.call([row[:4] for row in rows], [0, 0])
        found = cache.call([row[4:] for row in rows], [len(row) - 4 for row in rows])
        if has_window(config) and not cache.windows:
            return "its window of tokens is not told to the attention"
        with turn_of(model), torch.no_grad():
            expected = torch.cat(
                [model(torch.tensor([row], device=model.device)).logits[0, 4:] for row in rows]
            )
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return reason_of(error, kind=True)
    finally:
        for module in training:
            module.training = True
    # Far above what rounding does, far below what a wrong mask or position does.
    off = float((found - expected).abs().max() / expected.abs().max())
    return "" if off < 0.05 else f"its logits are off by {off:.0%}"


class SpeculativeEngine(Engine):
    """See the module.

    Parameters
    ----------
    model: one for which `unsupported_reason` is empty.
    temperature: above zero tokens are drawn, and not the likeliest taken. `seed`: of the draws.
    """

    capabilities = Capabilities()
    model: LoadedModel

    def __init__(
        self,
        model: LoadedModel,
        rows: int,
        *,
        record: bool = False,
        temperature: float = 0.0,
        seed: int = 0,
        costs: Costs | None = None,
    ):
        super().__init__(model, rows, record=record, costs=costs)
        self.temperature = temperature
        self._cache = RaggedKVCache(model.steerable.model, rows, self.costs)
        self._masks = Masks(model.vocabulary)
        self._statistics: dict[str, DraftStatistics] = defaultdict(DraftStatistics)
        self._active: list[_ActiveSequence] = []
        device = model.steerable.model.device
        self._call_cost = _CALL.get(device.type, _CALL["cuda"])
        self._random = torch.Generator(device).manual_seed(seed)

    def _free_memory(self) -> None:
        self._cache = RaggedKVCache(self.model.steerable.model, self.rows, self.costs)
        super()._free_memory()

    def _decode(self, requests: Requests) -> Iterator[Answered]:
        self._active = []
        while True:
            # Before others come: a row that is freed is filled with the last one, and those from
            # `first` on are drafted for alone.
            for sequence in self._active:
                if not sequence.done and not sequence.request.wanted():
                    sequence.fail("nobody waits for the answer any more")
            yield from self._finished()
            first = len(self._active)
            while len(self._active) < self.rows and (request := requests()) is not None:
                try:
                    self._active.append(self._start(request))
                except CnerError as error:
                    yield request, error
            if not self._active:
                return
            if first < len(self._active):
                self._admit(first)
            else:
                first = 0
            self._draft_all(first)
            yield from self._finished()
            if first < len(self._active):
                self._call(first)

    def _start(self, request: Request) -> _ActiveSequence:
        vocabulary = self.model.vocabulary
        constrained, request.sequence = request.sequence, None
        if constrained is None:
            with self.costs.timed("grammar_seconds"):
                constrained = begin(request, vocabulary)
        statistics = self._statistics[request.kind]
        propose = request.propose_draft and partial(self._propose, request.propose_draft)
        drafter = Drafter(request.prompt, statistics, vocabulary.lengths, propose)
        return _ActiveSequence(request, constrained, drafter)

    def _propose(self, propose: Callable[[str], str], tokens: Sequence[int]) -> Sequence[int]:
        written = self.model.vocabulary.text_of(tokens)
        rest = propose(written)
        return self.model.vocabulary.continuation(written, rest) if rest else ()

    # ---- prompts

    def _admit(self, first: int) -> None:
        """Have in the cache of new rows, from `first` on, what other rows share with them."""
        cache = self._cache
        new = self._active[first:]
        # One that goes on from a row among them stays there.
        for i in range(len(new)):
            home = self._donor(new[i])[0] - first
            if i < home < len(new) and self._donor(new[home])[0] != first + home:
                new[i], new[home] = new[home], new[i]
        self._active[first:] = new
        donor, known = self._donor(new[0])
        first_prompt = new[0].request.prompt
        common = min(shared_prefix(first_prompt, sequence.request.prompt) for sequence in new)
        # The last token is always read: what follows it is wanted.
        common = min(common, min(len(sequence.request.prompt) for sequence in new) - 1)
        if len(new) > 1 and common - known >= _WORTH:
            cache.copy(donor, known, first)
            cache.call([new[0].request.prompt[known:common]], [0], first)
        for i, sequence in enumerate(new, first):
            cache.copy(*self._donor(sequence), i)

    def _donor(self, sequence: _ActiveSequence) -> tuple[int, int]:
        """The row of the cache that begins most like a prompt, and for how many tokens."""
        prompt = sequence.request.prompt
        alike = [shared_prefix(prompt, content) for content in self._cache.contents]
        known = max(alike)
        return alike.index(known), min(known, len(prompt) - 1)

    # ---- answers

    def _draft_all(self, first: int) -> None:
        """Draft for the rows from `first` on, and make the masks that the drafts come through.

        A row may end here, where its grammar leaves nothing but the end.
        """
        sequences = self._active[first:]
        # How likely a draft has to be to be worth a longer call: with c the cost of a call in
        # tokens, n rows, and e tokens gained by each with a call, one costs 1 more in a draft, and
        # c / (n e) + 1 in a call of its own.
        least = 1 / (self._call_cost / (3 * len(sequences)) + 1)
        at = 0
        for sequence in sequences:
            longest = sequence.request.budget - len(sequence.tokens) - 1
            longest = min(longest, _LONGEST) if sequence.drafts else 0
            if sequence.constrained is None:
                self._draft_freely(sequence, longest, least)
            else:
                with self.costs.timed("mask_seconds"), sequence.to_itself():
                    at = self._draft(sequence, sequence.constrained, longest, least, at)

    def _draft_freely(self, sequence: _ActiveSequence, longest: int, least: float) -> None:
        ends = self.model.vocabulary.ends
        sequence.draft = sequence.drafter.begin()
        while len(sequence.draft.tokens) < longest:
            if sequence.draft.extend(least, allows=lambda token: token not in ends) is None:
                break

    def _draft(
        self,
        sequence: _ActiveSequence,
        constrained: ConstrainedSequence,
        longest: int,
        least: float,
        at: int,
    ) -> int:
        """Draft under a grammar, with masks from place `at` on; the place after the last one."""
        ends, masks = self.model.vocabulary.ends, self._masks
        masks.make_room(at + longest + 1)
        while True:
            sequence.slack = constrained.slack()
            masks.fill([(constrained.matcher, at)])
            if constrained.matcher.is_error():
                sequence.fail(fault_of(constrained.matcher))
                return at
            few = masks.allowed(at, FEW)
            if few is None or few.size != 1 or self.record or sequence.slack == 0:
                break
            # The only token needs no call: it is read with those that come after it.
            sequence.take(int(few[0]), ends)
            if sequence.done:
                return at
        longest = min(sequence.request.budget - len(sequence.tokens) - 1, longest)
        sequence.draft = sequence.drafter.begin()
        sequence.places = [at]

        def allows(token: int) -> bool:
            return token not in ends and masks.allows(sequence.places[-1], token)

        while len(sequence.draft.tokens) < longest:
            token = sequence.draft.extend(least, few, allows)
            if token is None:
                break
            constrained.matcher.consume_token(token)
            at += 1
            masks.fill([(constrained.matcher, at)])
            few = masks.allowed(at, FEW)
            sequence.places.append(at)
        return at + 1

    def _call(self, first: int) -> None:
        """One call for the rows from `first` on, and the tokens that it brings."""
        sequences = self._active[first:]
        blocks = []
        before = [len(content) for content in self._cache.contents[first:]]
        for i, sequence in enumerate(sequences, first):
            known = len(self._cache.contents[i]) - len(sequence.request.prompt)
            ahead = sequence.tokens[max(0, known) :]
            if known < 0:
                ahead = [*sequence.request.prompt[known:], *ahead]
            blocks.append([*ahead, *sequence.draft.tokens])
        sizes = [len(sequence.draft.tokens) + 1 for sequence in sequences]
        logits = self._cache.call(blocks, sizes, first)
        raw = finite(logits).log_softmax(-1) if self.record else None
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        unmasked = self._mask(sequences, starts, logits)
        chosen = self._chosen(logits)
        steps = self._recorded(raw, logits, chosen) if raw is not None else [None] * len(chosen)
        for i, (sequence, start, size) in enumerate(
            zip(sequences, starts, sizes, strict=True), first
        ):
            places = slice(start, start + size)
            if chosen[start] == NONE and sequence.draft.tokens:
                # What is no number behind a drafted token is none in front of it, either.
                self._ask_without_draft(sequence)
                self._cache.clear(i, before[i - first])
                continue
            sequence.drafts = True
            with sequence.to_itself():
                if start in unmasked:
                    part = raw[places] if raw is not None else None
                    self._accept_near_the_end(sequence, unmasked[start], logits[places], part)
                else:
                    self._accept(sequence, chosen[places], steps[places])
            # What of the draft did not hold is forgotten; the newest token is yet to be read.
            self._cache.forget(i, len(sequence.request.prompt) + len(sequence.tokens) - 1)

    def _ask_without_draft(self, sequence: _ActiveSequence) -> None:
        """Be where it was before a call: the next one, without a draft, decides."""
        sequence.drafts = False
        if sequence.constrained is not None:
            sequence.constrained.roll_back(len(sequence.draft.tokens))

    def _mask(
        self, sequences: Sequence[_ActiveSequence], starts: Sequence[int], logits: torch.Tensor
    ) -> dict[int, torch.Tensor]:
        """Mask logits in place, [places of all drafts, vocabulary].

        Returns
        -------
        By the start of a draft along which the budget may cut in: what its logits were.
        """
        unmasked = {
            start: logits[start : start + len(sequence.places)].clone()
            for sequence, start in zip(sequences, starts, strict=True)
            if sequence.slack is not None and sequence.slack < len(sequence.places)
        }
        places = [
            (place, start + k)
            for sequence, start in zip(sequences, starts, strict=True)
            if sequence.constrained is not None
            for k, place in enumerate(sequence.places)
        ]
        if places:
            masks, rows = zip(*places, strict=True)
            with self.costs.timed("mask_seconds"):
                self._masks.apply(masks, rows, logits)
        return unmasked

    def _chosen(self, logits: torch.Tensor) -> list[int]:
        """A token for each place; `NONE` where none has a probability above zero."""
        most, tokens = logits.max(-1)
        possible = most > -torch.inf  # no number is not, either
        if self.temperature:
            # Of the largest one, so that none becomes infinite by the division.
            above = finite(logits.float()) - finite(most.float())[:, None]
            shares = (above / self.temperature).softmax(-1)
            shares = torch.where(possible[:, None], shares, 1.0)
            tokens = torch.multinomial(shares, 1, generator=self._random)[:, 0]
        chosen: list[int] = tokens.where(possible, NONE).tolist()
        return chosen

    def _recorded(
        self, raw: torch.Tensor, masked: torch.Tensor, tokens: Sequence[int]
    ) -> list[Step | None]:
        places = list(range(len(tokens)))
        before = raw[places, tokens].tolist()
        after = finite(masked).log_softmax(-1)[places, tokens].tolist()
        return list(map(Step.of, tokens, before, after))

    def _accept(
        self, sequence: _ActiveSequence, chosen: Sequence[int], steps: Sequence[Step | None]
    ) -> None:
        """Take the model's tokens as far as the draft agrees, and one more."""
        draft, constrained = sequence.draft, sequence.constrained
        for place, (token, step) in enumerate(zip(chosen, steps, strict=True)):
            drafted = draft.tokens[place] if place < len(draft.tokens) else None
            draft.learn(place, token)
            if constrained is not None and drafted != token:
                constrained.roll_back(len(draft.tokens) - place)
            ends = self.model.vocabulary.ends
            matcher = constrained.matcher if constrained is not None else None
            sequence.take(token, ends, step, consumed=drafted == token)
            # The rest of the draft came through the masks of a grammar that holds no more.
            replaced = constrained is not None and constrained.matcher is not matcher
            if drafted != token or sequence.done or replaced:
                return

    def _accept_near_the_end(
        self,
        sequence: _ActiveSequence,
        unmasked: torch.Tensor,
        masked: torch.Tensor,
        raw: torch.Tensor | None,
    ) -> None:
        """The same where the budget may cut in: what it lets through depends on the tokens before.

        Parameters
        ----------
        unmasked, masked: logits along the draft; raw: log-probabilities; [places, vocabulary].
        """
        draft, constrained = sequence.draft, sequence.constrained
        assert constrained is not None
        constrained.roll_back(len(draft.tokens))
        for place, drafted in enumerate([*draft.tokens, None]):
            here = slice(place, place + 1)
            # How likely a token is under the grammar does not depend on the budget that is left.
            allowed = masked[here].clone() if raw is not None else masked[here]
            if constrained.slack() == 0:
                with self.costs.timed("mask_seconds"):
                    candidates = 8 if self.temperature else 1
                    constrained.close(unmasked[place], masked[place], candidates)
            (token,) = self._chosen(masked[here])
            step = self._recorded(raw[here], allowed, [token])[0] if raw is not None else None
            draft.learn(place, token)
            matcher = constrained.matcher
            sequence.take(token, self.model.vocabulary.ends, step)
            if drafted != token or sequence.done or constrained.matcher is not matcher:
                return

    def _finished(self) -> Iterator[Answered]:
        """Hand over the answers that are whole; their rows come after the others'."""
        finished = []
        for i in reversed(range(len(self._active))):
            if self._active[i].done:
                last = len(self._active) - 1
                self._cache.swap(i, last)
                if self._active[i].error is not None:
                    self._cache.clear(last)
                finished.append(self._active[i])
                self._active[i] = self._active[last]
                self._active.pop()
        for sequence in reversed(finished):
            self.costs.tokens += len(sequence.tokens)
            yield sequence.request, sequence.result(self.model.vocabulary)
