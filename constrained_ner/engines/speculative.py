"""Greedy decoding in blocks: several tokens of each answer with every call of the model.

Each call takes, for every row, its newest token and a draft of what is likely to follow, and the
model's own choice is made at every place of it, under the mask that belongs there: the draft holds
as far as it agrees, and one token more is gained. So the answers are those of token by token
decoding. Where the grammar leaves one token, no call is made for it. A row whose answer has ended
makes place for the next prompt, and a prompt takes over what some row in the cache shares with it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch

from constrained_ner.engines.costs import Costs
from constrained_ner.engines.drafts import FEW, Draft, Drafter, Habits
from constrained_ner.engines.kv_cache import Blocks, shared
from constrained_ner.engines.masks import Masks
from constrained_ner.engines.models import LanguageModel
from constrained_ner.engines.sequence import NOTHING_LEFT, Answer, Row, Step
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import CnerError, DecodingError
from constrained_ner.formats.grammar import Grammar

NONE = -1  # in place of a token
_LONGEST = 32  # tokens of a draft
_WORTH = 24  # shared tokens from which on a call for them alone is worth it
# What a call costs by itself, in tokens: a CPU reads the weights (40 to 50 on two cores, in float32
# as in bfloat16), a GPU does little else.
_CALL = {"cpu": 40.0, "cuda": 400.0}


@dataclass
class Question:
    """A prompt to be answered.

    Parameters
    ----------
    prompt: token ids.
    budget: the most tokens of the answer, its end included.
    grammar: what the answer follows; None for a free one.
    name: what to call it in messages.
    kind: answers of one kind, say a format, teach each other.
    ahead: from the end of the answer so far to how it is likely to go on, see `Format.ahead`.
    key: for the one who asks.
    row: where its grammar begins, if that is there already; it serves once.
    """

    prompt: list[int]
    budget: int
    grammar: Grammar | None = None
    name: str = "prompt"
    kind: str = ""
    ahead: Callable[[str], str] | None = None
    key: Any = None
    row: Row | None = None

    def begin(self, vocabulary: Vocabulary) -> Row | None:
        """Where its grammar begins; None without one.

        Raises
        ------
        BudgetError, GrammarError: see `Row`.
        """
        if self.grammar is None:
            return None
        try:
            return Row(vocabulary, self.grammar, self.budget)
        except CnerError as error:
            error.args = (f"{self.name}: {error}",)
            raise


@dataclass
class _Writer:
    """An answer that grows in a row of the cache.

    Attributes
    ----------
    row: where its grammar stands; None for a free one.
    room: before the budget cuts in, see `Row.room`; where the draft begins.
    places: of the masks along the draft.
    """

    question: Question
    row: Row | None
    drafter: Drafter
    draft: Draft
    tokens: list[int] = field(default_factory=list)
    room: int | None = None
    places: list[int] = field(default_factory=list)
    ended: bool = False
    error: CnerError | None = None

    @property
    def done(self) -> bool:
        full = len(self.tokens) >= self.question.budget
        return self.ended or full or self.error is not None

    def take(
        self,
        token: int,
        ends: Collection[int],
        step: Step | None = None,
        *,
        consumed: bool = False,
    ) -> None:
        """The answer has got one more token; see `Row.take`."""
        if token == NONE:
            self.fail(NOTHING_LEFT)
            return
        if self.row is not None:
            self.row.take(token, step, consumed=consumed)
            if self.row.dead:
                self.fail(self.row.refusal(token))
                return
        self.tokens.append(token)
        self.drafter.take(token)
        self.ended = self.row.ended if self.row is not None else token in ends

    @contextmanager
    def to_itself(self) -> Iterator[None]:
        """Whatever fails here fails this answer, and none of those beside it."""
        try:
            yield
        except CnerError as error:
            self.fail(str(error))

    def fail(self, reason: str) -> None:
        place = self.row.place() if self.row is not None else f"at token {len(self.tokens)}"
        self.error = DecodingError(f"{self.question.name}: {place}: {reason}")

    def result(self, vocabulary: Vocabulary) -> Answer | CnerError:
        if self.error is None and self.row is not None and not self.ended:
            self.fail(f"the answer did not end within {self.question.budget} tokens")
        if self.error is not None:
            return self.error
        return Answer(
            vocabulary.text_of(self.tokens),
            tuple(self.tokens),
            self.ended,
            self.row is not None and self.row.forced,
            tuple(self.row.steps) if self.row is not None else (),
        )


_refusals: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def why_not(model: LanguageModel) -> str:
    """What keeps a model from being decoded in blocks; empty where nothing does.

    It is tried once: the logits of a few tokens in two rows and two calls against those of the
    model as it is.
    """
    bare = model.steerable.model
    if bare not in _refusals:
        _refusals[bare] = _tried(bare)
    return _refusals[bare]


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
    training = model.training
    model.eval()
    try:
        blocks = Blocks(model, len(rows))
        blocks.call([row[:4] for row in rows], [0, 0])
        found = blocks.call([row[4:] for row in rows], [len(row) - 4 for row in rows])
        with torch.no_grad():
            expected = torch.cat(
                [model(torch.tensor([row], device=model.device)).logits[0, 4:] for row in rows]
            )
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    finally:
        model.train(training)
    # Far above what rounding does, far below what a wrong mask or position does.
    off = float((found - expected).abs().max() / expected.abs().max())
    return "" if off < 0.05 else f"its logits in blocks are off by {off:.0%}"


class FastDecoder:
    """Answers questions, some at a time.

    Parameters
    ----------
    model: one of which `why_not` has nothing to say.
    rows: how many answers are written at the same time.
    record: keep `Step`s.
    temperature: above zero tokens are drawn, and not the likeliest taken. `seed`: of the draws.
    drafts: False makes a call for every token: to compare.
    costs: what to add calls and masks to.
    """

    def __init__(
        self,
        model: LanguageModel,
        rows: int,
        *,
        record: bool = False,
        temperature: float = 0.0,
        seed: int = 0,
        drafts: bool = True,
        costs: Costs | None = None,
    ):
        self.model = model
        self.rows = rows
        self.record = record
        self.temperature = temperature
        self.costs = costs or Costs()
        self._drafts = drafts
        self._blocks = Blocks(model.steerable.model, rows)
        self._masks = Masks(model.vocabulary)
        self._habits: dict[str, Habits] = defaultdict(Habits)
        self._active: list[_Writer] = []
        device = model.steerable.model.device
        self._call_cost = _CALL.get(device.type, _CALL["cuda"])
        self._random = torch.Generator(device).manual_seed(seed)

    def decode(
        self, ask: Callable[[], Question | None]
    ) -> Iterator[tuple[Question, Answer | CnerError]]:
        """Each question with its answer, as they come to their ends, or with what went wrong.

        Parameters
        ----------
        ask: gives the next question, or None where there is none for now: a row is free. It ends
            when there is none, and all rows are free.
        """
        self._active = []
        while True:
            # Before others come: a row that is freed is filled with the last one.
            yield from self._finished()
            first = len(self._active)
            while len(self._active) < self.rows and (question := ask()) is not None:
                try:
                    self._active.append(self._start(question))
                except CnerError as error:
                    yield question, error
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

    def _start(self, question: Question) -> _Writer:
        vocabulary = self.model.vocabulary
        row, question.row = question.row, None
        if row is None:
            with self.costs.timed("grammar_seconds"):
                row = question.begin(vocabulary)
        habits = self._habits[question.kind]
        ahead = question.ahead and partial(self._ahead, question.ahead)
        drafter = Drafter(question.prompt, habits, vocabulary.lengths, ahead)
        return _Writer(question, row, drafter, drafter.begin())

    def _ahead(self, ahead: Callable[[str], str], tokens: Sequence[int]) -> Sequence[int]:
        written = self.model.vocabulary.text_of(tokens)
        rest = ahead(written)
        return self.model.vocabulary.continuation(written, rest) if rest else ()

    # ---- prompts

    def _admit(self, first: int) -> None:
        """Have in the cache of new rows, from `first` on, what other rows share with them."""
        blocks = self._blocks
        new = self._active[first:]
        # One that goes on from a row among them stays there.
        for i in range(len(new)):
            home = self._donor(new[i])[0] - first
            if i < home < len(new) and self._donor(new[home])[0] != first + home:
                new[i], new[home] = new[home], new[i]
        self._active[first:] = new
        donor, known = self._donor(new[0])
        common = min(shared(new[0].question.prompt, writer.question.prompt) for writer in new)
        # The last token is always read: what follows it is wanted.
        common = min(common, min(len(writer.question.prompt) for writer in new) - 1)
        if len(new) > 1 and common - known >= _WORTH:
            blocks.copy(donor, known, first)
            blocks.call([new[0].question.prompt[known:common]], [0], first)
            self.costs.calls += 1
        for i, writer in enumerate(new, first):
            blocks.copy(*self._donor(writer), i)

    def _donor(self, writer: _Writer) -> tuple[int, int]:
        """The row of the cache that begins most like a prompt, and for how many tokens."""
        prompt = writer.question.prompt
        alike = [shared(prompt, content) for content in self._blocks.contents]
        known = max(alike)
        return alike.index(known), min(known, len(prompt) - 1)

    # ---- answers

    def _draft_all(self, first: int) -> None:
        """Draft for the rows from `first` on, and make the masks that the drafts come through.

        A row may end here, where its grammar leaves nothing but the end.
        """
        writers = self._active[first:]
        # How likely a draft has to be to be worth a longer call: with c the cost of a call in
        # tokens, n rows, and e tokens gained by each with a call, one costs 1 more in a draft, and
        # c / (n e) + 1 in a call of its own.
        least = 1 / (self._call_cost / (3 * len(writers)) + 1)
        at = 0
        for writer in writers:
            room = writer.question.budget - len(writer.tokens) - 1
            room = min(room, _LONGEST) if self._drafts else 0
            if writer.row is None:
                self._draft_freely(writer, room, least)
            else:
                with self.costs.timed("mask_seconds"), writer.to_itself():
                    at = self._draft(writer, writer.row, room, least, at)

    def _draft_freely(self, writer: _Writer, room: int, least: float) -> None:
        ends = self.model.vocabulary.ends
        writer.draft = writer.drafter.begin()
        while len(writer.draft.tokens) < room:
            if writer.draft.extend(least, allows=lambda token: token not in ends) is None:
                break

    def _draft(self, writer: _Writer, row: Row, room: int, least: float, at: int) -> int:
        """Draft under a grammar, with masks from place `at` on; the place after the last one."""
        ends, masks = self.model.vocabulary.ends, self._masks
        masks.make_room(at + room + 1)
        while True:
            writer.room = row.room()
            masks.fill([(row.matcher, at)])
            if row.matcher.is_error():
                writer.fail(row.matcher.get_error())
                return at
            few = masks.allowed(at, FEW)
            if few is None or few.size != 1 or self.record or not self._drafts or writer.room == 0:
                break
            # The only token needs no call: it is read with those that come after it.
            writer.take(int(few[0]), ends)
            if writer.done:
                return at
        room = min(writer.question.budget - len(writer.tokens) - 1, room)
        writer.draft = writer.drafter.begin()
        writer.places = [at]

        def allows(token: int) -> bool:
            return token not in ends and masks.allows(writer.places[-1], token)

        while len(writer.draft.tokens) < room:
            token = writer.draft.extend(least, few, allows)
            if token is None:
                break
            row.matcher.consume_token(token)
            at += 1
            masks.fill([(row.matcher, at)])
            few = masks.allowed(at, FEW)
            writer.places.append(at)
        return at + 1

    def _call(self, first: int) -> None:
        """One call for the rows from `first` on, and the tokens that it brings."""
        writers = self._active[first:]
        blocks = []
        for i, writer in enumerate(writers, first):
            known = len(self._blocks.contents[i]) - len(writer.question.prompt)
            ahead = writer.tokens[max(0, known) :]
            if known < 0:
                ahead = [*writer.question.prompt[known:], *ahead]
            blocks.append([*ahead, *writer.draft.tokens])
        sizes = [len(writer.draft.tokens) + 1 for writer in writers]
        logits = self._blocks.call(blocks, sizes, first)
        self.costs.calls += 1
        raw = logits.float().log_softmax(-1) if self.record else None
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        unmasked = self._mask(writers, starts, logits)
        chosen = self._chosen(logits)
        steps = self._recorded(raw, logits, chosen) if raw is not None else [None] * len(chosen)
        for i, (writer, start, size) in enumerate(zip(writers, starts, sizes, strict=True), first):
            places = slice(start, start + size)
            with writer.to_itself():
                if start in unmasked:
                    part = raw[places] if raw is not None else None
                    self._accept_near_the_end(writer, unmasked[start], logits[places], part)
                else:
                    self._accept(writer, chosen[places], steps[places])
            # What of the draft did not hold is forgotten; the newest token is yet to be read.
            self._blocks.forget(i, len(writer.question.prompt) + len(writer.tokens) - 1)

    def _mask(
        self, writers: Sequence[_Writer], starts: Sequence[int], logits: torch.Tensor
    ) -> dict[int, torch.Tensor]:
        """Mask logits in place, [places of all drafts, vocabulary].

        Returns
        -------
        By the start of a draft along which the budget may cut in: what its logits were.
        """
        unmasked = {
            start: logits[start : start + len(writer.places)].clone()
            for writer, start in zip(writers, starts, strict=True)
            if writer.room is not None and writer.room < len(writer.places)
        }
        places = [
            (place, start + k)
            for writer, start in zip(writers, starts, strict=True)
            if writer.row is not None
            for k, place in enumerate(writer.places)
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
            shares = (logits.float() / self.temperature).softmax(-1)
            shares = torch.where(possible[:, None], shares, 1.0)
            tokens = torch.multinomial(shares, 1, generator=self._random)[:, 0]
        chosen: list[int] = tokens.where(possible, NONE).tolist()
        return chosen

    def _recorded(
        self, raw: torch.Tensor, masked: torch.Tensor, tokens: Sequence[int]
    ) -> list[Step | None]:
        places = list(range(len(tokens)))
        before = raw[places, tokens].tolist()
        after = masked.float().log_softmax(-1)[places, tokens].tolist()
        return [
            Step(token, b, a, math.exp(min(0.0, b - a)))
            for token, b, a in zip(tokens, before, after, strict=True)
        ]

    def _accept(self, writer: _Writer, chosen: Sequence[int], steps: Sequence[Step | None]) -> None:
        """Take the model's tokens as far as the draft agrees, and one more."""
        draft, row = writer.draft, writer.row
        for place, (token, step) in enumerate(zip(chosen, steps, strict=True)):
            drafted = draft.tokens[place] if place < len(draft.tokens) else None
            draft.learn(place, token)
            if row is not None and drafted != token:
                row.matcher.rollback(len(draft.tokens) - place)
            ends = self.model.vocabulary.ends
            matcher = row.matcher if row is not None else None
            writer.take(token, ends, step, consumed=drafted == token)
            # The rest of the draft came through the masks of a grammar that holds no more.
            curbed = row is not None and row.matcher is not matcher
            if drafted != token or writer.done or curbed:
                return

    def _accept_near_the_end(
        self,
        writer: _Writer,
        unmasked: torch.Tensor,
        masked: torch.Tensor,
        raw: torch.Tensor | None,
    ) -> None:
        """The same where the budget may cut in: what it lets through hangs on the tokens before.

        Parameters
        ----------
        unmasked, masked: logits along the draft; raw: log-probabilities; [places, vocabulary].
        """
        draft, row = writer.draft, writer.row
        assert row is not None
        row.matcher.rollback(len(draft.tokens))
        for place, drafted in enumerate([*draft.tokens, None]):
            here = slice(place, place + 1)
            # How likely a token is under the grammar does not hang on what is left of the budget.
            allowed = masked[here].clone() if raw is not None else masked[here]
            if row.room() == 0:
                with self.costs.timed("mask_seconds"):
                    candidates = 8 if self.temperature else 1
                    row.close(unmasked[place], masked[place], candidates)
            (token,) = self._chosen(masked[here])
            step = self._recorded(raw[here], allowed, [token])[0] if raw is not None else None
            draft.learn(place, token)
            matcher = row.matcher
            writer.take(token, self.model.vocabulary.ends, step)
            if drafted != token or writer.done or row.matcher is not matcher:
                return

    def _finished(self) -> Iterator[tuple[Question, Answer | CnerError]]:
        """Hand over the answers that are whole; their rows come after the others'."""
        finished = []
        for i in reversed(range(len(self._active))):
            if self._active[i].done:
                last = len(self._active) - 1
                self._blocks.swap(i, last)
                finished.append(self._active[i])
                self._active[i] = self._active[last]
                self._active.pop()
        for writer in reversed(finished):
            self.costs.tokens += len(writer.tokens)
            yield writer.question, writer.result(self.model.vocabulary)
