"""What a caller may choose about a format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from constrained_ner.errors import UnknownNameError

# Far above any annotated mention we know of: three fragments in the published corpora.
MAX_FRAGMENTS = 8


@dataclass(frozen=True)
class Options:
    """What a caller may choose; a format ignores what does not concern it.

    Parameters
    ----------
    boundaries: where surfaces and offsets may begin and end at the faithful level: `word` or
        `character`.
    max_fragments: the most fragments of a discontinuous entity at the faithful level.
    anchor: what decides the offsets of a multi_brat line: its `surface` or its `offsets`.
    words: what multi_bio tags: `space` (maximal runs of non-space) or `fine` (split at
        punctuation, too).
    order: `text`, or `paper` for reproduction: case-insensitive alphabetical.
    """

    boundaries: str = "word"
    max_fragments: int = 1
    anchor: str = "surface"
    words: str = "space"
    order: str = "text"

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "boundaries": ("word", "character"),
        "anchor": ("surface", "offsets"),
        "words": ("space", "fine"),
        "order": ("text", "paper"),
    }

    def __post_init__(self) -> None:
        for name, allowed in self.CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UnknownNameError(
                    f"unknown {name} {getattr(self, name)!r}: expected one of {', '.join(allowed)}"
                )
        most: object = self.max_fragments  # records and callers may have anything there
        if type(most) is not int or not 1 <= most <= MAX_FRAGMENTS:
            raise UnknownNameError(f"max_fragments is {most!r}: expected 1 to {MAX_FRAGMENTS}")
