"""What the training tests share: documents, tokenizers with real chat templates, a small model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from constrained_ner.documents import Document, Entity
from constrained_ner.engines.models import LoadedModel, wrap
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prompts import Target, prompt
from constrained_ner.training.examples import Example, Question, make_examples
from constrained_ner.training.recipe import CorpusFiles, Evaluation, Optimisation, Recipe
from constrained_ner.training.sampling import Sampling

LABELS = ("Disease", "Gene")


def _document(id: str, text: str, **surfaces: Sequence[str]) -> Document:
    entities = tuple(
        Entity(label, ((text.index(surface), text.index(surface) + len(surface)),))
        for label, found in surfaces.items()
        for surface in found
    )
    return Document(id, text, tuple(sorted(entities, key=lambda e: e.start)))


# Ten documents that every format can write, one of them without entities.
TEN = (
    _document("d0", "BCL6 in flu", Gene=["BCL6"], Disease=["flu"]),
    _document("d1", "gout with MYC and IL2", Gene=["MYC", "IL2"], Disease=["gout"]),
    _document("d2", "No asthma here", Disease=["asthma"]),
    _document("d3", "TP53 binds CD28", Gene=["TP53", "CD28"]),
    _document("d4", "We saw nothing"),
    _document("d5", "CD28 in colon cancer", Gene=["CD28"], Disease=["colon cancer"]),
    _document("d6", "asthma with TP53 and BCL6", Gene=["TP53", "BCL6"], Disease=["asthma"]),
    _document("d7", "No lung pain here", Disease=["lung pain"]),
    _document("d8", "MYC binds IL2", Gene=["MYC", "IL2"]),
    _document("d9", "IL2 in gout", Gene=["IL2"], Disease=["gout"]),
)

# ---- tokenizers with the chat templates of models that are trained ------------------------------

_SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Without the parts that are about tools.
_QWEN = (
    "{%- if messages[0]['role'] == 'system' %}\n"
    "    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n"
    "{%- else %}\n"
    "    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
    "assistant.<|im_end|>\\n' }}\n"
    "{%- endif %}\n"
    "{%- for message in messages %}\n"
    '    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or '
    '(message.role == "assistant" and not message.tool_calls) %}\n'
    "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' "
    "}}\n"
    "    {%- endif %}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' }}\n"
    "{%- endif %}\n"
)
_LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
    "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim "
    "+ '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Family:
    """How a family of models writes a conversation.

    Attributes
    ----------
    special: tokens; the last one ends a turn, the first one pads.
    opening, user, assistant: what stands before a conversation's first question, before a
        question, and before an answer. `end`: what ends a turn, and what stands behind that.
    """

    template: str
    special: tuple[str, ...]
    opening: str
    user: str
    assistant: str
    end: tuple[str, str]
    splits: Any
    normalizer: Any = None
    bos: str | None = None

    def ask(self, question: str) -> str:
        return f"{self.user}{question}{''.join(self.end)}{self.assistant}"


FAMILIES = {
    "smollm2": Family(
        _SMOLLM2,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n",
        "<|im_start|>user\n",
        "<|im_start|>assistant\n",
        ("<|im_end|>", "\n"),
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ],
    ),
    "qwen2.5": Family(
        _QWEN,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
        "<|im_end|>\n",
        "<|im_start|>user\n",
        "<|im_start|>assistant\n",
        ("<|im_end|>", "\n"),
        [
            pre_tokenizers.Split(Regex(_WORDS % ""), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ],
        normalizers.NFC(),
    ),
    "llama-3": Family(
        _LLAMA3,
        (
            *("<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
            "<|eot_id|>",
        ),
        "<|begin_of_text|>",
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ("<|eot_id|>", ""),
        [
            pre_tokenizers.Split(Regex(_WORDS % "{1,3}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ],
        bos="<|begin_of_text|>",
    ),
}


@cache
def _sentences() -> list[str]:
    """The prompts and answers of the ten documents: what the merges are learnt from."""
    found = []
    for format in FORMATS.values():
        for document in TEN:
            for labels in format.questions(LABELS):
                kept, _ = format.expressible(document, labels, Level.FAITHFUL)
                gold = replace(document, entities=kept)
                found.append(prompt(format, document.text, Target(tuple(labels), "ten")))
                found.append(format.encode(gold, labels, Level.FAITHFUL))
    return found


@cache
def tokenizer_of(family: str) -> Any:
    """A small byte-level tokenizer with the special tokens and the chat template of a family."""
    kind = FAMILIES[family]
    tokenizer = Tokenizer(models.BPE())
    if kind.normalizer is not None:
        tokenizer.normalizer = kind.normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(kind.splits)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        _sentences(),
        trainers.BpeTrainer(
            vocab_size=640,
            special_tokens=list(kind.special),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    wrapper: Any = PreTrainedTokenizerFast
    fast = wrapper(
        tokenizer_object=tokenizer,
        bos_token=kind.bos,
        eos_token=kind.special[-1],
        pad_token=kind.special[0],
    )
    fast.chat_template = kind.template
    return fast


def model_of(family: str, width: int = 16, context: int = 1024) -> LoadedModel:
    """A random model of two layers with the tokenizer of a family."""
    tokenizer = tokenizer_of(family)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer) + 5,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            tie_word_embeddings=True,
            initializer_range=0.1,  # it learns in few steps
        )
    )
    return wrap(family, model, tokenizer)


def save_model(model: LoadedModel, folder: Path) -> Path:
    bare: Any = model.steerable.model
    bare.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def write_documents(path: Path, documents: Sequence[Document] = TEN) -> Path:
    lines = [
        json.dumps(
            {
                "id": document.id,
                "text": document.text,
                "entities": [
                    {"label": e.label, "fragments": [list(f) for f in e.fragments]}
                    for e in document.entities
                ],
            }
        )
        for document in documents
    ]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def one_example(question: Question, model: LoadedModel) -> Example:
    """Of a question whose turns go on from one another."""
    (example,) = make_examples(question, model)
    return example


def silent(items: Iterable[Any], unit: str) -> Iterator[Any]:
    """No progress bar."""
    return iter(items)


def short_recipe(model: Path, data: Path) -> Recipe:
    """Two epochs of five steps, and two evaluations in each."""
    return Recipe(
        (CorpusFiles(train=data, dev=data, name="ten"),),
        model=str(model),
        examples=Sampling(("multi_triple", "single_term"), train=10, dev=2),
        training=Optimisation(
            epochs=2.0,
            learning_rate=1e-2,
            batch_size=1,
            accumulation=2,
            evaluations=2.0,
            dtype="float32",
        ),
        evaluation=Evaluation(max_new_tokens=8),
    )
