"""Engines whose model is made to write a given answer, as far as the masks let it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from constrained_ner.engines.base import Request
from constrained_ner.engines.models import LoadedModel
from constrained_ner.engines.processor import GrammarLogitsProcessor
from constrained_ner.engines.speculative import SpeculativeEngine


class Led(GrammarLogitsProcessor):
    """Makes a row write an answer, as far as the masks let it."""

    def __init__(self, model: LoadedModel, request: Request, gold: Sequence[int]):
        assert request.grammar
        super().__init__(model.vocabulary, [request.grammar], [request.budget])
        self.gold, self.prompt = gold, len(request.prompt)

    def process_logits(self, input_ids: Any, logits: Any) -> Any:
        place = min(input_ids.shape[1] - self.prompt, len(self.gold) - 1)
        logits[0, self.gold[place]] += 1e4
        return super().process_logits(input_ids, logits)


class LedSpeculative(SpeculativeEngine):
    """The same by the speculative engine."""

    def _mask(self, writers: Any, starts: Any, logits: Any) -> Any:
        for writer, start in zip(writers, starts, strict=True):
            gold, written = writer.request.key, len(writer.tokens)
            for place in range(len(writer.draft.tokens) + 1):
                logits[start + place, gold[min(written + place, len(gold) - 1)]] += 1e4
        return super()._mask(writers, starts, logits)
