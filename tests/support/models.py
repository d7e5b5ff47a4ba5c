"""Small vocabularies and tiny models that are made in a moment."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from constrained_ner.engines.models import LanguageModel, wrap
from constrained_ner.engines.vocabulary import Vocabulary

CORPUS = [
    "Answer: [] [{ } ] \n ```py def named_entity_recognition(input_text): entity_list = []",
    'Answer: [{"text": "left knee pain", "type": "finding"}, {"span": [0, 14], "type": "gene"}]',
    "Layer 1: O O O B-gene I-gene O\nLayer 2: O O B-finding",
    "<gene>CD28</gene> @@left ##right #### @@@@ is a; gene\nT1 finding 0 4;15 24 left knee pain",
    "the left and right knee pain of alpha and beta cells in the colon cancer patients",
]


def small_vocabulary(tokens: int = 400) -> tuple[PreTrainedTokenizerFast, Vocabulary]:
    """A byte-level tokenizer with few merges, and an end token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS * 4,
        trainers.BpeTrainer(
            vocab_size=tokens,
            special_tokens=["<end>", "<pad>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    wrapper: Any = PreTrainedTokenizerFast
    fast = wrapper(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")
    # Wider than the tokenizer, as the vocabularies of real models are.
    return fast, Vocabulary.of(fast, len(fast) + 37, [fast.eos_token_id])


def tiny_llama(seed: int = 0, context: int = 2048, tokenizer: Any = None) -> tuple[Any, Any]:
    """A randomly initialised Llama, its vocabulary wider than its tokenizer's."""
    tokenizer = tokenizer or small_vocabulary()[0]
    torch.manual_seed(seed)
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer) + 37,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=context,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            initializer_range=0.6,  # far from uniform: it has its preferences
        )
    )
    return model.eval(), tokenizer


ARCHITECTURES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 16}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 24}),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config, {"sliding_window": 24, "head_dim": 16}),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig, {"sliding_window": 24, "head_dim": 16}),
}


def tiny(name: str) -> LanguageModel:
    """A random model in float64, in which near-ties are rare."""
    model_class, config_class, options = ARCHITECTURES[name]
    tokenizer, vocabulary = small_vocabulary()
    torch.manual_seed(0)
    config = config_class(
        vocab_size=vocabulary.size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        initializer_range=0.3,
        **options,
    )
    return wrap(name, model_class(config).double().eval(), tokenizer)
