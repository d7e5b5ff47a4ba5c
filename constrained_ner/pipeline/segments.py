"""Cutting a text into the segments that a model is asked about, one at a time.

A text comes in blocks: a paragraph, whose lines may be wrapped, a heading, an item of a list, a row
of a table. Blocks are cut into sentences by sentencex (MIT; Wikimedia's rules), which knows
abbreviations and decimals, and which is told of some more that clinical and biological texts have.
Line ends of any kind are the same.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

from sentencex import get_sentence_boundaries

from constrained_ner.pipeline.view import View, view_of
from constrained_ner.words import Span

SEGMENTS = ("none", "sentence", "window")
# Words of the longest sentences that models are trained on, about: of longer texts they find less.
WINDOW = 60

_LINE = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
_LINE_END = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# ---- what a line is, by its first and last characters
_ITEM = re.compile(
    r"(?:[-*+•‣◦▪·–—]|\(?(?:[0-9]{1,2}|[A-Za-z]|[ivxIVX]{2,4})[.)]|#[0-9]*)[^\S\n\r]+(?=\S)"
)
_KEY = re.compile(r"[A-Z][^\s:]*(?:[^\S\n\r][^\s:]+){0,4}:(?=\s|$)")
_HEADING = re.compile(r"[A-Z][^\s:]*(?:[^\S\n\r][^\s:]+){0,5}:$")
_CAPITALS = re.compile(r"[^a-z]*[A-Z]{2}[^a-z]*")
# So ends a sentence, and no heading: `IV CKD.`
_CLOSED = re.compile(r"[.;,]$")
_ROW = re.compile(r"\S[^\S\n\r]*\t[^\S\n\r]*\S|\|[^|]*\|")
_GAP = re.compile(r"\S {3,}\S")  # between columns, or in a justified line
_GOES_ON = re.compile(r"[,(\[/&-]$")
HEADING_WORDS = 8
# A paragraph whose longest line is shorter is no wrapped text, but a list without bullets.
NARROWEST = 40

# ---- words with a full stop behind which a sentence goes on
_BEFORE_NAMES = frozenset(
    [
        *("approx", "ca", "cf", "dr", "eq", "eqs", "esp", "fig", "figs", "mr", "mrs", "ms", "prof"),
        *("pv", "ref", "refs", "resp", "subsp", "subspp", "suppl", "var", "vit", "vol", "vs"),
    ]
)
# Only at the beginning of a sentence: `Inj. Lasix 20 mg`.
_FORMS = frozenset(
    [
        *("amp", "cap", "caps", "inj", "oint", "sol", "supp", "susp", "syp", "syr", "tab", "tabs"),
    ]
)
_LAST_WORD = re.compile(r"(\w+)\.$")


def segments(text: str, by: str, fits: Callable[[str], bool]) -> Iterator[Span]:
    """The segments of a text, in order. Only white space is left out.

    Parameters
    ----------
    by: `none`, the text as it is; `sentence`; or `window`, sentences one after the other, of up to
        `WINDOW` words together. A sentence that does not fit is cut.
    fits: whether a piece can be asked about, as it is shown: the model has room for it and its
        longest answer, and the format a grammar.
    """
    if by == "none":
        if text.strip():
            yield 0, len(text)
        return
    spans = sentences(text)
    for span in spans if by == "sentence" else together(text, spans):
        yield from pieces(text, span, fits)


def sentences(text: str) -> Iterator[Span]:
    """The sentences of a text, without white space around them."""
    for block in blocks(text):
        view = view_of(text, block)
        for start, end in _joined(view, get_sentence_boundaries("en", view.text)):
            yield view.span(start, end)


def _joined(view: View, boundaries: Sequence[dict[str, int]]) -> Iterator[Span]:
    """Sentences as they are found, but for those that end at an abbreviation."""
    begun: int | None = None
    for boundary in boundaries:
        found = trimmed(view.text, boundary["start_index"], boundary["end_index"])
        if found is None:
            continue
        start = found[0] if begun is None else begun
        begun = start if _abbreviated(view.text[start : found[1]]) else None
        if begun is None:
            yield start, found[1]
    if begun is not None:
        yield begun, len(view.text)


def _abbreviated(sentence: str) -> bool:
    """Whether it ends with an abbreviation that something follows."""
    match = _LAST_WORD.search(sentence)
    if not match:
        return False
    if match[1].isupper():  # a patient with MS.
        return False
    word, item = match[1].lower(), _ITEM.match(sentence)
    first = match.start() == (item.end() if item else 0)
    return word in _BEFORE_NAMES or (word in _FORMS and first)


# ---- blocks


def blocks(text: str) -> Iterator[Span]:
    """Paragraphs, headings, items and rows, in order. A blank line is between two of them."""
    paragraph: list[Span] = []
    behind = 0
    for match in _LINE.finditer(text):
        line = trimmed(text, *match.span())
        if line is None:
            continue
        if paragraph and len(_LINE_END.findall(text, behind, match.start())) > 1:
            yield from _parts(text, paragraph)
            paragraph = []
        paragraph.append(line)
        behind = match.end()
    yield from _parts(text, paragraph)


def _parts(text: str, lines: list[Span]) -> Iterator[Span]:
    """The blocks of lines without a blank one between them."""
    width = max((end - start for start, end in lines), default=0)
    # Some notes are in capitals from end to end: there they say nothing of a line.
    capitals = width >= NARROWEST and all(_CAPITALS.fullmatch(text, *line) for line in lines)
    begun: Span | None = None
    before = ""
    for start, end in lines:
        line = text[start:end]
        if begun is not None and _goes_on(before, line, width, capitals):
            begun = begun[0], end
        else:
            if begun is not None:
                yield begun
            begun = start, end
        before = line
    if begun is not None:
        yield begun


def _goes_on(line: str, following: str, width: int, capitals: bool) -> bool:
    """Whether a line is wrapped, so that the following one goes on with it.

    Parameters
    ----------
    width: of the longest line of the paragraph.
    capitals: whether the whole paragraph is in capitals.
    """
    if _ITEM.match(following) or _KEY.match(following) or _heading(line, capitals):
        return False
    if _ROW.search(line) or _ROW.search(following):
        return False
    if _GAP.search(line) and _GAP.search(following) and not following[0].islower():
        return False
    if _heading(following, capitals):
        return False
    if following[0].islower() or _GOES_ON.search(line):
        return True
    # Whoever wraps puts a word on a line that has room for it.
    word = following.split(maxsplit=1)[0]
    return width >= NARROWEST and len(line) + 1 + len(word) > width


def _heading(line: str, capitals: bool) -> bool:
    if len(line.split()) > HEADING_WORDS:
        return False
    if _HEADING.fullmatch(line):
        return True
    return not capitals and bool(_CAPITALS.fullmatch(line)) and not _CLOSED.search(line)


# ---- windows


def together(text: str, spans: Iterable[Span]) -> Iterator[Span]:
    """Sentences in windows of up to `WINDOW` words, longer ones by themselves."""
    window: Span | None = None
    for start, end in spans:
        joined = (window[0], end) if window else (start, end)
        if window and len(text[slice(*joined)].split()) > WINDOW:
            yield window
            window = start, end
        else:
            window = joined
    if window:
        yield window


def pieces(text: str, span: Span, fits: Callable[[str], bool]) -> Iterator[Span]:
    """A span in pieces that fit, cut at white space, each as long as possible.

    A single word that does not fit is a piece all the same.
    """
    at, end = span
    if trimmed(text, at, end) == span and fits(view_of(text, span).text):
        yield span
        return
    words = [match.span() for match in re.compile(r"\S+").finditer(text, at, end)]

    def too_long(last: int) -> bool:
        return not fits(view_of(text, (words[first][0], words[last - 1][1])).text)

    first = 0
    while first < len(words):
        most = first + 1
        while most < len(words) and not too_long(most):
            most = min(len(words), 2 * most - first)
        fitting = bisect_left(range(first + 1, most + 1), True, key=too_long)
        last = first + max(1, fitting)
        yield words[first][0], words[last - 1][1]
        first = last


def trimmed(text: str, start: int, end: int) -> Span | None:
    """A span without white space at its ends; None if nothing is left."""
    piece = text[start:end]
    kept = piece.strip()
    if not kept:
        return None
    start += len(piece) - len(piece.lstrip())
    return start, start + len(kept)
