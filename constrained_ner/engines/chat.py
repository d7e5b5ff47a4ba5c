"""Chat messages, and the token ids that a model reads of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import ModelError, reason_of
from constrained_ner.words import trimmed

Message = dict[str, str]  # `role` and `content`, as transformers has them


def token_ids(tokenizer: Any, vocabulary: Vocabulary, chat: Sequence[Message]) -> list[int]:
    """Token ids of messages, up to where the model's answer begins.

    A message whose content reads like a special token does not end its turn: it is text there.

    Parameters
    ----------
    tokenizer: of transformers. `vocabulary`: of the same.

    Raises
    ------
    ModelError: the chat template fails, or does not show each message.
    """
    plain = tokenizer.chat_template is None
    prompt = plain_template(chat) if plain else _rendered(tokenizer, chat)
    # A template has the special tokens; the tokenizer must not add a second set.
    encoding = tokenizer(prompt.text, add_special_tokens=plain, return_offsets_mapping=True)
    tokens: list[int] = encoding["input_ids"]
    places: list[tuple[int, int]] = encoding["offset_mapping"]
    in_message = [prompt.has(*place) for place in places]
    spelling = vocabulary.spelling
    # Some models mark turns with tokens that are added to the vocabulary and not called special.
    marks = {
        token
        for token, inside in zip(tokens, in_message, strict=True)
        if token in spelling.added and spelling.data[token].strip() and not inside
    }
    found = [[token] for token in tokens]
    for i, token in enumerate(tokens):
        if in_message[i] and (token in spelling.control or token in marks):
            found[i] = spelling.tokenize(prompt.text[slice(*places[i])], marks)
    for start, end in prompt.answers:
        inside = [i for i, (a, b) in enumerate(places) if start <= a < b <= end]
        these = slice(inside[0], inside[-1] + 1) if inside else slice(0)
        whole = inside and (places[inside[0]][0], places[inside[-1]][1]) == (start, end)
        if whole and not spelling.written(tokens[these]).startswith(b" "):
            # In the tokens that the model wrote: a tokenizer that normalises may have others.
            answer = spelling.tokenize(prompt.text[start:end], marks)
            found[these] = [answer, *([] for _ in inside[1:])]
    return [token for part in found for token in part]


@dataclass(frozen=True)
class Prompt:
    """A text in which messages stand.

    Attributes
    ----------
    contents: where those of the messages do. `answers`: of them those of the model.
    """

    text: str
    contents: tuple[tuple[int, int], ...]
    answers: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, pieces: Sequence[str | Message]) -> Prompt:
        """A prompt of what a template writes and of messages."""
        text = ""
        contents: list[tuple[int, int]] = []
        answers: list[tuple[int, int]] = []
        for piece in pieces:
            if isinstance(piece, str):
                text += piece
                continue
            place = len(text), len(text) + len(piece["content"])
            text += piece["content"]
            contents.append(place)
            if piece["role"] == "assistant":
                answers.append(place)
        return cls(text, tuple(contents), tuple(answers))

    def has(self, start: int, end: int) -> bool:
        """Whether a piece lies in a message, but for white space around it."""
        span = trimmed(self.text, start, end)
        return span is not None and any(a <= span[0] and span[1] <= b for a, b in self.contents)


def plain_template(chat: Sequence[Message]) -> Prompt:
    """Messages as plain text, for a model that has no chat template."""
    return Prompt.of([piece for message in chat for piece in (message, "\n\n")])


def _rendered(tokenizer: Any, chat: Sequence[Message]) -> Prompt:
    """What the chat template makes of messages.

    It sees a mark in place of each content, so that none can change what it writes of the others.
    """
    contents = [message["content"].strip() for message in chat]
    known = set("".join(contents))
    mark = next(char for char in map(chr, range(0xF0000, 0x10FFFE)) if char not in known)
    marked = [
        # White space around a content is left to the template, which may trim it.
        {**message, "content": message["content"].replace(content, f"{mark}{i}{mark}")}
        if content
        else message
        for i, (message, content) in enumerate(zip(chat, contents, strict=True))
    ]
    try:
        text = tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True)
    except (TemplateError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelError(
            f"the model's chat template cannot be used: {reason_of(error, kind=True)}"
        ) from None
    parts = re.split(f"{mark}(\\d+){mark}", text)
    shown = [int(number) for number in parts[1::2]]
    missing = [i for i, content in enumerate(contents) if content and i not in shown]
    if missing:
        raise ModelError(
            f"the model's chat template leaves out message {missing[0] + 1} of {len(chat)} (role "
            f"{chat[missing[0]]['role']!r}): expected one that writes each message's content, "
            "which is a string, into the prompt"
        )
    pieces: list[str | Message] = [*parts]
    pieces[1::2] = [{**chat[i], "content": contents[i]} for i in shown]
    return Prompt.of(pieces)
