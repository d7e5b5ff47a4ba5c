"""Cutting a text into the segments that a model is asked about, one at a time.

A text comes in blocks: a paragraph, whose lines may be wrapped, a heading, an item of a list, or
a cell of a table. Blocks are cut into sentences by sentencex (MIT; Wikimedia's rules), which knows
abbreviations and decimals, and which is told of some more that clinical and biological texts have.
Line ends of any kind are the same. A heading, or a key such as `Allergies:`, begins a section.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

from sentencex import get_sentence_boundaries

from constrained_ner.pipeline.headings import (
    CAPITALS,
    KEY,
    is_heading,
    key_of,
    says_nothing,
)
from constrained_ner.pipeline.view import View, view_of
from constrained_ner.words import LINE_BREAKS, Span, trimmed

SEGMENTS = ("none", "sentence", "window")
# Words of the longest sentences that models are trained on, about: of longer texts they find less.
WINDOW = 60

_LINE = re.compile(f"[^{LINE_BREAKS}]+")
_LINE_END = re.compile(f"\r\n|[{LINE_BREAKS}]")
# ---- what a line is, by its first and last characters
_MARK = r"(?:[-*+•‣◦▪·–—]|\(?(?:[0-9]{1,2}|[A-Za-z]|[ivxIVX]{2,4})[.)]|#[0-9]*)"
_ITEM = re.compile(_MARK + r"[^\S\n\r]+(?=\S)")
_ROW = re.compile(r"\S[^\S\n\r]*\t[^\S\n\r]*\S|\|[^|]*\|")
# What a model would not be shown, since white space is one space to it.
_BETWEEN_CELLS = re.compile(r"(?<=\S)(?:[^\S\n\r]*\t[^\S\n\r]*| {3,})(?=\S)")
# A longer line with three spaces in it is no row, but prose where a character is missing.
WIDEST_ROW = 160
_GAP = re.compile(r"\S {3,}\S")  # between columns, or in a justified line
_GOES_ON = re.compile(r"[,(\[/&-]$")
_ENDS = re.compile(r"[.:;!?][\])\"'”’]*$")
# What may be a mark, or the end of a sentence (`type\n2. He`), or a genus (`grew\nS. aureus`).
_NUMBER = re.compile(r"[0-9]{1,2}\.[^\S\n\r]")
_GENUS = re.compile(r"[A-Z]\.[^\S\n\r]+[a-z]")
_LETTERED = re.compile(r"\(?[A-Za-z][.)][^\S\n\r]")
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
# With these neither a sentence nor a line of its own begins.
_NO_BEGINNING = (",", ";", ":", ")", "]", "%")
_LETTER = re.compile(r"[^\W\d_]")
_LAST_WORD = re.compile(r"(?<!\w)(\w+)\.$")


Kind = Literal["text", "heading", "cell"]
Block = tuple[Span, Kind]


class Part(NamedTuple):
    """A sentence, a heading, an item or a cell of a table.

    Attributes
    ----------
    section: the title of the heading that it stands under, or that it is; empty above the first.
    asked: what a model is asked about. It has no key of the usual words of headings, such as
        `Allergies:`, and is None where there is nothing to find: in a part without a letter, in a
        heading of such words, such as `Past Medical History`, and in such a cell.
    cell: whether it stands in a table, beside others.
    """

    span: Span
    section: str
    asked: Span | None
    cell: bool


def segments(text: str, by: str, fits: Callable[[str], bool]) -> Iterator[Span]:
    """The segments of a text, in order. White space is left out, and where nothing is to be found.

    Parameters
    ----------
    by: `none`, the text as it is; `sentence`, each part by itself, as far as it is `asked`; or
        `window`, parts one after the other, of up to `WINDOW` words together, but for cells. A part
        that does not fit is cut. If there is nothing to ask about, all is asked about.
    fits: whether a piece can be asked about, as it is shown: the model has room for it and its
        longest answer, and the format a grammar.
    """
    if by == "none":
        if text.strip():
            yield 0, len(text)
        return
    found = list(parts(text))
    if not any(part.asked for part in found):
        found = [part._replace(asked=part.span) for part in found]
    for cells, group in groupby(found, key=lambda part: part.cell):
        some = list(group)
        for span in _asked(some) if cells or by == "sentence" else _windows(text, some):
            yield from pieces(text, span, fits)


def _asked(some: Iterable[Part]) -> Iterator[Span]:
    return (part.asked for part in some if part.asked)


def _windows(text: str, some: Sequence[Part]) -> Iterator[Span]:
    """Windows in which something is asked; there headings and keys stay, as what is around it."""
    starts = [start for start, _ in _asked(some)]
    for start, end in together(text, [part.span for part in some]):
        if bisect_left(starts, start) < bisect_left(starts, end):
            yield start, end


def sections(text: str) -> list[tuple[int, str]]:
    """The offsets at which sections begin, and their titles, in order; empty where one ends.

    A section begins with its heading, and goes on until the next one. That of a key with a value
    behind it, such as `Allergies: penicillin`, ends with a blank line: what follows stands under
    the heading before.
    """
    groups = groupby(parts(text), key=lambda part: part.section)
    return [(next(group).span[0], title) for title, group in groups]


def sentences(text: str) -> Iterator[Span]:
    """The parts of a text: sentences, headings, items, cells; without white space around them."""
    return (part.span for part in parts(text))


def parts(text: str) -> Iterator[Part]:
    """Sentences, headings, items and cells, in order, with the sections that they stand in."""
    heading = section = ""
    for paragraph in paragraphs(text):
        section = heading
        for block, kind in _blocks(text, paragraph):
            view = view_of(text, block)
            shown = view.text
            if kind == "heading":
                heading = section = shown.removesuffix(":").rstrip()
                yield Part(block, section, None if says_nothing(shown) else block, False)
                continue
            for start, end in _sentences(view):
                key = key_of(shown[start:end])
                section = key.removesuffix(":") or section
                begin = start + len(key) if key and says_nothing(key) else start
                asked = trimmed(shown, begin, end)
                if asked and _nothing_in(shown[slice(*asked)], kind):
                    asked = None
                yield Part(
                    view.span(start, end), section, asked and view.span(*asked), kind == "cell"
                )


def _nothing_in(shown: str, kind: Kind) -> bool:
    return not _LETTER.search(shown) or (kind == "cell" and says_nothing(shown))


def _sentences(view: View) -> Iterator[Span]:
    """Sentences as sentencex finds them, put together where none ends."""
    begun: Span | None = None
    for boundary in get_sentence_boundaries("en", view.text):
        found = trimmed(view.text, boundary["start_index"], boundary["end_index"])
        if found is None:
            continue
        if begun is not None and not _unfinished(view.text, begun, found):
            yield begun
            begun = None
        begun = found if begun is None else (begun[0], found[1])
    if begun is not None:
        yield begun


def _unfinished(text: str, found: Span, following: Span) -> bool:
    """Whether a sentence that was found goes on: it is the mark of an item, or ends with an
    abbreviation or inside a number, or what follows begins no sentence.
    """
    sentence = text[slice(*found)]
    mark = found[0] == 0 and re.fullmatch(_MARK, sentence) is not None
    decimal = sentence.endswith(" .") and text[following[0]].isdigit()  # of tokens: `PU . 1`
    return mark or decimal or text.startswith(_NO_BEGINNING, following[0]) or _abbreviated(sentence)


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


def paragraphs(text: str) -> Iterator[list[Span]]:
    """The lines between blank ones, without white space around them."""
    lines: list[Span] = []
    behind = 0
    for match in _LINE.finditer(text):
        line = trimmed(text, *match.span())
        if line is None:
            continue
        if lines and len(_LINE_END.findall(text, behind, match.start())) > 1:
            yield lines
            lines = []
        lines.append(line)
        behind = match.end()
    if lines:
        yield lines


def _blocks(text: str, lines: list[Span]) -> Iterator[Block]:
    """The lines of a paragraph that are wrapped put together, its headings, items and cells."""
    width = max(end - start for start, end in lines)
    # Some notes are in capitals from end to end: there they say nothing of a line.
    capitals = width >= NARROWEST and all(CAPITALS.fullmatch(text, *line) for line in lines)
    wrapped: list[Span] = []
    for span in lines:
        line = text[slice(*span)]
        begun = text[slice(*wrapped[0])] if wrapped else ""
        if wrapped and not _goes_on(begun, text[slice(*wrapped[-1])], line, width, capitals):
            yield from _block(text, wrapped, capitals)
            wrapped = []
        wrapped.append(span)
    yield from _block(text, wrapped, capitals)


def _block(text: str, lines: list[Span], capitals: bool) -> Iterator[Block]:
    """The block of one line, or of a wrapped paragraph; of a row of a table, its cells."""
    start, end = lines[0][0], lines[-1][1]
    if len(lines) > 1:
        yield (start, end), "text"
        return
    item = _ITEM.match(text, start, end)
    first = item.end() if item else start  # `1.`, a TAB and a text are no row
    gaps = list(_BETWEEN_CELLS.finditer(text, first, end))
    if not gaps or (end - start > WIDEST_ROW and "\t" not in text[start:end]):
        # Of items only those with a colon: problems are often written in capitals.
        listed = item is not None and not text[start:end].endswith(":")
        heading = not listed and is_heading(text[start:end], capitals=capitals)
        yield (start, end), "heading" if heading else "text"
        return
    for gap in gaps:
        yield (start, gap.start()), "cell"
        start = gap.end()
    yield (start, end), "cell"


def _goes_on(begun: str, line: str, following: str, width: int, capitals: bool) -> bool:
    """Whether a line is wrapped, so that the following one goes on with it.

    Parameters
    ----------
    begun: the line with which its block begins.
    width: of the longest line of the paragraph.
    capitals: whether the whole paragraph is in capitals.
    """
    # Whoever wraps puts a word on a line that has room for it.
    word = following.split(maxsplit=1)[0]
    full = width >= NARROWEST and len(line) + 1 + len(word) > width
    if _ITEM.match(following) and not (full and _is_no_mark(begun, line, following)):
        return False
    if KEY.match(following) or is_heading(line, capitals=capitals):
        return False
    if _ROW.search(line) or _ROW.search(following):
        return False
    if _GAP.search(line) and _GAP.search(following) and not following[0].islower():
        return False
    if is_heading(following, capitals=capitals):
        return False
    if following[0].islower() or following[0] in _NO_BEGINNING or _GOES_ON.search(line):
        return True
    return full


def _is_no_mark(begun: str, line: str, following: str) -> bool:
    """Whether what looks like the mark of an item is a part of the sentence before it."""
    if _ENDS.search(line):
        return False
    if _NUMBER.match(following):
        return not _ITEM.match(begun)
    return bool(_GENUS.match(following)) and not _LETTERED.match(begun)


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
