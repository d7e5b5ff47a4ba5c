"""From a text, labels and a format to chat messages.

The wording is the paper's (listing 1): the task and the data set whose guidelines hold, how to
answer, the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from constrained_ner.documents import Document
from constrained_ner.engines.chat import Message
from constrained_ner.formats import Format

DEFAULT_DATASET = "biomedical"


def guideline_text(guideline: str, by_label: Mapping[str, str], labels: Sequence[str]) -> str:
    """Annotation guidelines for a prompt that asks for these labels; empty where there are none."""
    lines = [f"{label}: {by_label[label]}" for label in labels if label in by_label]
    return "\n".join([guideline, *lines] if guideline else lines)


@dataclass(frozen=True)
class Target:
    """Labels that are asked for together, as one data set has them.

    Attributes
    ----------
    dataset: what the prompt calls the data set.
    guideline: its annotation guidelines, for the prompt. `guidelines`: the same by label, put in
        where the label is asked for.
    """

    labels: tuple[str, ...]
    dataset: str = DEFAULT_DATASET
    guideline: str = ""
    guidelines: Mapping[str, str] = field(default_factory=dict)

    def guideline_for(self, labels: Sequence[str]) -> str:
        return guideline_text(self.guideline, self.guidelines, labels)


def prompt(
    format: Format,
    text: str,
    labels: Sequence[str],
    dataset: str = DEFAULT_DATASET,
    *,
    index: bool = False,
    guideline: str = "",
) -> str:
    """The task, in one message.

    Parameters
    ----------
    labels: those asked for, in the order in which they are named.
    index: show with every word what answers point at, see `Format.indexed`.
    guideline: annotation guidelines, on lines of their own after the task: `d_i` of the paper's
        equation 2.
    """
    return (
        "The task you need to complete is named entity recognition. "
        f"Follow {dataset} guidelines.\n"
        + (f"{guideline}\n" if guideline else "")
        + f"{format.instruction(labels)}\n"
        f"Text: {format.indexed(text) if index else text}"
    )


def messages(
    format: Format,
    text: str,
    labels: Sequence[str],
    dataset: str = DEFAULT_DATASET,
    *,
    index: bool = False,
    answers: Sequence[str] = (),
    guideline: str = "",
) -> list[Message]:
    """The messages up to the one that the model is to answer.

    Parameters
    ----------
    labels: those of the question. For conv_term all labels of the conversation: turn k asks for
        the k-th.
    answers: for conv_term the answers to the turns before.
    """
    opening = prompt(format, text, labels, dataset, index=index, guideline=guideline)
    if format.name != "conv_term":
        return [{"role": "user", "content": opening}]
    found: list[Message] = []
    for turn, label in enumerate(labels[: len(answers) + 1]):
        asked = f"Type: {label}"
        found.append({"role": "user", "content": asked if turn else f"{opening}\n{asked}"})
        if turn < len(answers):
            found.append({"role": "assistant", "content": answers[turn]})
    return found


def demonstrations(
    format: Format,
    examples: Sequence[Document],
    labels: Sequence[str],
    dataset: str = DEFAULT_DATASET,
    *,
    index: bool = False,
) -> list[Message]:
    """Annotated documents as question and answer, for a model that was not trained for the task.

    Parameters
    ----------
    labels: those of the question to come; for conv_term all labels of the conversation.

    What the format cannot write of an example is left out of its answer.
    """
    found: list[Message] = []
    for example in examples:
        questions = format.questions(labels) if format.name == "conv_term" else [tuple(labels)]
        answers = [
            format.write(example.text, format.expressible(example, question)[0], question)
            for question in questions
        ]
        found += messages(format, example.text, labels, dataset, index=index, answers=answers[:-1])
        found.append({"role": "assistant", "content": answers[-1]})
    return found
