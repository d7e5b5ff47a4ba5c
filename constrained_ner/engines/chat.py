"""Chat messages, and the token ids that a model reads of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Message = dict[str, str]  # `role` and `content`, as transformers has them


def token_ids(tokenizer: Any, chat: Sequence[Message]) -> list[int]:
    """Token ids of messages, up to where the model's answer begins.

    Parameters
    ----------
    tokenizer: of transformers.
    """
    if tokenizer.chat_template is None:
        return list(tokenizer(plain_template(chat))["input_ids"])
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    # The template has the special tokens; the tokenizer must not add a second set.
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def plain_template(chat: Sequence[Message]) -> str:
    """Messages as plain text, for a model that has no chat template."""
    parts = [f"{message['content']}\n" for message in chat]
    return "\n".join(parts) + "\n"
