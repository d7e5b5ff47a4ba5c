"""The wording of prompts.

It is the paper's (listing 1): the task and the data set, how to answer, and the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from constrained_ner.formats import Format

DEFAULT_DATASET = "biomedical"


@dataclass(frozen=True)
class Target:
    """Labels that are asked for together, as a data set has them.

    Attributes
    ----------
    labels: in the order in which they are asked for.
    name: what prompts call the data set.
    guideline: its annotation guidelines. `guidelines`: the same by label.
    """

    labels: tuple[str, ...]
    name: str = DEFAULT_DATASET
    guideline: str = ""
    guidelines: dict[str, str] = field(default_factory=dict)

    def of(self, labels: Sequence[str]) -> Target:
        """The same data set, asked for these labels."""
        return Target(tuple(labels), self.name, self.guideline, self.guidelines)

    @property
    def guideline_text(self) -> str:
        """The guidelines that hold for the labels, one a line; empty where there are none."""
        by_label = [
            f"{name}: {self.guidelines[name]}" for name in self.labels if name in self.guidelines
        ]
        return "\n".join(filter(None, [self.guideline, *by_label]))


def prompt(format: Format, text: str, target: Target, *, index: bool = False) -> str:
    """The message that states the task.

    Parameters
    ----------
    target: its guidelines are on lines of their own after the task: `d_i` of the paper's
        equation 2.
    index: show each word with its offset or number, see `Format.indexed`.
    """
    guideline = target.guideline_text
    return (
        "The task you need to complete is named entity recognition. "
        f"Follow {target.name} guidelines.\n"
        + (f"{guideline}\n" if guideline else "")
        + f"{format.instruction(target.labels)}\n"
        f"Text: {format.indexed(text) if index else text}"
    )
