"""Between a document's text and the passages in which some formats keep it.

Formats with passages give each one's offset in the document, and leave a gap between two of them:
one character, as a rule. It is read as a line break, which is what it stands for.
"""

from __future__ import annotations

from collections.abc import Iterable

from constrained_ner.corpora.conversion_losses import ConversionLosses
from constrained_ner.documents import Document, Passage
from constrained_ner.errors import InputError

GAP = "\n"
GAP_LIMIT = 100_000  # characters; a wrong offset must not make a text of gigabytes


def lay_out(pieces: Iterable[tuple[int, str]]) -> str:
    """The text that has each piece at its offset, and line breaks between them.

    Raises
    ------
    InputError: pieces overlap, or leave a gap of more than `GAP_LIMIT` characters.
    """
    text = ""
    for offset, piece in sorted(pieces):
        if not piece:
            continue
        if offset < len(text):
            raise InputError(
                f"a passage at offset {offset} begins before the end of another one, {len(text)}"
            )
        if offset - len(text) > GAP_LIMIT:
            raise InputError(
                f"there are {offset - len(text)} characters without text before the passage at "
                f"offset {offset}: expected {GAP_LIMIT} at most"
            )
        text += GAP * (offset - len(text)) + piece
    return text


def title_and_abstract(title: str, abstract: str) -> tuple[str, tuple[Passage, ...]]:
    """The text of the two with one line break between them, and its passages."""
    start = len(title) + 1
    passages = [Passage("title", 0, len(title))] if title else []
    if abstract:
        passages.append(Passage("abstract", start, start + len(abstract)))
    return lay_out([(0, title), (start, abstract)]), tuple(passages)


def cover(document: Document, losses: ConversionLosses) -> list[Passage]:
    """Passages that hold the whole text, but for the gaps; those without a type have none."""
    found: list[Passage] = []

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
