"""From documents to training examples: token ids, and a mask of those that the loss is taken on.

An example is a question as `cner predict` puts it to the model, followed by the answer, token by
token as the masks allow it at inference, and the token that ends a turn. The loss is taken on the
answers and on the tokens that end them, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constrained_ner.documents import Document
from constrained_ner.engines.chat import Message
from constrained_ner.engines.language_model import LanguageModel
from constrained_ner.engines.replay import masks_of, replay
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import CnerError, TrainingError
from constrained_ner.formats import Format, get_format
from constrained_ner.formats import Options as FormatOptions
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.conversation import Conversation
from constrained_ner.pipeline.prompts import Target


@dataclass(frozen=True)
class Question:
    """What is asked about a document, and how.

    Attributes
    ----------
    target: of which data set, and for which labels in this order.
    index: whether the prompt shows the place of every word.
    """

    document: Document
    format: str
    target: Target
    options: FormatOptions = field(default_factory=FormatOptions)
    index: bool = False

    def __str__(self) -> str:
        return f"{self.target.name}, document {self.document.id!r}, {self.format}"

    @property
    def opening(self) -> tuple[Any, ...]:
        """What decides how the prompt begins, up to the text."""
        # the turns of a conversation name them behind the text
        labels = () if get_format(self.format).conversational else self.target.labels
        guidelines = self.target.guideline_text
        return (self.target.name, self.format, labels, self.options, guidelines)

    @property
    def turns(self) -> list[tuple[str, ...]]:
        """The label sets that are answered one after the other."""
        return get_format(self.format).turns(self.target.labels)

    def chat(self, answers: Sequence[str] = ()) -> list[Message]:
        """The messages up to the one to be answered, after these answers."""
        format = get_format(self.format, self.options)
        talk = Conversation(format, self.document.text, self.target, self.index)
        return talk.messages(answers)


@dataclass(frozen=True)
class Example:
    """A question with its gold answers, as the model sees it.

    Attributes
    ----------
    tokens: [n] token ids of prompt and answers. `mask`: [n], true where the loss is taken.
    dropped: gold entities that the format cannot write.
    turn: the number of the first turn that is answered in it, from 0.
    """

    question: Question
    tokens: tuple[int, ...]
    mask: tuple[bool, ...]
    dropped: int = 0
    turn: int = 0


def make_examples(question: Question, model: LanguageModel) -> list[Example]:
    """Token ids and loss mask of a question and its gold answers.

    The turns of a conversation are one example, each going on from the one before, as long as the
    prompt shows earlier answers in the tokens that the model wrote. Else the turn begins another
    one: without a chat template nothing in a prompt ends an answer, some templates end it with
    another token than the model does, and some change earlier turns.

    Raises
    ------
    TrainingError: the tokens of an answer are not those that the masks allow; or an example is
        longer than the context.
    """
    format = get_format(question.format, question.options)
    made: list[Example] = []
    begun = Example(question, (), ())
    answers: list[str] = []
    for turn, labels in enumerate(question.turns):
        chat = question.chat(answers)
        prompt = tuple(model.encode(chat))
        if prompt[: len(begun.tokens)] != begun.tokens:
            made.append(begun)
            begun = Example(question, (), (), turn=turn)
        answer, dropped = _gold(question, format, labels)
        written = [*model.vocabulary.tokenize(answer), _end(model, chat, answer)]
        _check(question, format, labels, written, model.vocabulary)
        shown = len(prompt) - len(begun.tokens)
        begun = replace(
            begun,
            tokens=(*prompt, *written),
            mask=(*begun.mask, *[False] * shown, *[True] * len(written)),
            dropped=begun.dropped + dropped,
        )
        answers.append(answer)
    made.append(begun)
    longest = max(len(example.tokens) for example in made)
    if model.context is not None and longest > model.context:
        raise TrainingError(
            f"{question}: {longest} tokens, and the model has room for {model.context}: leave "
            "such documents out, or cut them into sentences"
        )
    return made


def allowed(example: Example, vocabulary: Vocabulary) -> NDArray[np.uint32]:
    """The masks of the tokens that a loss is taken on, [n, vocabulary / 32], a bit a token.

    They are made when they are wanted: those of all examples do not fit into memory.
    """
    question = example.question
    format = get_format(question.format, question.options)
    written = [
        [token for token, _ in group]
        for on, group in groupby(zip(example.tokens, example.mask, strict=True), itemgetter(1))
        if on
    ]
    found = []
    for labels, tokens in zip(question.turns[example.turn :], written, strict=False):
        grammar = format.grammar(question.document.text, labels, Level.FAITHFUL)
        found.append(masks_of(vocabulary, vocabulary.matcher(grammar), tokens)[: len(tokens)])
    return np.concatenate(found)


def _end(model: LanguageModel, chat: list[Message], answer: str) -> int:
    """The token that ends an answer: the one that the chat template puts there, if it is one."""
    ends = model.vocabulary.ends
    if len(ends) > 1:
        going_on: list[Message] = [
            {"role": "assistant", "content": answer},
            {"role": "user", "content": "."},
        ]
        written = [*model.encode(chat), *model.vocabulary.tokenize(answer)]
        behind = model.encode([*chat, *going_on])
        if behind[: len(written)] == written and behind[len(written)] in ends:
            return behind[len(written)]
    return ends[0]


def _gold(question: Question, format: Format, labels: tuple[str, ...]) -> tuple[str, int]:
    kept, dropped = format.expressible(question.document, labels, Level.FAITHFUL)
    document = replace(question.document, entities=kept)
    return format.encode(document, labels, Level.FAITHFUL), len(dropped)


def _check(
    question: Question,
    format: Format,
    labels: tuple[str, ...],
    tokens: list[int],
    vocabulary: Vocabulary,
) -> None:
    """What the model learns to write has to be what the masks let it write."""
    try:
        grammar = format.grammar(question.document.text, labels, Level.FAITHFUL)
        good = replay(vocabulary, vocabulary.matcher(grammar), tokens)
    except CnerError as error:
        raise TrainingError(f"{question}: {error}") from None
    if good < len(tokens):
        before = vocabulary.text_of(tokens[:good])
        refused = vocabulary.text_of(tokens[good : good + 1]) or "the end"
        raise TrainingError(
            f"{question}: the masks refuse the gold answer at offset {len(before)}, after "
            f"{before[-40:]!r}: {refused!r}"
        )
