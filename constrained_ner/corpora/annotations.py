"""Annotations as files state them: offsets and, beside them, the text that should stand there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from constrained_ner.corpora.files import LOGGER, encodable
from constrained_ner.corpora.offsets import CHARACTERS, StandoffText, readings_of
from constrained_ner.corpora.spelling import spelled_alike
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError
from constrained_ner.words import trimmed

LARGEST_OFFSET = 2**63
STRIPPED = "mentions with white space at their edges, which was stripped"
# What is counted, of corpora that keep annotations in files of their own.
UNANNOTATED = "texts without a file of annotations, read as without entities"

Fragments = tuple[tuple[int, int], ...]
Files = TypeVar("Files")  # those that make one document
Item = TypeVar("Item")  # of a record, as its file has it

# What some files write between two fragments, where the text has other words.
_GAP_MARK = re.compile(r"\[(?:\.\.\.|…)\]|\((?:\.\.\.|…)\)|\.\.\.|…")


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation of a file, not yet checked.

    Attributes
    ----------
    place, line: where it stands, for messages; the line may be unknown.
    fragments: the offsets as they are written: in any order, overlapping, with white space at the
        edges.
    surface: the text that the file gives for it; None where it gives none.
    confidence: how sure a model is of it, from 0 to 1; None where the file does not say.
    """

    place: str
    line: int | None
    label: str
    fragments: Fragments
    surface: str | None = None
    confidence: float | None = None

    @property
    def where(self) -> str:
        return self.place if self.line is None else f"{self.place}:{self.line}"

    def problem(self, text: StandoffText) -> str | None:
        """Why it cannot be an annotation of `text`; None where it can be one."""
        if any(abs(offset) > LARGEST_OFFSET for pair in self.fragments for offset in pair):
            return "its offsets are larger than any text"  # and too long to be printed
        offsets = ";".join(f"{start} {end}" for start, end in self.fragments)
        if not self.fragments:
            return "it has no offsets"
        if any(not 0 <= start < end for start, end in self.fragments):
            return f"the fragments {offsets} are not all 0 <= start < end"
        if max(end for _, end in self.fragments) > text.end:
            size = f"{text.end - text.reading.start} {text.reading.unit}"
            return f"the offsets {offsets} lie outside the text, which has {size}"
        # No spelling is so much shorter, and to compare the long piece would take a while.
        length = sum(end - start for start, end in self.fragments)
        if self.surface is not None and length > 1000 + 100 * len(self.surface):
            return f"the surface {self.surface!r:.80} is far shorter than what {offsets} give"
        in_order, as_written = self._at_offsets(text)
        if not in_order:
            return f"the text at the offsets {offsets} is white space"
        if self.surface is not None:
            surface = _normalised([self.surface])
            if not surface:
                return f"the offsets {offsets} have a blank surface"
            if not self._fits(surface, in_order) and not self._fits(surface, as_written):
                return f"the surface {surface!r:.80} is not what {offsets} give, {in_order!r:.80}"
        return None

    def spelled_otherwise(self, text: StandoffText) -> bool:
        """Whether the file and the text spell its surface in two ways."""
        return self.surface is not None and (
            _normalised([self.surface]) not in self._at_offsets(text)
        )

    def _at_offsets(self, text: StandoffText) -> tuple[str, str]:
        """What stands at the fragments: in text order, and in the order in which they are written.

        The surface that a file gives has either order.
        """
        in_order, as_written = (
            _normalised(text.between(start, end) for start, end in fragments)
            for fragments in (sorted(self.fragments), self.fragments)
        )
        return in_order, as_written

    def _fits(self, surface: str, at_offsets: str) -> bool:
        """Whether the surface is that of the text, in another spelling at most."""
        if surface == at_offsets or spelled_alike(surface, at_offsets):
            return True
        without_marks = _GAP_MARK.sub(" ", surface)
        return len(self.fragments) > 1 and spelled_alike(without_marks, at_offsets)

    def warn(self, problem: str) -> None:
        what = encodable(self.label) or "an annotation"
        LOGGER.warning("%s: skipped %s: %s", self.where, what, problem)


def _normalised(pieces: Iterable[str]) -> str:
    return " ".join(" ".join(pieces).split())


def well_formed(
    items: Iterable[Item],
    make: Callable[[Item], Iterable[Annotation]],
    place: Callable[[Item], str],
) -> list[Annotation]:
    """The annotations of the items of a record; malformed ones are logged as warnings and skipped.

    Parameters
    ----------
    make: of one item; raises `InputError` where it is malformed.
    place: where an item stands, for the log.
    """
    found: list[Annotation] = []
    for item in items:
        try:
            found += make(item)
        except InputError as error:
            LOGGER.warning("%s: skipped an annotation: %s", place(item), error.reason)
    return found


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
    return tuple(span for span in (trimmed(text, *fragment) for fragment in fragments) if span)


def annotated(
    document: Document,
    annotations: Sequence[Annotation],
    repairs: Counter[str],
    marked: bool = False,
) -> Document:
    """The document with those annotations that fit its text; the others are logged as warnings.

    The offsets are read in the way in which the most surfaces fit.

    Parameters
    ----------
    repairs: counts of what was put right, to be logged once a file.
    marked: a byte order mark stands before the text.
    """
    if not annotations:
        return document
    texts = (StandoffText(document.text, one) for one in readings_of(document.text, marked))
    best = best_reading(annotations, texts, annotations[0].where, repairs)
    return checked(document, annotations, best, repairs)


def best_reading(
    annotations: Iterable[Annotation],
    texts: Iterable[StandoffText],
    place: str,
    repairs: Counter[str],
) -> StandoffText:
    """The text under that reading of its offsets with which the most surfaces fit.

    Parameters
    ----------
    texts: one for each reading, at least one; of equally good ones the first is taken.
    place: where the document stands, for the log.
    repairs: counts the documents whose offsets do not count characters; the first one of each kind
        is logged by itself.
    """
    with_surface = [annotation for annotation in annotations if annotation.surface is not None]
    best, most = None, -1
    for text in texts:
        fitting = sum(not annotation.problem(text) for annotation in with_surface)
        if fitting > most:
            best, most = text, fitting
        if most == len(with_surface):
            break
    assert best is not None, "there is at least one reading"
    if best.reading != CHARACTERS:
        kind = f"documents whose offsets count {best.reading}"
        if not repairs[kind]:
            said = "%s: the offsets count %s: %d of %d surfaces fit so"
            LOGGER.info(said, place, best.reading, most, len(with_surface))
        repairs[kind] += 1
    return best


def checked(
    document: Document,
    annotations: Iterable[Annotation],
    text: StandoffText,
    repairs: Counter[str],
) -> Document:
    """As `annotated`, where it is known what the offsets count."""
    found: list[tuple[Entity, float | None]] = []
    for annotation in annotations:
        problem = annotation.problem(text)
        if problem is None and not annotation.label:
            problem = "it has no label"
        if problem is None and encodable(annotation.label) != annotation.label:
            problem = "its label has a lone surrogate"
        if problem is not None:
            annotation.warn(problem)
            continue
        repairs["mentions that the text spells otherwise"] += annotation.spelled_otherwise(text)
        in_order = merged(tuple(text.span(start, end) for start, end in annotation.fragments))
        fragments = stripped(in_order, text.text)
        surface = annotation.surface
        blank = surface is not None and surface != surface.strip()
        repairs[STRIPPED] += fragments != in_order or blank
        found.append((Entity(annotation.label, fragments), annotation.confidence))
    entities = {entity for entity, _ in found}
    repairs["annotations that say the same as another one"] += len(found) - len(entities)
    return replace(document, entities=tuple(entities), confidences=highest(found))


def probability(value: str) -> float | None:
    """The number from 0 to 1 that a string says, if it says one."""
    try:
        found = float(value)
    except ValueError:
        return None
    return found if 0 <= found <= 1 else None


def highest(pairs: Iterable[tuple[Entity, float | None]]) -> dict[Entity, float]:
    """By entity the highest of its confidences, where it has any."""
    found: dict[Entity, float] = {}
    for entity, confidence in pairs:
        if confidence is not None:
            found[entity] = max(confidence, found.get(entity, 0.0))
    return found


def documents_of(
    groups: Mapping[str, Files],
    make: Callable[[str, Files, Counter[str]], Document],
    place: object,
) -> Iterator[Document | InputError]:
    """A document of the files of each id, sorted by id, or the `InputError` in its place.

    What `make` counts as repaired is logged at the end, also where the caller stops early.
    """
    with repairs_of(place) as repairs:
        for id, files in sorted(groups.items()):
            try:
                yield make(id, files, repairs)
            except InputError as error:
                yield error


@contextmanager
def repairs_of(place: object) -> Iterator[Counter[str]]:
    """A count of the repairs that are made here, logged in the end.

    Also where the caller of a generator stops early.
    """
    repairs: Counter[str] = Counter()
    try:
        yield repairs
    finally:
        log_repairs(repairs, place)


def log_repairs(repairs: Counter[str], place: object) -> None:
    """One line for each kind of repair that was made."""
    for what, count in repairs.items():
        if count:
            LOGGER.info("%s: %d %s", place, count, what)
