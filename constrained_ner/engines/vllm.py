"""vLLM in this process: continuous batching, a cache of prompts' beginnings, LoRA adapters.

It takes the grammar, and applies it through llguidance; what it wrote is held to it in `external`.
Prompts are the token ids that all engines get. Log-probabilities are asked for under the mask.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from constrained_ner.engines.base import (
    Answer,
    Answered,
    Capabilities,
    Chosen,
    Engine,
    Request,
    Requests,
)
from constrained_ner.engines.external import Written, checked, has_ended, limit_of
from constrained_ner.engines.models import default_device, default_dtype, has_tokenizer, sources
from constrained_ner.errors import (
    CnerError,
    DecodingError,
    MissingExtraError,
    ModelError,
    reason_of,
)

NAME = "vllm"
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that it can make room for


def vllm_engine(
    name: str | Path,
    adapter: str | Path | None = None,
    *,
    dtype: str = "auto",
    lenient: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Chosen:
    """Load a model into vLLM.

    Parameters
    ----------
    name, adapter, dtype: see `models.load_model`.
    lenient: read answers that leave the grammar as free ones, and mark them; else they are errors.
    options: more arguments for `vllm.LLM`, such as `tensor_parallel_size`.

    Raises
    ------
    ModelError: vLLM cannot load it; or there are several adapters, one on another.
    MissingExtraError: vLLM is not installed.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # In this process, which ends with it and can be interrupted.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    try:
        import vllm
        from vllm.lora.request import LoRARequest
    except ImportError:
        raise MissingExtraError("the engine vllm", "vllm") from None
    base, adapters = sources(name, adapter)
    if len(adapters) > 1:
        raise ModelError(
            f"model {str(adapter or name)!r} is {len(adapters)} adapters, one on another: expected "
            "one for vLLM, or a model that they are merged into"
        )
    device = default_device()
    given: dict[str, Any] = {
        "model": base,
        # vLLM's own choice would be float16 for weights in float32.
        "dtype": default_dtype(device) if dtype == "auto" else dtype,
        "structured_outputs_config": {"backend": "guidance"},
        "logprobs_mode": "processed_logprobs",
        "enable_prefix_caching": True,
    }
    if device == "cpu":
        given["gpu_memory_utilization"] = 0.4  # of main memory, in which others are, too
    lora = None
    if adapters:
        (folder,) = adapters
        given |= {"enable_lora": True, "max_lora_rank": _rank(folder)}
        if has_tokenizer(folder):
            given["tokenizer"] = folder
        lora = LoRARequest(Path(folder).name, 1, folder)
    try:
        llm = vllm.LLM(**given | dict(options or {}))
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = reason_of(error)
        raise ModelError(f"vLLM cannot load model {str(adapter or name)!r}: {reason}") from error
    make = partial(VllmEngine, llm=llm, lora=lora, lenient=lenient)
    return Chosen(make, VllmEngine.capabilities, NAME)


def _rank(folder: str) -> int:
    """The least that there can be room for and that the adapter fits into."""
    config = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))
    ranks = [config["r"], *config.get("rank_pattern", {}).values()]
    return next((rank for rank in _RANKS if rank >= max(ranks)), _RANKS[-1])


class VllmEngine(Engine):
    """See the module.

    Parameters
    ----------
    model: the tokens of what `llm` holds.
    llm: a `vllm.LLM`. `lora`: the adapter that it is to use.
    """

    capabilities = Capabilities()

    def __init__(self, *given: Any, llm: Any, lora: Any, lenient: bool = False, **options: Any):
        super().__init__(*given, **options)
        self._vllm, self._lora, self._lenient = llm.llm_engine, lora, lenient

    def _decode(self, requests: Requests) -> Iterator[Answered]:
        numbers = count()
        asked: dict[str, Request] = {}
        try:
            while True:
                while len(asked) < self.rows and (request := requests()) is not None:
                    name = str(next(numbers))
                    try:
                        self._ask(name, request)
                    except ValueError as error:  # it refuses the prompt or the grammar
                        reason = reason_of(error)
                        yield request, DecodingError(f"{request.name}: {NAME}: {reason}")
                    else:
                        asked[name] = request
                if not asked:
                    return
                outputs = self._vllm.step()
                self.costs.calls += bool(outputs)  # none while grammars are being compiled
                for output in outputs:
                    if output.finished:
                        request = asked.pop(output.request_id)
                        yield request, self._outcome(request, output.outputs[0])
        finally:
            self._vllm.abort_request(list(asked))

    def _ask(self, name: str, request: Request) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        grammar = request.grammar
        constraint = None
        if grammar is not None:
            source = self.model.vocabulary.source_of(grammar)
            constraint = StructuredOutputsParams(grammar=source)
        settings = SamplingParams(
            temperature=0.0,
            max_tokens=limit_of(request),
            logprobs=0 if self.record else None,
            stop_token_ids=list(self.model.vocabulary.ends),
            structured_outputs=constraint,
        )
        prompt = {"prompt_token_ids": request.prompt}
        self._vllm.add_request(name, prompt, settings, lora_request=self._lora)

    def _outcome(self, request: Request, output: Any) -> Answer | CnerError:
        try:
            ended = has_ended(output.finish_reason)
        except DecodingError as error:
            return DecodingError(f"{request.name}: {NAME}: {error}")
        tokens = tuple(output.token_ids)
        kept = tuple(token for token in tokens if token not in self.model.vocabulary.ends)
        logs = tuple(
            at[token].logprob for token, at in zip(tokens, output.logprobs or (), strict=False)
        )
        text = self.model.vocabulary.text_of(kept)
        written = Written(text, ended, kept, logs)
        answer = checked(request, written, self.model.vocabulary, by=NAME, lenient=self._lenient)
        self.costs.tokens += len(tokens)
        return answer
