"""Small vocabularies and tiny models that are made in a moment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
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

from constrained_ner.engines.models import LoadedModel, wrap
from constrained_ner.engines.vocabulary import Vocabulary

CORPUS = [
    "Answer: [] [{ } ] \n ```py def named_entity_recognition(input_text): entity_list = []",
    'Answer: [{"text": "left knee pain", "type": "finding"}, {"span": [0, 14], "type": "gene"}]',
    "Layer 1: O O O B-gene I-gene O\nLayer 2: O O B-finding",
    "<gene>CD28</gene> @@left ##right #### @@@@ is a; gene\nT1 finding 0 4;15 24 left knee pain",
    "the left and right knee pain of alpha and beta cells in the colon cancer patients",
]


ENDS = ("<end>", "<pad>")


def small_vocabulary(tokens: int = 400) -> tuple[PreTrainedTokenizerFast, Vocabulary]:
    """A byte-level tokenizer with few merges, and an end token."""
    fast = wrapped(_byte_level(tokens))
    # Wider than the tokenizer, as the vocabularies of real models are.
    return fast, Vocabulary.of(fast, len(fast) + 37, [fast.eos_token_id])


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    wrapper: Any = PreTrainedTokenizerFast
    fast: PreTrainedTokenizerFast = wrapper(
        tokenizer_object=tokenizer, eos_token=ENDS[0], pad_token=ENDS[1]
    )
    return fast


def _byte_level(
    tokens: int = 400, prefix: bool = False, normalizer: Any = None, added: Sequence[str] = ()
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS * 4,
        trainers.BpeTrainer(
            vocab_size=tokens,
            special_tokens=list(ENDS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens(list(added))
    return tokenizer


def _sentencepiece(
    normalizer: Any = None, pre_tokenizer: Any = None, strip: bool = True, added: Sequence[str] = ()
) -> Tokenizer:
    """With a token for each byte, as Llama 2 and Gemma have them."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, *([decoders.Strip(" ", 1, 0)] * strip)])
    special = ["<unk>", *ENDS]
    tokenizer.train_from_iterator(
        [f" {line}" for line in CORPUS * 4],
        trainers.BpeTrainer(
            vocab_size=800,
            special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
            show_progress=False,
        ),
    )
    # The bytes are no special tokens; a trainer knows no other way to them.
    written = json.loads(tokenizer.to_str())
    written["added_tokens"] = [t for t in written["added_tokens"] if t["content"] in special]
    tokenizer = Tokenizer.from_str(json.dumps(written))
    tokenizer.add_tokens(list(added))
    return tokenizer


_SPACES = normalizers.Replace(" ", "\u2581")
_METASPACE = pre_tokenizers.Metaspace("\u2581", prepend_scheme="first", split=False)
TOKENIZERS: dict[str, Any] = {
    "byte-level": _byte_level,
    "NFC": lambda: _byte_level(normalizer=normalizers.NFC()),
    "NFKC": lambda: _byte_level(normalizer=normalizers.NFKC()),
    "prefix": lambda: _byte_level(prefix=True),
    "added": lambda: _byte_level(added=["Sj\u00f6gren", "<sup>", "[INST]", "\n\n"]),
    "llama2": lambda: _sentencepiece(
        normalizers.Sequence([normalizers.Prepend("\u2581"), _SPACES])
    ),
    "metaspace": lambda: _sentencepiece(pre_tokenizer=_METASPACE),
    "gemma": lambda: _sentencepiece(
        _SPACES,
        pre_tokenizers.Split(" ", "merged_with_previous"),
        strip=False,
        added=["<sup>", "\u2581\u2581", "\n\n", "Sj\u00f6gren"],
    ),
}


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer that treats texts as those of some well-known models do."""
    return wrapped(TOKENIZERS[kind]())


def tiny_llama(
    seed: int = 0, context: int = 2048, tokenizer: Any = None, size: int = 32
) -> tuple[Any, Any]:
    """A randomly initialised Llama, its vocabulary wider than its tokenizer's."""
    tokenizer = tokenizer or small_vocabulary()[0]
    torch.manual_seed(seed)
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer) + 37,
            hidden_size=size,
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
    "gemma2": (
        Gemma2ForCausalLM,
        Gemma2Config,
        # Torch's own attention, which transformers takes beside an old torch, caps no scores.
        {"sliding_window": 24, "head_dim": 16, "attn_implementation": "eager"},
    ),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig, {"sliding_window": 24, "head_dim": 16}),
}


def tiny(name: str) -> LoadedModel:
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
