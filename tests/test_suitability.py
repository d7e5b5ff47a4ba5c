"""Folders and files that are loaded as models, and those that are refused since nothing would come
of them but nonsense."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFWriter
from safetensors.torch import load_file, save_file
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from constrained_ner.engines.models import load_model, load_tokens
from constrained_ner.errors import ModelError
from tests.support.models import small_vocabulary, tiny_llama

_STACK = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_BART = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
OTHERS: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "bert": (BertForMaskedLM, BertConfig, _STACK, "looks ahead, as an encoder does"),
    "roberta": (RobertaForMaskedLM, RobertaConfig, _STACK, "looks ahead, as an encoder does"),
    "bart": (
        BartForConditionalGeneration,
        BartConfig,
        {**_BART, "decoder_attention_heads": 2},
        "is an encoder with a decoder",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_causal_model(kind: str, tmp_path: Path) -> None:
    model_class, config_class, options, message = OTHERS[kind]
    tokenizer, vocabulary = small_vocabulary()
    torch.manual_seed(0)
    config = config_class(vocab_size=vocabulary.size, initializer_range=0.3, **options)
    model_class(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=rf"\({kind}\) {message}"):
        load_model(tmp_path)


def _without_a_weight(weights: dict[str, torch.Tensor]) -> None:
    del weights["model.layers.1.mlp.up_proj.weight"]


def _with_a_foreign_weight(weights: dict[str, torch.Tensor]) -> None:
    weights["vision.patch.weight"] = torch.zeros(3)


def _of_another_shape(weights: dict[str, torch.Tensor]) -> None:
    weights["model.norm.weight"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_a_weight, r"lacks weights \(1: model.layers.1.mlp.up_proj.weight\)"),
        (_with_a_foreign_weight, r"has weights of something else \(1: vision.patch.weight\)"),
        (_of_another_shape, r"model.norm.weight|mismatch"),
    ],
)
def test_weights_that_are_not_the_models(
    change: Callable[[dict[str, torch.Tensor]], None],
    message: str,
    tiny_folder: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_weights_that_are_cut_off(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    weights = folder / "model.safetensors"
    for kept in (1000, weights.stat().st_size - 1):
        weights.write_bytes((tiny_folder / weights.name).read_bytes()[:kept])
        with pytest.raises(ModelError, match=r"cannot load model .*deserializing header"):
            load_model(folder)


def test_a_quantised_model_without_its_package(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"cannot load model .*requires bitsandbytes.*pip install"):
        load_model(folder)


# ---- adapters


@pytest.fixture
def adapter(tiny_folder: Path, tmp_path: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    model: Any = load_model(tiny_folder).steerable.model
    options = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(model, options).save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def test_an_adapters_own_tokenizer_and_template(tiny_folder: Path, adapter: Path) -> None:
    (adapter / "chat_template.jinja").write_text("{{ messages[0].content }}?")
    plain = load_model(adapter)
    assert plain.vocabulary.text_of(plain.encode([{"role": "user", "content": "knee"}])) == "knee?"
    tokenizer, _ = small_vocabulary()
    tokenizer.add_tokens(["<own>"])
    tokenizer.chat_template = "{{ messages[0].content }}!"
    tokenizer.save_pretrained(adapter)
    for loaded in (load_model(adapter), load_model(tiny_folder, adapter)):
        ids = loaded.encode([{"role": "user", "content": "knee"}])
        assert loaded.vocabulary.text_of(ids) == "knee!"
        assert len(loaded.vocabulary.tokenize("<own>")) == 1
    assert len(load_tokens(adapter).vocabulary.tokenize("<own>")) == 1


def test_a_folder_without_an_adapter(tiny_folder: Path) -> None:
    """It is not looked for on the hub."""
    with pytest.raises(ModelError, match=r"cannot load adapter .*has no adapter_config.json"):
        load_model(tiny_folder, tiny_folder)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"folder has no config\.json, adapter_config"):
        load_model(tmp_path)


def test_an_adapter_with_more_tokens_than_its_base(adapter: Path) -> None:
    tokenizer, _ = small_vocabulary()
    tokenizer.add_tokens([f"<own{i}>" for i in range(50)])
    tokenizer.save_pretrained(adapter)
    message = (
        r"adapter': the tokenizer has 450 tokens, the model 437: expected no more \(an adapter"
    )
    for load in (load_model, load_tokens):
        with pytest.raises(ModelError, match=message):
            load(adapter)


# ---- GGUF


def write_gguf(path: Path) -> Any:
    """A tiny Llama as a GGUF file; the model that was written."""
    model, tokenizer = tiny_llama()
    config = model.config
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = sorted(backend["model"]["vocab"], key=backend["model"]["vocab"].get)
    special = {added["content"] for added in backend["added_tokens"]}
    tokens += [f"<unused{i}>" for i in range(config.vocab_size - len(tokens))]
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if t in special or t.startswith("<unused") else 1 for t in tokens])
    writer.add_token_merges([" ".join(pair) for pair in backend["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "model.layers.": "blk.",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for name, weight in model.state_dict().items():
        if "q_proj" in name or "k_proj" in name:  # rotary halves lie beside each other there
            heads, size = config.num_attention_heads, weight.shape[0]
            weight = weight.view(heads, 2, size // heads // 2, -1).transpose(1, 2).reshape(size, -1)
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        writer.add_tensor(name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def test_where_a_model_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    write_gguf(model)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CNER_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match=r"file/cache', .* cannot be written: Not a directory"):
        load_model(model)

    def homeless(_: str) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("CNER_CACHE")
    monkeypatch.setattr("constrained_ner.engines.converted.user_cache_path", homeless)
    with pytest.raises(ModelError, match=r"there is no home folder .*: set CNER_CACHE"):
        load_model(model)


def test_a_gguf_file_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a folder that holds one; it is converted once."""
    monkeypatch.setenv("CNER_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "folder"
    folder.mkdir()
    model = write_gguf(folder / "any name")
    loaded = load_model(folder / "any name", dtype="float32")
    ids = torch.tensor([[5, 6, 7, 8]])
    found = loaded.steerable.model(ids).logits[..., : model.config.vocab_size]
    assert torch.allclose(found, model(ids).logits, atol=1e-4)
    assert loaded.vocabulary.text_of(loaded.vocabulary.tokenize("left knee")) == "left knee"
    (kept,) = (tmp_path / "cache").iterdir()
    made = (kept / "model.safetensors").stat().st_mtime_ns
    assert load_tokens(folder).vocabulary.size == loaded.vocabulary.size
    assert (kept / "model.safetensors").stat().st_mtime_ns == made
    assert list((tmp_path / "cache").iterdir()) == [kept]

    shutil.copy(folder / "any name", folder / "other.gguf")
    with pytest.raises(ModelError, match=r"has 2 GGUF files, expected one.*any name, other.gguf"):
        load_model(folder)
    (folder / "notes.txt").write_text("text")
    with pytest.raises(ModelError, match="is a file, and no GGUF file"):
        load_model(folder / "notes.txt")


def test_a_gguf_file_that_cannot_be_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNER_CACHE", str(tmp_path / "cache"))
    writer = GGUFWriter(tmp_path / "odd.gguf", "nonesuch")
    writer.add_token_list(["a"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"cannot convert '.*odd.gguf': \S"):
        load_model(tmp_path / "odd.gguf")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("kept", [6, 100, -1])
def test_a_gguf_file_that_is_cut_off(
    kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNER_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "short.gguf"
    write_gguf(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"cannot convert '.*short.gguf': \S"):
        load_model(path)
    assert list((tmp_path / "cache").iterdir()) == []
