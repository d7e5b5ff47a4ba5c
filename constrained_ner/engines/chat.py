"""Chat messages, and the token ids that a model reads of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

Message = dict[str, str]  # `role` and `content`, as transformers has them

# In place of a message's content, in characters for private use.
_MARK = "\ue000{}\ue001"
_MARKS = re.compile("\ue000(\\d+)\ue001")


def token_ids(tokenizer: Any, chat: Sequence[Message]) -> list[int]:
    """Token ids of messages, up to where the model's answer begins.

    A message whose content reads like a special token does not end its turn: it is text there.

    Parameters
    ----------
    tokenizer: of transformers.
    """
    special = any(
        token in message["content"] for token in tokenizer.all_special_tokens for message in chat
    )
    if tokenizer.chat_template is None:
        whole = plain_template(chat)
        return list(tokenizer(whole, split_special_tokens=special)["input_ids"])
    if not special:
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        # The template has the special tokens; the tokenizer must not add a second set.
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    marked = [{**message, "content": _MARK.format(i)} for i, message in enumerate(chat)]
    text = tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True)
    found: list[int] = []
    for i, piece in enumerate(_MARKS.split(text)):
        content = i % 2 == 1
        found += tokenizer(
            chat[int(piece)]["content"] if content else piece,
            add_special_tokens=False,
            split_special_tokens=content,
        )["input_ids"]
    return found


def plain_template(chat: Sequence[Message]) -> str:
    """Messages as plain text, for a model that has no chat template."""
    parts = [f"{message['content']}\n" for message in chat]
    return "\n".join(parts) + "\n"
