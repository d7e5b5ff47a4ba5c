"""The wording of a prompt.

It is the paper's (listing 1): the task and the data set whose guidelines hold, how to answer, the
text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
