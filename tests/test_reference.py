"""Decoding in batches by the reference engine: models that mind who is beside them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    RwkvConfig,
    RwkvForCausalLM,
)

from constrained_ner.documents import Document
from constrained_ner.engines.base import Answer, Request
from constrained_ner.engines.models import LoadedModel, wrap
from constrained_ner.engines.reference import ReferenceEngine, can_be_padded
from constrained_ner.engines.speculative import unsupported_reason
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.prompts import Target
from tests.support.models import small_vocabulary

TEXT = "left knee pain"


def model_of(model_class: Any, config_class: Any, **options: Any) -> LoadedModel:
    tokenizer, vocabulary = small_vocabulary()
    torch.manual_seed(0)
    config = config_class(
        vocab_size=vocabulary.size,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        **options,
    )
    return wrap(model_class.__name__, model_class(config).double().eval(), tokenizer)


def gpt2(context: int = 300) -> LoadedModel:
    return model_of(
        GPT2LMHeadModel, GPT2Config, n_positions=context, n_embd=32, n_layer=1, n_head=2
    )


def rwkv() -> LoadedModel:
    return model_of(RwkvForCausalLM, RwkvConfig, hidden_size=32, num_hidden_layers=2)


def answered(
    engine: ReferenceEngine, sizes: Sequence[tuple[int, int]], level: Level = Level.FAITHFUL
) -> list[Answer]:
    """Answers to prompts of so many tokens within budgets of so many."""
    words = engine.model.vocabulary.tokenize(f"{TEXT} of alpha cells ")
    format = FORMATS["multi_term"]
    requests = [
        Request(
            [words[i % len(words)] for i in range(prompt)],
            budget,
            None if level is Level.FREE else format.grammar(TEXT, ("a",), level),
            key=i,
        )
        for i, (prompt, budget) in enumerate(sizes)
    ]
    found: dict[int, Any] = {
        request.key: answer
        for request, answer in engine.decode(chain(requests, repeat(None)).__next__)
    }
    assert all(isinstance(answer, Answer) for answer in found.values()), found
    return [found[i] for i in range(len(sizes))]


@pytest.mark.parametrize("level", [Level.FAITHFUL, Level.FREE])
def test_rows_of_unequal_length_near_the_end_of_the_context(level: Level) -> None:
    """All rows go on to the largest budget: behind the longest prompt there is no room for it."""
    model = gpt2()
    sizes = [(250, 50), (20, 280), (100, 100), (30, 270)]
    together = answered(ReferenceEngine(model, 4), sizes, level)
    alone = answered(ReferenceEngine(model, 1), sizes, level)
    assert [answer.tokens for answer in together] == [answer.tokens for answer in alone]


def test_a_model_that_minds_padding_is_asked_one_at_a_time() -> None:
    model = rwkv()
    assert not can_be_padded(model)
    assert can_be_padded(gpt2())
    assert ReferenceEngine(gpt2(), 3).rows == 3
    assert unsupported_reason(model)
    sizes = [(40, 60), (7, 60), (23, 60)]
    together = answered(ReferenceEngine(model, 3), sizes)
    alone = answered(ReferenceEngine(model, 1), sizes)
    assert [answer.tokens for answer in together] == [answer.tokens for answer in alone]


ROTARY: dict[str, dict[str, Any]] = {
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "longrope": {
        "rope_type": "longrope",
        "short_factor": [1.0] * 8,
        "long_factor": [float(i + 1) for i in range(8)],
        "original_max_position_embeddings": 256,
    },
}


@pytest.mark.parametrize("kind", ROTARY)
def test_positions_that_are_scaled_by_length(kind: str) -> None:
    """Beyond the length where it begins, a long row would change the answers of those beside it."""
    model = model_of(
        LlamaForCausalLM,
        LlamaConfig,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256 if kind == "dynamic" else 1024,
        rope_parameters={**ROTARY[kind], "rope_theta": 10_000.0},
        initializer_range=0.6,
    )
    assert model.context == 256
    sizes = [(150, 100), (20, 230), (60, 150)]
    alone = answered(ReferenceEngine(model, 1), sizes)
    together = answered(ReferenceEngine(model, 3), sizes)
    assert [answer.tokens for answer in together] == [answer.tokens for answer in alone]
    documents = [Document("short", TEXT), Document("long", " ".join([TEXT] * 100))]
    asked = Predictor(model, FORMATS["multi_term"], [Target(("a",))], max_new_tokens=40)
    short, long = asked.predict(documents)
    assert short.error is None
    assert "the text is too long" in str(long.error)
    assert "the model has room for 256" in str(long.error)
