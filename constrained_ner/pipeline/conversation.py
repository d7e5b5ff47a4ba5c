"""What is asked about one text: chat messages, in one turn or in several that follow each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from constrained_ner.documents import Document
from constrained_ner.engines.chat import Message
from constrained_ner.formats import Format
from constrained_ner.pipeline.prompts import Target, prompt


@dataclass(frozen=True)
class Conversation:
    """A text, and the labels that are asked for about it.

    Attributes
    ----------
    target: with the labels of all turns; see `Format.turns`.
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
        """The messages up to the one that the model is to answer.

        Parameters
        ----------
        answers: to the turns before.
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
        """An annotated document asked about as this text is, and its gold answers.

        For a model that was not trained for the task. Guidelines stand in the last question only,
        and what the format cannot write of the document is left out.
        """
        target = Target(self.target.labels, self.target.name)
        shown = Conversation(self.format, document.text, target, self.index)
        answers = [
            self.format.write(document.text, self.format.expressible(document, turn)[0], turn)
            for turn in self.turns
        ]
        return [
            *shown.messages(answers[:-1]),
            {"role": "assistant", "content": answers[-1]},
        ]
