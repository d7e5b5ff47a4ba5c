"""Token by token, through outlines: `outlines.Generator(model, processor=...)`.

The speculative engine is tested against it, and it decodes the models that the other cannot take.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import outlines
import torch

from constrained_ner.engines.base import (
    Answer,
    Answered,
    Capabilities,
    Engine,
    Request,
    Requests,
    out_of_memory,
)
from constrained_ner.engines.costs import Costs
from constrained_ner.engines.models import LoadedModel
from constrained_ner.engines.processor import GrammarLogitsProcessor
from constrained_ner.errors import (
    CnerError,
    DecodingError,
    ModelError,
    UnknownNameError,
    reason_of,
)
from constrained_ner.formats.grammar import Grammar


def generate(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    budgets: Sequence[int],
    grammars: Sequence[Grammar] | None = None,
    names: Sequence[str] | None = None,
    *,
    record: bool = False,
    processor: Any = None,
    costs: Costs | None = None,
    **options: Any,
) -> list[Answer]:
    """Answers to a batch of prompts, by default greedy.

    Parameters
    ----------
    prompts: token ids.
    budgets: the most tokens of each answer, its end included.
    grammars: one for each prompt; None to decode freely.
    names: what to call the prompts in messages.
    record: keep log-probabilities and allowed mass of masked answers.
    processor: another outlines processor in place of ours; it must be good for all prompts.
    costs: what to add the costs to, but for `seconds`.
    options: for `generate` of transformers, such as `num_beams` or `do_sample`. Of masked beams
        one answer a prompt can be had, the best, and nothing of it is recorded; of sampling
        as many as `num_return_sequences`.

    Raises
    ------
    BudgetError, GrammarError, DecodingError: see `GrammarLogitsProcessor`.
    DecodingError: more is asked of masked beams.
    """
    beams = options.get("num_beams", 1) > 1
    if grammars is not None and beams and options.get("num_return_sequences", 1) > 1:
        raise DecodingError(
            "several answers of masked beams were asked for: expected one, since a grammar may let "
            "fewer answers through than there are beams; sampling gives several"
        )
    if grammars is not None and beams and record:
        raise DecodingError("masked beams cannot be recorded: expected one beam")
    wide = options.get("do_sample") or beams
    costs = costs or Costs()
    masking = None
    if grammars is not None and processor is None:
        with costs.timed("grammar_seconds"):
            processor = masking = GrammarLogitsProcessor(
                model.vocabulary,
                grammars,
                budgets,
                names,
                record=record,
                candidates=8 if wide else 1,
                costs=costs,
            )
    sequences: Any = outlines.Generator(model.steerable, processor=processor).batch(
        list(prompts),
        max_new_tokens=max(budgets),
        eos_token_id=list(model.vocabulary.ends),
        **options,
    )
    costs.calls += max(map(len, sequences))
    if masking is not None:
        outcomes = masking.outcomes(sequences)
    copies = len(sequences) // len(prompts)
    answers = []
    for i, sequence in enumerate(sequences):
        budget = budgets[i // copies]
        end = next(
            (k for k, token in enumerate(sequence) if token in model.vocabulary.ends), len(sequence)
        )
        tokens = tuple(sequence[: min(end + 1, budget)])
        costs.tokens += len(tokens)
        answers.append(
            Answer(
                model.vocabulary.text_of(tokens),
                tokens,
                ended=end < len(tokens),
                forced=masking is not None and outcomes[i].forced,
                steps=outcomes[i].steps if masking is not None else (),
            )
        )
        if masking is not None and not answers[-1].ended:
            raise DecodingError(
                f"{masking.names[i // copies]}: the answer did not end within {budget} tokens",
                i // copies,
            )
    return answers


_paddable: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def can_be_padded(model: LoadedModel) -> bool:
    """Whether a model reads a prompt alike beside a longer one; it is tried once."""
    bare: Any = model.steerable.model
    if bare not in _paddable:
        size = bare.config.get_text_config().vocab_size
        random = torch.Generator().manual_seed(0)
        long, short = (torch.randint(size, (n,), generator=random).tolist() for n in (12, 5))
        together = model.steerable.first_logits([long, short])[1]
        alone = model.steerable.first_logits([short])[0]
        # Far above what rounding does.
        _paddable[bare] = bool((together - alone).abs().max() < 0.05 * alone.abs().max())
    return _paddable[bare]


class ReferenceEngine(Engine):
    """Batches of requests, greedy, each batch to the end of its longest answer.

    `generate` samples and searches by beams, too. A model whose answers depend on what its rows
    are padded with is asked one request at a time.
    """

    capabilities = Capabilities()
    model: LoadedModel

    def __init__(
        self, model: LoadedModel, rows: int, *, record: bool = False, costs: Costs | None = None
    ):
        alone = rows > 1 and not can_be_padded(model)
        super().__init__(model, 1 if alone else rows, record=record, costs=costs)

    def _decode(self, requests: Requests) -> Iterator[Answered]:
        following: Request | None = None
        while True:
            batch: list[Request] = []
            while len(batch) < self.rows:
                request, following = following or requests(), None
                if request is None:
                    break
                if batch and not (self._alike(batch[0], request) and self._fit([*batch, request])):
                    following = request
                    break
                batch.append(request)
            if not batch:
                return
            yield from self._answered(batch)

    def _alike(self, one: Request, other: Request) -> bool:
        """Whether they can be answered in one batch."""
        return (one.grammar is None) == (other.grammar is None)

    def _fit(self, batch: Sequence[Request]) -> bool:
        """Whether the context holds each row up to the end of the longest answer."""
        width = max(len(request.prompt) for request in batch)
        longest = max(request.budget for request in batch)
        return self.model.context is None or width + longest <= self.model.context

    def _answered(self, batch: list[Request]) -> Iterator[Answered]:
        """One bad request leaves the others alone."""
        while batch:
            try:
                answers = self._generate(batch)
            except CnerError as error:
                if error.row is None:
                    raise
                yield batch.pop(error.row), error
                continue
            yield from zip(batch, answers, strict=True)
            return

    def _processor(self, batch: Sequence[Request]) -> Any:
        """What masks the batch, in place of its grammars; None of an engine that has these."""
        return None

    def _generate(self, batch: Sequence[Request]) -> list[Answer]:
        return generate(
            self.model,
            [request.prompt for request in batch],
            [request.budget for request in batch],
            [request.grammar for request in batch if request.grammar is not None] or None,
            [request.name for request in batch],
            record=self.record,
            processor=self._processor(batch),
            costs=self.costs,
        )


class SchemaEngine(ReferenceEngine):
    """Masks of a backend of outlines' own, made from a JSON schema.

    Nothing but the schema holds then: an answer may be cut off by its budget.

    Parameters
    ----------
    backend: of outlines, such as `outlines_core` or `xgrammar`.

    Raises
    ------
    UnknownNameError: when decoding begins and the backend is not installed.
    ModelError: when decoding begins and the backend cannot do it for the model.
    """

    capabilities = Capabilities(grammars=False, log_probabilities=False)

    def __init__(self, *given: Any, backend: str, **options: Any):
        super().__init__(*given, **options)
        self.backend = backend
        self._processors: dict[str, Any] = {}  # by their schema: each takes seconds to make

    def _alike(self, one: Request, other: Request) -> bool:
        return one.schema == other.schema

    def _processor(self, batch: Sequence[Request]) -> Any:
        from outlines.backends import get_regex_logits_processor
        from outlines_core.json_schema import build_regex_from_schema

        schema = json.dumps(batch[0].schema)
        try:
            if schema not in self._processors:
                # With the space before it, which is a part of the token that models begin it with.
                regex = f" ?{build_regex_from_schema(schema)}"
                self._processors[schema] = get_regex_logits_processor(
                    self.backend, self.model.steerable, regex
                )
        except ImportError as error:
            raise UnknownNameError(
                f"engine {self.backend} is not installed: "
                f"`pip install 'constrained_ner[{self.backend}]'` ({error})"
            ) from error
        self._processors[schema].reset()
        return self._processors[schema]

    def _generate(self, batch: Sequence[Request]) -> list[Answer]:
        try:
            return super()._generate(batch)
        except RuntimeError as error:
            if out_of_memory(error):  # the batch is asked again in halves
                raise
            raise ModelError(f"the engine {self.backend} failed: {reason_of(error)}") from error
