"""What decodes for `cner predict`: the engine, and where and how it runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from constrained_ner.cli.asking import Asking
from constrained_ner.cli.messages import detail, say
from constrained_ner.cli.options import (
    Number,
    given,
    options,
    running_options,
    unmasked_option,
)
from constrained_ner.documents import Document
from constrained_ner.engines import (
    DEFAULT_ENGINE,
    ENGINES,
    SCHEMA_ENGINES,
    SERVER,
    VLLM,
    check_without_grammars,
)
from constrained_ner.errors import InputError
from constrained_ner.pipeline.prediction import Prediction

if TYPE_CHECKING:
    from constrained_ner.engines.base import Chosen
    from constrained_ner.engines.language_model import LanguageModel
    from constrained_ner.engines.server import Connection
    from constrained_ner.pipeline.predictor import Predictor
    from constrained_ner.pipeline.workers import Workers

RAY = "ray"
_IN_WORKERS = tuple(name for name in ENGINES if name != SERVER)
# The options that some engines alone know.
_OF_ENGINES = {
    "base_url": (SERVER,),
    "served_model": (SERVER,),
    "timeout": (SERVER,),
    "retries": (SERVER,),
    "unmasked": (SERVER, VLLM),
    "vllm_option": (VLLM,),
    "workers": (RAY,),
    "worker_engine": (RAY,),
    "worker_cpus": (RAY,),
    "worker_gpus": (RAY,),
    "address": (RAY,),
}


def _setting(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> Any:
    """`NAME=VALUE`, the value as JSON where it is some."""
    found = {}
    for one in values:
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{one!r}: expected NAME=VALUE", context, option)
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


# What `Running.of` takes.
engine_options = options(
    running_options,
    click.option(
        "--engine",
        type=click.Choice((*ENGINES, RAY)),
        default=DEFAULT_ENGINE,
        show_default=True,
        help="What decodes: several tokens with each call of the model, or one with `reference`; "
        "the answers are the same. `openai` asks a server, `vllm` has the model in vLLM, `ray` "
        "gives the documents to workers. The others are outlines' own, for JSON formats at the "
        "syntax level.",
    ),
    click.option(
        "--base-url",
        envvar="CNER_BASE_URL",
        default=None,
        help="For --engine openai: the address of the server, up to /v1. --model has the "
        "tokenizer of what it serves, and what was measured of it; keys are read from the "
        "variables CNER_API_KEY or OPENAI_API_KEY.",
    ),
    click.option(
        "--served-model",
        default="",
        help="What the server calls the model.  [default: the only one that it has]",
    ),
    click.option(
        "--timeout",
        type=Number(0, 86_400, min_open=True),
        default=120,
        show_default=True,
        help="Seconds that the server has for an answer.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(0),
        default=5,
        show_default=True,
        help="How often a request to the server is tried again, with growing pauses.",
    ),
    unmasked_option,
    click.option(
        "--vllm-option",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_setting,
        help="More of vLLM's own arguments, such as tensor_parallel_size=2.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1),
        default=2,
        show_default=True,
        help="For --engine ray: how many; each has a model of its own.",
    ),
    click.option(
        "--worker-engine",
        type=click.Choice(_IN_WORKERS),
        default=DEFAULT_ENGINE,
        show_default=True,
        help="What decodes in a worker.",
    ),
    click.option(
        "--worker-cpus",
        type=click.IntRange(1),
        default=None,
        help="Cores of a worker.  [default: its share of this machine]",
    ),
    click.option(
        "--worker-gpus",
        type=Number(0),
        default=0.0,
        show_default=True,
        help="GPUs of a worker: 0.5 puts two of them on one.",
    ),
    click.option(
        "--address",
        default="",
        help="The Ray cluster, as Ray says it: `auto`, ray://head:10001.  "
        "[default: that of RAY_ADDRESS, or this machine]",
    ),
)


# Their names, as the command gets them.
ENGINE_OPTIONS = ("engine", "device", "dtype", "quantize", "batch_size", *_OF_ENGINES)


@dataclass(frozen=True)
class Running:
    """An engine, and where and how it runs.

    Attributes
    ----------
    lenient: what becomes of answers that leave their grammar, where others decode.
    connection: of the engine `openai`.
    vllm: vLLM's own arguments.
    workers: how many there are, where Ray has them; 0: none. `worker`: what each has, see
        `pipeline.workers`.
    """

    engine: str
    device: str
    dtype: str
    quantize: str | None
    batch_size: int
    lenient: bool = False
    connection: Connection | None = None
    vllm: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 0
    worker: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        *,
        engine: str,
        device: str,
        dtype: str,
        quantize: str | None,
        batch_size: int,
        base_url: str | None,
        served_model: str,
        timeout: float,
        retries: int,
        unmasked: str,
        vllm_option: dict[str, Any],
        workers: int,
        worker_engine: str,
        worker_cpus: int | None,
        worker_gpus: float,
        address: str,
    ) -> Running:
        """What the options of `engine_options` say. A server is tried.

        Raises
        ------
        click.UsageError: they exclude each other.
        ModelError: the server cannot be used.
        """
        used = (RAY, worker_engine) if engine == RAY else (engine,)
        for name, engines in _OF_ENGINES.items():
            if given(name) and not set(engines) & set(used):
                wanted = [f"--engine {one}" for one in engines]
                wanted += [f"--worker-engine {one}" for one in engines if one in _IN_WORKERS]
                raise click.UsageError(
                    f"--{name.replace('_', '-')} goes with {' or '.join(wanted)}"
                )
        if VLLM in used and (given("device") or given("quantize")):
            raise click.UsageError(
                "--device and --quantize are not for vLLM, which has its own: "
                "CUDA_VISIBLE_DEVICES, --vllm-option quantization=..."
            )
        if engine == SERVER and any(map(given, ("device", "dtype", "quantize"))):
            raise click.UsageError(
                "--device, --dtype and --quantize are not for a server, which has its own"
            )
        if VLLM in used or engine == SERVER:
            quantize = None
        lenient = unmasked == "lenient"
        connection = None
        if engine == SERVER:
            connection = _connect(base_url, served_model, timeout, retries, lenient)
        worker = {"address": address, "cpus": worker_cpus or 0, "gpus": worker_gpus}
        return cls(
            used[-1],
            device,
            dtype,
            quantize,
            batch_size,
            lenient,
            connection,
            vllm_option,
            *((workers, worker) if engine == RAY else ()),
        )

    @property
    def log_probabilities(self) -> bool:
        """Whether it tells how likely tokens are under the mask."""
        if self.connection is not None:
            return self.connection.log_probabilities
        return self.engine not in SCHEMA_ENGINES

    def check(self, asking: Asking) -> None:
        """See that it can be asked in this way, before a model is loaded.

        Raises
        ------
        UnknownNameError: it takes no grammars, and the level or a format needs them.
        """
        server = self.connection
        without = self.engine in SCHEMA_ENGINES if server is None else server.way is None
        if without:
            task = asking.task
            check_without_grammars(self.engine, task.formats, task.targets[0].labels, asking.level)

    def settings(self) -> dict[str, Any]:
        """What answers depend on of it; not on how many workers there are."""
        server = self.connection
        return {
            "device": self.device,
            "dtype": self.dtype,
            "quantisation": self.quantize,
            "batch size": self.batch_size,
            "engine": self.engine,
            "server": server and [server.server.base_url, server.model, server.way_name],
            "vLLM's arguments": self.vllm or None,
            "without its grammar": "read leniently" if self.lenient else None,
        }

    def answers(
        self, asking: Asking, *, recorded: bool, on_answer: Callable[[Document, int], None]
    ) -> Predictor | Workers:
        """What answers documents.

        Parameters
        ----------
        recorded: whether confidences are recorded.
        on_answer: see `Predictor`; workers do not call it.
        """
        if not self.workers:
            return self.predictor(asking, recorded=recorded, on_answer=on_answer)
        from constrained_ner.pipeline.workers import Workers

        detail(f"workers: {self.workers}, each with {self.engine}")
        # The function that reads the documents stays here.
        make = partial(self.predictor, replace(asking, documents=tuple), recorded=recorded)
        return Workers(make, partial(_failed, asking), self.workers, **self.worker).start()

    def predictor(self, asking: Asking, *, recorded: bool, **rest: Any) -> Predictor:
        """The predictor of this process, with its model; see `Predictor` for `rest`."""
        from constrained_ner.engines.models import device_name, dtype_name, load_model, load_tokens

        names = asking.model, asking.adapter
        model: LanguageModel
        engine: str | Chosen = self.engine
        if self.connection is not None:
            model, engine = load_tokens(*names), self.connection.engine
            url, way = self.connection.server.base_url, self.connection.way_name
            detail(f"model: {self.connection.model}, at {url}, by {way}")
        elif self.engine == VLLM:
            from constrained_ner.engines.vllm import vllm_engine

            model = load_tokens(*names)
            engine = vllm_engine(*names, dtype=self.dtype, lenient=self.lenient, options=self.vllm)
            detail(f"model: {model.name}, in vLLM")
        else:
            model = loaded = load_model(
                *names, device=self.device, dtype=self.dtype, quantize=self.quantize
            )
            detail(f"model: {model.name}, {dtype_name(loaded)}, on {device_name(loaded)}")
        made = asking.predictor(
            model, recorded=recorded, batch_size=self.batch_size, engine=engine, **rest
        )
        if made.unsupported_reason:
            say(f"decoding goes token by token: {made.unsupported_reason}")
        return made


def _failed(asking: Asking, document: Document | InputError, reason: str) -> Prediction:
    """The prediction for a document that no worker could answer."""
    formats, level = asking.task.formats, asking.level
    if isinstance(document, InputError):
        return Prediction("", "", formats=formats, level=level, error=str(document))
    return Prediction(
        document.id,
        document.text,
        formats=formats,
        level=level,
        passages=document.passages,
        meta=document.meta,
        error=f"document {document.id!r}: {reason}",
    )


def _connect(
    base_url: str | None, model: str, timeout: float, retries: int, lenient: bool
) -> Connection:
    if base_url is None:
        raise click.UsageError(f"--engine {SERVER} needs --base-url")
    if not base_url.startswith(("http://", "https://")):
        raise click.UsageError(f"--base-url {base_url}: expected http:// or https://")
    from constrained_ner.engines.server import Server, connect

    return connect(Server(base_url, model, timeout, retries, lenient))
