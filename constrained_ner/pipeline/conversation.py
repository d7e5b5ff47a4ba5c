"""The chat messages that ask about one text, in a single turn or in several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from constrained_ner.documents import Document
from constrained_ner.engines.chat import Message
from constrained_ner.formats import Format
from constrained_ner.pipeline.prompts import Target, prompt
from constrained_ner.pipeline.view import in_one_line


@dataclass(frozen=True)
class Conversation:
    """A text, and the labels that a model is asked for.

    Attributes
    ----------
    target: has the labels of all turns; see `Format.turns`.
    index: see `prompt`.
    """

    format: Format
    text: str
    target: Target
    index: bool = False

    @property
    def turns(self) -> list[tuple[str, ...]]:
        return self.format.turns(self.target.labels)

    def messages(self, answers: Sequence[str] = ()) -> list[Message]:
        """The messages up to the question that the model has to answer next.

        Parameters
        ----------
        answers: those to the turns before it.
        """
        opening = prompt(self.format, self.text, self.target, index=self.index)
        found: list[Message] = []
        for number, labels in enumerate(self.turns[: len(answers) + 1]):
            parts = [] if number else [opening]
            if self.format.conversational:
                parts.append(f"Type: {', '.join(labels)}")
            found.append({"role": "user", "content": "\n".join(parts)})
            if number < len(answers):
                found.append({"role": "assistant", "content": answers[number]})
        return found

    def demonstration(self, document: Document) -> list[Message]:
        """The same questions about an annotated document, with its gold answers.

        They show the task to a model that was not trained for it. They have no guidelines, which
        the question about the text has, and no entities that the format cannot write.
        """
        document = in_one_line(document)
        target = Target(self.target.labels, self.target.name)
        shown = Conversation(self.format, document.text, target, self.index)
        answers = []
        for turn in self.turns:
            kept, _ = self.format.expressible(document, turn)
            answers.append(self.format.encode(replace(document, entities=kept), turn))
        return [
            *shown.messages(answers[:-1]),
            {"role": "assistant", "content": answers[-1]},
        ]
