"""A language model as prompts and grammars see it, wherever its weights are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from constrained_ner.engines.chat import Message, token_ids
from constrained_ner.engines.vocabulary import Vocabulary


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model's tokenizer, and what decoding needs to know of it.

    Attributes
    ----------
    tokenizer: of transformers.
    context: the most tokens of prompt and answer together; None where the model names none. Some
        models scale positions by the length of a text that is longer than those of their first
        training: the context ends there, since one row of a batch would change the others.
    """

    name: str
    tokenizer: Any
    vocabulary: Vocabulary
    context: int | None

    def encode(self, chat: Sequence[Message]) -> list[int]:
        """Token ids of messages, up to where the model's answer begins."""
        return token_ids(self.tokenizer, self.vocabulary, chat)
