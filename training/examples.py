"""From documents to training examples: token ids, and a mask of those that the loss is taken on.

An example is a question as `cner predict` puts it to the model, followed by the answer, token by
token as the masks allow it at inference, and the token that ends a turn. The loss is taken on the
answers and on the tokens that end them, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from constrained_ner.documents import Document
from constrained_ner.engines.chat import Message
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import CnerError, TrainingError
from constrained_ner.evaluation.coverage import replay
from constrained_ner.formats import Format, get_format
from constrained_ner.formats import Options as FormatOptions
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.conversation import Conversation
from constrained_ner.pipeline.prompts import DEFAULT_DATASET


class Tokenizing(Protocol):
    """What is needed of a `LanguageModel` to make examples; the weights are not."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def context(self) -> int | None: ...

    def encode(self, chat: list[Message]) -> list[int]: ...


@dataclass(frozen=True)
class Question:
    """What is asked about a document, and how.

    Attributes
    ----------
    corpus: name of the data set, for counts. `dataset`: the one whose guidelines the prompt names.
    labels: those asked for, in this order.
    index: whether the prompt shows the offset of every word.
    guideline: annotation guidelines to put into the prompt.
    """

    corpus: str
    document: Document
    format: str
    labels: tuple[str, ...]
    options: FormatOptions = field(default_factory=FormatOptions)
    dataset: str = DEFAULT_DATASET
    index: bool = False
    guideline: str = ""

    def __str__(self) -> str:
        return f"{self.corpus}, document {self.document.id!r}, {self.format}"

    @property
    def opening(self) -> tuple[Any, ...]:
        """What decides how the prompt begins, up to the text."""
        # the turns of a conversation name them behind the text
        labels = () if get_format(self.format).conversational else self.labels
        return (self.dataset, self.format, labels, self.options, self.guideline)

    @property
    def turns(self) -> list[tuple[str, ...]]:
        """The label sets that are answered one after the other."""
        return get_format(self.format).turns(self.labels)

    def chat(self, answers: Sequence[str] = ()) -> list[Message]:
        """The messages up to the one to be answered, after these answers."""
        return Conversation(
            get_format(self.format, self.options),
            self.document.text,
            self.labels,
            self.dataset,
            self.index,
            self.guideline,
        ).messages(answers)


@dataclass(frozen=True)
class Example:
    """A question with its gold answers, as the model sees it.

    Attributes
    ----------
    tokens: [n] token ids of prompt and answers. `mask`: [n], true where the loss is taken.
    dropped: gold entities that the format cannot write.
    """

    question: Question
    tokens: tuple[int, ...]
    mask: tuple[bool, ...]
    dropped: int = 0


def make_example(question: Question, model: Tokenizing) -> Example:
    """Token ids and loss mask of a question and its gold answers.

    Raises
    ------
    TrainingError: the tokens of an answer are not those that the masks allow; the chat template
        does not keep the turns before as they were; or the example is longer than the context.
    """
    format = get_format(question.format, question.options)
    tokens: list[int] = []
    mask: list[bool] = []
    answers: list[str] = []
    dropped = 0
    for labels in question.turns:
        prompt = model.encode(question.chat(answers))
        if prompt[: len(tokens)] != tokens:
            raise TrainingError(
                f"{question}: turn {len(answers) + 1}: the chat template or the tokenizer writes "
                "the turns before in other tokens than the model did: expected them to stay"
            )
        answer, left_out = _gold(question, format, labels)
        dropped += left_out
        written = [*model.vocabulary.tokenize(answer), model.vocabulary.ends[0]]
        _check(question, format, labels, written, model.vocabulary)
        mask += [False] * (len(prompt) - len(tokens)) + [True] * len(written)
        tokens = prompt + written
        answers.append(answer)
    if model.context is not None and len(tokens) > model.context:
        raise TrainingError(
            f"{question}: {len(tokens)} tokens, and the model has room for {model.context}: leave "
            "such documents out, or cut them into sentences"
        )
    return Example(question, tuple(tokens), tuple(mask), dropped)


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
