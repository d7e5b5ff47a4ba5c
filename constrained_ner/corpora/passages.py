"""Between a document's text and the passages in which some formats keep it.

Formats with passages give the offset of each one in the document, and leave a gap between two of
them, which is one character as a rule. It is read as a line break, which is what it stands for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from constrained_ner.corpora.annotations import Annotation, best_reading, checked
from constrained_ner.corpora.conversion_losses import ConversionLosses
from constrained_ner.corpora.files import encodable
from constrained_ner.corpora.offsets import CHARACTERS, OffsetReading, StandoffText, readings_of
from constrained_ner.documents import Document, Passage
from constrained_ner.errors import InputError

GAP = "\n"
GAP_LIMIT = 100_000  # characters of a text; wrong offsets must not make one of gigabytes

Piece = tuple[int, str]  # an offset in the document, and the text that begins there


# ---- reading ------------------------------------------------------------------------------------


def lay_out(pieces: Iterable[Piece], reading: OffsetReading = CHARACTERS) -> StandoffText:
    """The text that has each piece at its offset, and line breaks between them.

    Raises
    ------
    InputError: pieces overlap, or leave gaps of more than `GAP_LIMIT` characters.
    """
    laid: list[str] = []
    end = gaps = 0
    for offset, piece in sorted(pieces):
        if not piece:
            continue
        if offset < end:
            raise InputError(
                f"a passage at offset {offset} begins before the end of another one, {end}"
            )
        gaps += offset - end
        if gaps > GAP_LIMIT:
            raise InputError(
                f"there are {gaps} characters without text before the passage at "
                f"offset {offset}: expected {GAP_LIMIT} at most"
            )
        laid += [GAP * (offset - end), piece]
        end = offset + reading.length(piece)
    return StandoffText("".join(laid), reading)


def _layouts(pieces: Sequence[Piece]) -> Iterator[StandoffText]:
    """The texts under all readings of the offsets that leave no two pieces overlapping.

    Raises
    ------
    InputError: there is none; the reason is that of plain characters.
    """
    failure: InputError | None = None
    possible = False
    for reading in readings_of("".join(text for _, text in pieces)):
        if reading.line_break == 2:  # then the line breaks of the gaps would count two as well
            continue
        try:
            text = lay_out(pieces, reading)
        except InputError as error:
            failure = failure or error
        else:
            possible = True
            yield text
    if failure and not possible:
        raise failure


def document_of(
    id: str,
    passages: Sequence[tuple[str, Sequence[Piece]]],
    annotations: Sequence[Annotation],
    place: str,
    repairs: Counter[str],
) -> Document:
    """The document of passages and of annotations with offsets into it.

    Parameters
    ----------
    passages: type and pieces of each one; without a type it is text and no `Passage`.
    place, repairs: see `best_reading`.

    Raises
    ------
    InputError: passages overlap, are too far from one another, or have a lone surrogate.
    """
    pieces = [piece for _, parts in passages for piece in parts if piece[1]]
    for offset, piece in pieces:
        if encodable(piece) != piece:
            raise InputError(f"the passage at offset {offset} has a lone surrogate")
    text = best_reading(annotations, _layouts(pieces), place, repairs)
    typed = []
    for type, parts in passages:
        spans = [(text.index(offset), len(piece)) for offset, piece in parts if piece]
        if type and spans:
            end = max(start + length for start, length in spans)
            typed.append(Passage(type, min(spans)[0], end))
    typed.sort(key=lambda passage: passage.start)
    document = Document(id, text.text, passages=tuple(typed))
    return checked(document, annotations, text, repairs)


def title_and_abstract(title: str, abstract: str) -> tuple[str, tuple[Passage, ...]]:
    """The text of the two with one line break between them, and its passages."""
    start = len(title) + 1
    passages = [Passage("title", 0, len(title))] if title else []
    if abstract:
        passages.append(Passage("abstract", start, start + len(abstract)))
    return f"{title}{GAP}{abstract}" if abstract else title, tuple(passages)


# ---- writing ------------------------------------------------------------------------------------


def cover(document: Document, losses: ConversionLosses) -> list[Passage]:
    """Passages that hold the whole text but the gaps.

    Text that lies in none of the document's passages gets one without a type.
    """
    found: list[Passage] = []
    if not all(passage.type for passage in document.passages):
        losses.add("passages without a type, which are not kept", document)

    def add_between(start: int, end: int) -> None:
        between = document.text[start:end]
        if between.strip() or not document.passages:
            found.append(Passage("", start, end))
        elif between != GAP * len(between):
            losses.add("gaps between passages, read back as line breaks", document)

    last = 0
    for passage in document.passages:
        if last < passage.start:
            add_between(last, passage.start)
        found.append(passage)
        last = passage.end
    if last < len(document.text):
        add_between(last, len(document.text))
    if found and document.text[found[-1].end :]:
        losses.add("texts that end in white space, which is not kept", document)
    return found
