"""Annotations as files state them: offsets and, beside them, the text that should stand there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from constrained_ner.corpora.files import LOGGER
from constrained_ner.documents import Entity

Fragments = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation of a file, not yet checked.

    Attributes
    ----------
    place, line: where it stands, for messages; the line may be unknown.
    fragments: as written: in any order, overlapping, with white space at their edges.
    surface: the text that the file gives for it; None where it gives none.
    """

    place: str
    line: int | None
    label: str
    fragments: Fragments
    surface: str | None = None

    def problem(self, text: str) -> str | None:
        """Why it cannot be an annotation of `text`."""
        offsets = ";".join(f"{start} {end}" for start, end in self.fragments)
        if not self.fragments:
            return "it has no offsets"
        if any(not 0 <= start < end for start, end in self.fragments):
            return f"the fragments {offsets} are not all 0 <= start < end"
        if max(end for _, end in self.fragments) > len(text):
            return f"the offsets {offsets} lie outside the text, which has {len(text)} characters"
        in_order = _normalised(text[start:end] for start, end in sorted(self.fragments))
        if not in_order:
            return f"the text at the offsets {offsets} is white space"
        if self.surface is not None:
            expected = _normalised([self.surface])
            written = _normalised(text[start:end] for start, end in self.fragments)
            if not expected:
                return f"the offsets {offsets} have a blank surface"
            if expected not in (written, in_order):
                return f"the surface {expected!r:.80} is not what {offsets} give, {in_order!r:.80}"
        return None

    def warn(self, problem: str) -> None:
        place = self.place if self.line is None else f"{self.place}:{self.line}"
        LOGGER.warning("%s: skipped %s: %s", place, self.label or "an annotation", problem)


def _normalised(pieces: Iterable[str]) -> str:
    return " ".join(" ".join(pieces).split())


def merged(fragments: Fragments) -> Fragments:
    """In text order; overlapping ones are merged, touching ones are kept."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(fragments):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


def stripped(fragments: Fragments, text: str) -> Fragments:
    """Without white space at the edges of each fragment, and without blank fragments."""
    kept = []
    for start, end in fragments:
        piece = text[start:end]
        if piece.strip():
            kept.append((start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())))
    return tuple(kept)


def entities_of(
    annotations: Iterable[Annotation], text: str, repairs: Counter[str]
) -> list[Entity]:
    """The entities of the annotations that fit `text`; the others are logged as warnings.

    Parameters
    ----------
    repairs: counts of what was put right, to be logged once a file.
    """
    entities = []
    for annotation in annotations:
        problem = annotation.problem(text)
        if problem is None and not annotation.label:
            problem = "it has no label"
        if problem is not None:
            annotation.warn(problem)
            continue
        in_order = merged(annotation.fragments)
        fragments = stripped(in_order, text)
        surface = annotation.surface
        blank = surface is not None and surface != surface.strip()
        repairs["mentions with white space at their edges, which was stripped"] += (
            fragments != in_order or blank
        )
        entities.append(Entity(annotation.label, fragments))
    repairs["annotations that say the same as another one"] += len(entities) - len(set(entities))
    return entities


def log_repairs(repairs: Counter[str], place: object) -> None:
    for what, count in repairs.items():
        if count:
            LOGGER.info("%s: %d %s", place, count, what)
