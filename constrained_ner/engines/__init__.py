"""Engines: a language model that answers requests under a grammar.

`base` says what an engine is. `speculative` is the default, `reference` decodes token by token
through outlines. Both hold their answers (`sequence`) to a grammar with masks (`masks`) and to a
budget with completions (`completion`). The engines of others (`server`, `vllm`) are given the
grammar, and what they write is held to it afterwards (`external`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from constrained_ner.errors import UnknownNameError
from constrained_ner.formats.grammar import Level

if TYPE_CHECKING:
    from constrained_ner.engines.base import Chosen, Engine
    from constrained_ner.engines.language_model import LanguageModel
    from constrained_ner.formats import Format

DEFAULT_ENGINE = "speculative"
REFERENCE = "reference"
SCHEMA_ENGINES = ("outlines_core", "xgrammar")
SERVER, VLLM = "openai", "vllm"
ENGINES = (DEFAULT_ENGINE, REFERENCE, *SCHEMA_ENGINES, SERVER, VLLM)


def choose_engine(name: str, model: LanguageModel) -> Chosen:
    """The engine of a name; the reference where a model does not suit the speculative one.

    Raises
    ------
    UnknownNameError: there is none of that name, or it is one that has to be connected to.
    """
    if name not in ENGINES:
        raise UnknownNameError(f"unknown engine {name!r}: expected one of {', '.join(ENGINES)}")
    if name == SERVER:
        raise UnknownNameError(f"the engine {name} needs a server: see `engines.server.connect`")
    if name == VLLM:
        raise UnknownNameError(f"the engine {name} has its own weights: see `engines.vllm`")
    from constrained_ner.engines.base import Chosen
    from constrained_ner.engines.models import LoadedModel
    from constrained_ner.engines.reference import ReferenceEngine, SchemaEngine
    from constrained_ner.engines.speculative import SpeculativeEngine, unsupported_reason

    if name in SCHEMA_ENGINES:
        return Chosen(partial(SchemaEngine, backend=name), SchemaEngine.capabilities, name)
    assert isinstance(model, LoadedModel)  # these engines have its weights
    reason = unsupported_reason(model) if name == DEFAULT_ENGINE else ""
    speculative = name == DEFAULT_ENGINE and not reason
    chosen: type[Engine] = SpeculativeEngine if speculative else ReferenceEngine
    return Chosen(chosen, chosen.capabilities, name, reason)


def check_without_grammars(
    name: str, formats: Sequence[Format], labels: Sequence[str], level: Level
) -> None:
    """See that an engine that takes JSON schemas, and no grammars, can be asked in this way.

    Raises
    ------
    UnknownNameError: it cannot; the message says what it knows.
    """
    if level != Level.SYNTAX:
        raise UnknownNameError(
            f"the engine {name} knows the syntax level only (--level syntax): it takes no grammar "
            "made from a text"
        )
    for format in formats:
        if format.schema(format.questions(labels)[0]) is None:
            raise UnknownNameError(
                f"the engine {name} takes JSON schemas, and {format.name} has none"
            )
