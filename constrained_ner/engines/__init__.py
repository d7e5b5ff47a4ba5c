"""Engines: a language model that answers requests under a grammar.

`base` says what an engine is. `speculative` is the default, `reference` decodes token by token
through outlines. Both hold their answers (`sequence`) to a grammar with masks (`masks`) and to a
budget with completions (`completion`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from constrained_ner.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable

    from constrained_ner.engines.base import Capabilities, Engine
    from constrained_ner.engines.models import LanguageModel

DEFAULT_ENGINE = "speculative"
REFERENCE = "reference"
SCHEMA_ENGINES = ("outlines_core", "xgrammar")
ENGINES = (DEFAULT_ENGINE, REFERENCE, *SCHEMA_ENGINES)


class Chosen(NamedTuple):
    """An engine for a model.

    Attributes
    ----------
    make: the engine, of a model and a number of rows; see `Engine`.
    capabilities: what it can do.
    unsupported_reason: why it is not the speculative engine that was asked for; else empty.
    """

    make: Callable[..., Engine]
    capabilities: Capabilities
    unsupported_reason: str = ""


def choose_engine(name: str, model: LanguageModel) -> Chosen:
    """The engine of a name; the reference where a model does not suit the speculative one.

    Raises
    ------
    UnknownNameError: there is none of that name.
    """
    if name not in ENGINES:
        raise UnknownNameError(f"unknown engine {name!r}: expected one of {', '.join(ENGINES)}")
    from constrained_ner.engines.reference import ReferenceEngine, SchemaEngine
    from constrained_ner.engines.speculative import SpeculativeEngine, unsupported_reason

    if name in SCHEMA_ENGINES:
        return Chosen(partial(SchemaEngine, backend=name), SchemaEngine.capabilities)
    reason = unsupported_reason(model) if name == DEFAULT_ENGINE else ""
    speculative = name == DEFAULT_ENGINE and not reason
    chosen: type[Engine] = SpeculativeEngine if speculative else ReferenceEngine
    return Chosen(chosen, chosen.capabilities, reason)
