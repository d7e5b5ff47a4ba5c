"""From a model's name to a model and its tokenizer.

A name is a folder, a GGUF file, a packaged model, or a hub id: `smollm2-135m-ner` is the default,
an adapter on `smollm2-135m`. A folder that holds a LoRA adapter stands for the adapter on its base
model, and with a tokenizer or a chat template of its own brings them along. Remote code is never
run, and weights are read from safetensors or GGUF only; an adapter's `adapter_model.bin` is read as
data.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from threading import Lock
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen
from weakref import WeakKeyDictionary

import torch
from huggingface_hub import constants, file_exists, snapshot_download
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    StrictDataclassError,
)
from outlines.models import Transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    LogitsProcessorList,
)
from transformers.utils import logging as transformers_logging

from constrained_ner.adapters import BASE_MODEL, DEFAULT_MODEL, folder_of
from constrained_ner.engines.chat import token_ids
from constrained_ner.engines.converted import converted, gguf_in, packaged_model
from constrained_ner.engines.language_model import LanguageModel
from constrained_ner.engines.suitability import check_causal, check_kind, check_whole
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import MissingExtraError, ModelError, reason_of

HUB_TIMEOUT = 10.0  # seconds
# Where it is installed it says with each call that it computes in float16.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
QUANTIZATIONS = ("int8", "int4")
# What transformers and peft raise where a model, or a package it needs, is not as it should be.
_UNREADABLE = (
    *(AttributeError, ImportError, KeyError, OSError, RuntimeError, TypeError, ValueError),
    *(SafetensorError, StrictDataclassError),
)


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
        return self._generate(model_input, output_type, **options)[:, width:].tolist()

    def first_logits(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """What may come first, by the model alone: [prompts, vocabulary]."""
        output = self._generate(
            prompts,
            max_new_tokens=1,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
        logits: torch.Tensor = output.logits[0].float()
        return logits

    def _generate(
        self, prompts: Sequence[Sequence[int]], processor: Any = None, **options: Any
    ) -> Any:
        width = max(len(prompt) for prompt in prompts)
        pad = self.hf_tokenizer.pad_token_id
        ids = torch.full((len(prompts), width), pad)  # [batch, width]
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        model: Any = self.model
        with turn_of(model), _plain_generation(model), torch.inference_mode():
            return model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                logits_processor=None if processor is None else LogitsProcessorList([processor]),
                pad_token_id=pad,
                **options,
            )


_turns: WeakKeyDictionary[Any, Lock] = WeakKeyDictionary()
_first = Lock()


def turn_of(model: Any) -> Lock:
    """To be held while a model is used: threads that share one take turns.

    Both engines change the model for as long as they use it.
    """
    with _first:
        return _turns.setdefault(model, Lock())


def has_window(config: Any) -> bool:
    """Whether some layers of a model see no further back than some tokens.

    Attention of our own needs to be told of it: a mask that says it is not looked at.
    """
    kinds = getattr(config, "layer_types", None) or ()
    own = bool(getattr(config, "sliding_window", None))
    return own and getattr(config, "use_sliding_window", True) and set(kinds) != {"full_attention"}


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


def computes_in_bfloat16(device: str) -> bool:
    """Whether a device computes in bfloat16: of processors those with AVX512_BF16 or AMX."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":
        return True  # accelerators of today do
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in known)


def default_device() -> str:
    """What `auto` is: a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_dtype(device: str) -> str:
    """What `auto` is on a device."""
    return "bfloat16" if computes_in_bfloat16(device) else "float32"


@dataclass(frozen=True)
class LoadedModel(LanguageModel):
    """A model whose weights are here.

    Attributes
    ----------
    steerable: the model as `outlines.Generator` takes it; `steerable.model` is the bare one.
    """

    steerable: TokenTransformers


def load_model(
    name: str | Path = DEFAULT_MODEL,
    adapter: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str | None = None,
) -> LoadedModel:
    """Load a model for inference.

    Parameters
    ----------
    name: a folder, a packaged model, or a hub id.
    adapter: a folder or hub id of a LoRA adapter to put on top.
    device: `auto` (a GPU where there is one), or a name that torch knows.
    dtype: `auto` (bfloat16 where the device computes in it, else float32), or a name that torch
        knows.
    quantize: one of `QUANTIZATIONS`, in which weights are kept; `dtype` is what is computed in.

    Raises
    ------
    ModelError: it cannot be found, read or used; the message says which.
    MissingExtraError: quantised weights need bitsandbytes.
    """
    if device == "auto":
        device = default_device()
    if dtype == "auto":
        dtype = default_dtype(device)
    if not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ModelError(f"unknown dtype {dtype!r}: expected auto, float32, bfloat16 or float16")

    small = _quantization(quantize, getattr(torch, dtype)) if quantize else None
    source, adapters = sources(name, adapter)
    tokenizer = _tokenizer_of(source, adapters)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        check_kind(str(name), config)
        _check_size(str(adapter or name), tokenizer, config.get_text_config().vocab_size)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            trust_remote_code=False,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            output_loading_info=True,
            # Quantised weights cannot be moved later.
            **({"quantization_config": small, "device_map": {"": device}} if small else {}),
        )
        model, missing_and_foreign = loaded
        check_whole(str(name), missing_and_foreign)
    except _UNREADABLE as error:
        raise _cannot_load(str(name), error) from error
    for added in adapters:
        model = _with_adapter(model, added, merged=small is None)
    try:
        model = model.eval() if small else model.to(device).eval()
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ModelError(f"cannot move model {str(name)!r} to {device!r}: {error}") from error
    check_causal(str(name), model)
    return wrap(str(adapter or name), model, tokenizer)


def wrap(name: str, model: Any, tokenizer: Any) -> LoadedModel:
    """A model and a tokenizer that are loaded already.

    Raises
    ------
    ModelError: they do not fit together, or nothing ends an answer.
    """
    config = model.config.get_text_config()
    vocabulary = _vocabulary(name, tokenizer, config.vocab_size, model.generation_config)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = vocabulary.ends[0]
    # Now rather than with the first text.
    token_ids(tokenizer, vocabulary, [{"role": "user", "content": "Text"}])
    steerable = TokenTransformers(model, tokenizer)
    return LoadedModel(name, tokenizer, vocabulary, _context(config), steerable)


def _context(config: Any) -> int | None:
    """See `LoadedModel.context`."""
    most = getattr(config, "max_position_embeddings", None)
    rotary = getattr(config, "rope_parameters", None) or {}
    for kind in (rotary, *(of for of in rotary.values() if isinstance(of, dict))):
        if kind.get("rope_type") in ("dynamic", "longrope"):
            limit = kind.get("original_max_position_embeddings")
            most = min(filter(None, (most, limit)), default=None)
    return most


def load_tokens(
    name: str | Path = DEFAULT_MODEL, adapter: str | Path | None = None
) -> LanguageModel:
    """A model without its weights; see `load_model`."""
    source, adapters = sources(name, adapter)
    tokenizer = _tokenizer_of(source, adapters)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False).get_text_config()
        try:
            generation = GenerationConfig.from_pretrained(source)
        except OSError:  # there is none, and transformers makes it so when it loads a model
            generation = GenerationConfig.from_model_config(config)
    except _UNREADABLE as error:
        raise _cannot_load(source, error) from error
    vocabulary = _vocabulary(str(name), tokenizer, config.vocab_size, generation)
    return LanguageModel(str(adapter or name), tokenizer, vocabulary, _context(config))


def _vocabulary(name: str, tokenizer: Any, size: int, generation: Any) -> Vocabulary:
    _check_size(name, tokenizer, size)
    ends = generation.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    # The tokenizer's own end of turn comes first: it is what training writes.
    if tokenizer.eos_token_id is not None:
        ends = [tokenizer.eos_token_id, *(end for end in ends if end != tokenizer.eos_token_id)]
    return Vocabulary.of(tokenizer, size, ends)


def _check_size(name: str, tokenizer: Any, size: int) -> None:
    """See that the model has an embedding for each token."""
    tokens = max(tokenizer.get_vocab().values()) + 1
    if tokens > size:
        raise ModelError(
            f"model {name!r}: the tokenizer has {tokens} tokens, the model {size}: expected no "
            "more (an adapter with tokens of its own has to be merged into a model that has them)"
        )


def dtype_name(model: LoadedModel) -> str:
    """What it computes in, as torch calls it."""
    bare: Any = model.steerable.model
    return str(bare.dtype).removeprefix("torch.")


def device_name(model: LoadedModel) -> str:
    """The hardware, as it calls itself, and how much of it is used."""
    bare: Any = model.steerable.model
    if bare.device.type == "cuda":
        return str(torch.cuda.get_device_name())
    used, there = torch.get_num_threads(), os.cpu_count()
    cores = f"{there} cores" if used == there else f"{used} of {there} cores"
    return f"{processor_name()}, {cores}"


def processor_name() -> str:
    """The processor, as it calls itself where the system tells it."""
    listing = Path("/proc/cpuinfo")
    names = []
    if listing.exists():
        names = re.findall(r"^model name\s*: (.+)$", listing.read_text(), re.MULTILINE)
    return names[0] if names else platform.processor() or platform.machine()


def base_of(name: str | Path) -> str:
    """What transformers loads for a name, adapters left out: a folder or a hub id."""
    return sources(name)[0]


def sources(name: str | Path, adapter: str | Path | None = None) -> tuple[str, list[str]]:
    """What is loaded for a model: a folder or hub id, and the folders of adapters to put on it.

    Raises
    ------
    ModelError: there is none.
    """
    source, adapters = _sources(str(name))
    return source, adapters if adapter is None else [*adapters, _adapter_folder(str(adapter))]


def _sources(name: str, above: tuple[str, ...] = ()) -> tuple[str, list[str]]:
    """What transformers is to load for a name, a folder or a hub id, and the adapters to put on.

    Parameters
    ----------
    above: the adapters that have led here.
    """
    source = str(packaged_model()) if name == BASE_MODEL else folder_of(name)
    if gguf := gguf_in(Path(source)):
        return str(converted(gguf)), []
    if not Path(source).is_dir():
        source = _from_hub(source)
        if not Path(source).is_dir() and _is_adapter(source):
            source = _adapter_folder(source)
    if (Path(source) / "adapter_config.json").is_file():
        if source in above:
            raise ModelError(f"cannot load model {name!r}: it is an adapter for itself")
        base, adapters = _sources(_named_base(source), (*above, source))
        return base, [*adapters, source]
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise ModelError(
            f"cannot load model {name!r}: the folder has no config.json, adapter_config.json or "
            "GGUF file"
        )
    return source, []


def _adapter_folder(name: str) -> str:
    """The folder of an adapter, with all of its files, where it is on the hub, too."""
    if Path(name).is_dir() and not (Path(name) / "adapter_config.json").is_file():
        # peft would look for it on the hub.
        raise ModelError(f"cannot load adapter {name!r}: the folder has no adapter_config.json")
    source = name if Path(name).is_dir() else _from_hub(name)
    if Path(source).is_dir():
        return source
    try:
        return snapshot_download(
            source, allow_patterns=["*.json", "*.jinja", "*.model", "*.safetensors"]
        )
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"cannot load adapter {name!r}: {reason}") from error


def _is_adapter(repository: str) -> bool:
    """Whether a model on the hub is an adapter."""
    try:
        return file_exists(repository, "adapter_config.json")
    except OSError:  # what is wrong is said where it is loaded
        return False


def _from_hub(name: str) -> str:
    """The id of a model on the hub or, where the hub cannot be reached, the folder of its files.

    Each of transformers' own calls would try to reach it again and again, for a minute or more.
    """
    try:
        downloaded = snapshot_download(name, local_files_only=True)
    except HFValidationError:
        raise ModelError(f"no model {name!r}: there is no such folder") from None
    except LocalEntryNotFoundError:
        downloaded = ""
    problem = _hub_problem()
    if not problem:
        return name
    if downloaded:
        return downloaded
    raise ModelError(
        f"no model {name!r}: there is no such folder, it was not downloaded before, and the hub "
        f"cannot be reached ({problem})"
    )


def _hub_problem() -> str:
    """Why the hub cannot be reached; empty where it answers, whatever it says."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_TIMEOUT).close()
    except HTTPError:
        return ""
    except URLError as error:
        return "" if isinstance(error.reason, SSLError) else f"{constants.ENDPOINT}: {error.reason}"
    except (HTTPException, OSError, ValueError) as error:  # or the address is none
        return f"{constants.ENDPOINT}: {error}"
    return ""


def has_tokenizer(folder: str) -> bool:
    """Whether an adapter brings a tokenizer along."""
    return (Path(folder) / "tokenizer.json").is_file()


def _tokenizer_of(source: str, adapters: Sequence[str]) -> Any:
    """The tokenizer of a model, or that of an adapter on it, with the latter's chat template."""
    own = [folder for folder in adapters if has_tokenizer(folder)]
    try:
        place = own[-1] if own else source
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except _UNREADABLE as error:
        raise _cannot_load(own[-1] if own else source, error) from error
    for folder in adapters:
        if (template := Path(folder) / "chat_template.jinja").is_file():
            tokenizer.chat_template = template.read_text(encoding="utf-8")
    return tokenizer


def _cannot_load(name: str, error: Exception) -> ModelError:
    return ModelError(
        f"cannot load model {name!r}: {reason_of(error)} (expected a folder with a model, "
        f"{DEFAULT_MODEL!r}, or the id of a model on the hub)"
    )


def _quantization(name: str, dtype: torch.dtype) -> Any:
    """How transformers is to quantise weights."""
    if name not in QUANTIZATIONS:
        raise ModelError(f"unknown quantisation {name!r}: expected {' or '.join(QUANTIZATIONS)}")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise MissingExtraError("quantised weights", "quantize") from None
    make: Any = BitsAndBytesConfig
    if name == "int8":
        return make(load_in_8bit=True)
    return make(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _with_adapter(model: Any, adapter: str, *, merged: bool) -> Any:
    """The model with an adapter.

    Parameters
    ----------
    merged: into its weights. Into quantised ones it would be rounded away in part: beside them it
        keeps its own precision.
    """
    from peft import PeftModel

    try:
        with warnings.catch_warnings():  # peft uses a name that transformers is about to change
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            both = PeftModel.from_pretrained(model, adapter)
            return both.merge_and_unload() if merged else both.base_model.model
    except _UNREADABLE as error:
        raise ModelError(f"cannot load adapter {adapter!r}: {reason_of(error)}") from error


def _named_base(adapter: str) -> str:
    """The model that an adapter names as the one that it is for."""
    from peft import PeftConfig

    try:
        base = PeftConfig.from_pretrained(adapter).base_model_name_or_path
    except _UNREADABLE as error:
        raise _cannot_load(adapter, error) from error
    if not base:
        raise ModelError(f"adapter {adapter!r} does not say which model it is for")
    return str(base)
