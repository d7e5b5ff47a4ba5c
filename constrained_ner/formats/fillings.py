"""What fills the holes of the structures: definitions made from the text and the labels.

Each function returns Lark definitions as text. Those for the faithful level use what only
llguidance knows: `%regex`, `&` and `~` between terminals, `{m,n}`, and parametric rules, whose
64-bit parameter carries a position, a counter or a stack of open tags (`rule::expression`,
`%if condition`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from math import comb

from constrained_ner.words import Span, one_line

Escape = Callable[[str], str]

# The most units of a text times fragments. A grammar of that size is made in half a second
# (llguidance 1.9.1). Contiguous surfaces have no such bound.
MAX_FRAGMENTED_UNITS = 6000
# Where each definition refers to the next one, the engine follows them by recursion; some hundred
# overflow its stack, and the process dies. So the first definition of such a chain refers to every
# fiftieth of the others, the last ones first: what the engine has seen it does not follow again.
# Threads with a stack of 512 KB are enough then.
MAX_NESTED_RULES = 50
# The engine counts symbols with 16 bits; spans take about ten for each unit.
MAX_SPAN_UNITS = 4000
MAX_TAGGED_UNITS = 30_000
MAX_OFFSET_UNITS = 10_000  # of offsets that decide the surface, times fragments
# Bounds that no annotated text we know of comes near; grammars grow with them. They are on the
# items in an answer for each unit of the text (short texts may have more, long ones fewer), and on
# the items that begin at one place.
MAX_ITEMS_PER_UNIT = 3
MAX_ITEMS_SHORT = 60
MAX_ITEMS = 1000
MAX_SAME_START = 12


def longest_first(strings: Iterable[str]) -> list[str]:
    """None behind one that it begins with."""
    return sorted(strings, key=lambda string: (-len(string), string))


def quote(text: str) -> str:
    """A Lark string literal that reads exactly `text`."""
    # DEL is the one character that llguidance does not take as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def json_body(text: str) -> str:
    """`text` as the inside of a JSON string, or of a Python one: the two agree here."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def choice(name: str, options: Sequence[str]) -> str:
    """A definition that is one of some strings.

    The longest come first: lark's terminals are Python regular expressions, which take the first
    alternative that fits.
    """
    ordered = longest_first(options)
    return f"{name}: " + " | ".join(quote(option) for option in ordered)


def up_to(times: int, expression: str) -> str:
    """The expression, repeated at most so many times, in llguidance's syntax."""
    return f"({expression}){{0,{times}}}" if times > 0 else '""'


# Where the fillings of `more`, `lines` and `layers` have their bound.
_BOUND = re.compile(
    r"^(more: .*\{0,|(?:lines|layers)_from::_: .* %if lt\(.*, )\d+(\}|\))$", re.MULTILINE
)


def with_bound(source: str, most: int) -> str:
    """A faithful grammar's source with another bound on its items."""
    return _BOUND.sub(rf"\g<1>{most}\g<2>", source)


def item_bound(text_units: int, labels: int, fragments: int = 1) -> int:
    """The most items in an answer: as many different entities as the text has room for, but no
    more than annotated texts come near."""
    # A fragment may begin where the one before it ends.
    places = sum(comb(text_units + k, 2 * k) for k in range(1, fragments + 1))
    likely = min(MAX_ITEMS, max(MAX_ITEMS_SHORT, MAX_ITEMS_PER_UNIT * text_units))
    return min(places * labels, likely)


# ---- surface ------------------------------------------------------------------------------------


def surface(
    name: str,
    text: str,
    pieces: Sequence[Span],
    escape: Escape,
    fragments: tuple[int, int] = (1, 1),
) -> str:
    """A terminal that matches any surface of the text.

    Parameters
    ----------
    pieces: the text's units, which a surface is made of; it neither begins nor ends with a unit
        of white space.
    escape: how the format writes a piece of text.
    fragments: the least and the most number of fragments; they stand in text order, joined by
        one space.
    """
    if fragments == (1, 1):
        return _contiguous(name, text, pieces, escape)
    return _fragmented(name, text, pieces, escape, *fragments)


def _contiguous(name: str, text: str, pieces: Sequence[Span], escape: Escape) -> str:
    chunks = [escape(text[s:e]) for s, e in pieces]
    spaces = {escape(character) for character in text if character.isspace()}
    plain = "".join(re.escape(space) for space in sorted(spaces) if len(space) == 1)
    inner = rf"[^{plain}]" if plain else "."
    edges = [rf"/(?s:{inner}(.*{inner})?)/"]
    if written := "|".join(re.escape(space) for space in sorted(spaces) if len(space) > 1):
        # Escaped white space, such as \n in JSON; \\n, an escaped backslash and an n, is none.
        edges.append(rf"~/(?s:({written}).*)/")
        edges.append(rf"~/(?s:(.*[^\\])?)(\\\\)*({written})/")
    return (
        f"{name}: {name}_PIECE & {' & '.join(edges)}\n"
        f'{name}_PIECE: %regex {{"substring_chunks": {quote_all(chunks)}}}'
    )


def quote_all(strings: Sequence[str]) -> str:
    return json.dumps(list(strings), ensure_ascii=False)


def _fragmented(
    name: str, text: str, pieces: Sequence[Span], escape: Escape, least: int, most: int
) -> str:
    """Terminals `<name>_<k>_<p>`: the rest of a fragment, from unit p on, and k more at the most.

    `<name>_ANY_<k>_<p>` begins a fragment at p or later. Terminals refer only to later places, and
    the engine shares them, so that their number is linear in the text.
    """
    n = len(pieces)
    chunks = [text[s:e] for s, e in pieces]
    lines: list[str] = []
    dead: set[tuple[int, int]] = set()  # places from which no fragment can be finished
    empty: set[tuple[int, int]] = set()  # places from which no fragment can begin
    for k in range(most):
        optional = most - 1 - k >= least - 1  # enough fragments stand before this one
        for p in range(n - 1, -1, -1):
            nexts: list[str] = []
            if p + 1 < n and (k, p + 1) not in dead:
                nexts.append(f"{name}_{k}_{p + 1}")
            solid = not chunks[p].isspace()
            if solid and k > 0 and p + 1 < n and (k - 1, p + 1) not in empty:
                nexts.append(f'" " {name}_ANY_{k - 1}_{p + 1}')
            may_end = solid and (optional if k > 0 else True)
            tail = f" ({' | '.join(nexts)}){'?' if may_end else ''}" if nexts else ""
            if nexts or may_end:
                lines.append(f"{name}_{k}_{p}: {quote(escape(chunks[p]))}{tail}")
            else:
                dead.add((k, p))
            starts: list[str] = []
            if solid and (k, p) not in dead:
                starts.append(f"{name}_{k}_{p}")
            if p + 1 < n and (k, p + 1) not in empty:
                starts.append(f"{name}_ANY_{k}_{p + 1}")
            if starts:
                lines.append(f"{name}_ANY_{k}_{p}: " + " | ".join(starts))
            else:
                empty.add((k, p))
    assert (most - 1, 0) not in empty, f"the text is too short for {least} fragments"
    # The one from 0 on holds all others, which are for the engine's stack: MAX_NESTED_RULES.
    begins = [
        f"{name}_ANY_{most - 1}_{p}"
        for p in reversed(range(0, n, MAX_NESTED_RULES))
        if (most - 1, p) not in empty
    ]
    return "\n".join([f"{name}: {' | '.join(begins)}", *lines])


# ---- span ---------------------------------------------------------------------------------------


def span_list(
    opening: str,
    middle: str,
    closing: str,
    starts: Sequence[int],
    ends: Sequence[int],
    labels: int,
) -> str:
    """`items`: a list of spans, with start < end, ordered by their starts.

    Parameters
    ----------
    opening, middle, closing: what an item has before its offsets, between them and its LABEL,
        and at its end; an empty `middle` where it has no label.
    starts, ends: the legal offsets of each unit that a span may begin or end with, ascending.
    labels: how many labels there are.

    A chain of rules, four for each start: `from_<i>` is the list from start i on, `group_<i>` its
    items with start i (bounded by how many different ones there are, in any order), `item_<i>` one
    of these, `end_<i>` the ends from unit i on. Exact text order within a group would take rules
    quadratic in the text.
    """
    n = len(starts)
    label = f"{quote(middle)} LABEL " if middle else ""
    # `from_0` holds all others, which are for the engine's stack: MAX_NESTED_RULES.
    lines = ["items: " + " | ".join(f"from_{i}" for i in reversed(range(0, n, MAX_NESTED_RULES)))]
    for i in range(n):
        item = f"{quote(f'{opening}{starts[i]}, ')} end_{i} {label}{quote(closing)}"
        later = f' (", " from_{i + 1})? | from_{i + 1}' if i + 1 < n else ""
        lines += [
            f"from_{i}: group_{i}{later}",
            f"group_{i}: item_{i} "
            + up_to(min((n - i) * labels, MAX_SAME_START) - 1, f'", " item_{i}'),
            f"item_{i}: {item}",
            f'end_{i}: "{ends[i]}"' + (f" | end_{i + 1}" if i + 1 < n else ""),
        ]
    return "\n".join(lines)


# ---- mention: span and surface ------------------------------------------------------------------


def number_up_to(largest: int) -> str:
    """A regular expression for 0..largest without leading zeros."""
    digits = str(largest)
    options = [rf"[1-9][0-9]{{0,{len(digits) - 2}}}"] if len(digits) > 1 else []
    options.append("0")
    for i, digit in enumerate(digits):
        low = 1 if i == 0 else 0
        if low < int(digit):
            tail = len(digits) - i - 1
            options.append(
                f"{digits[:i]}[{low}-{int(digit) - 1}]" + f"[0-9]{{{tail}}}" * (tail > 0)
            )
    return "|".join([*options, digits])


def mention_by_surface(text: str, pieces: Sequence[Span], fragments: int) -> str:
    """`mention`: any offsets within the text, and a surface of as many fragments as they have."""
    number = f"({number_up_to(len(text))})"
    fragments = min(fragments, sum(not text[s:e].isspace() for s, e in pieces))
    lines = []
    for k in range(1, fragments + 1):
        offsets = ";".join([f"{number} {number}"] * k)
        lines.append(f"OFFSETS_{k}: /{offsets}/")
        lines.append(surface(f"SURFACE_{k}", text, pieces, one_line, (k, k)))
    options = " | ".join(f'OFFSETS_{k} " " SURFACE_{k}' for k in range(1, fragments + 1))
    return "\n".join([f"mention: {options}", *lines])


def most_units_of_offsets(fragments: int) -> int:
    """The most units of a text that `mention_by_offsets` has room for: it counts with 64 bits."""
    return min((1 << (64 // (2 * fragments))) - 1, MAX_OFFSET_UNITS // fragments)


def mention_by_offsets(text: str, pieces: Sequence[Span], fragments: int) -> str:
    """`mention`: legal offsets, and then the text that stands there.

    The parameter holds, for each fragment, the index of its first unit and that of the unit
    after its last; the copy counts the former up until it meets the latter.
    """
    bits = len(pieces).bit_length()
    chunks = [one_line(text[s:e]) for s, e in pieces]
    solid = [p for p, chunk in enumerate(chunks) if not chunk.isspace()]
    lines = ["mention: start_0::0"]
    for k in range(fragments):
        low = 2 * bits * k
        first, after = f"[{low}:{low + bits}]", f"[{low + bits}:{low + 2 * bits}]"
        before = f"[{low - bits}:{low}]"
        lines.append(
            f"start_{k}::_: "
            + " | ".join(
                f"{quote(f'{pieces[p][0]} ')} end_{k}::bit_or({p << low})"
                + (f" %if le({before}, {p})" if k else "")
                for p in solid
            )
        )
        lines.append(
            f"end_{k}::_: "
            + " | ".join(
                f"{quote(str(pieces[p][1]))} after_{k}::bit_or({(p + 1) << (low + bits)})"
                f" %if le({first}, {p})"
                for p in solid
            )
        )
        # Another fragment only where there is something left for it.
        left = f"%if le({after}, {solid[-1]})"
        more = f' | ";" start_{k + 1}::_ {left}' if k + 1 < fragments else ""
        lines.append(f'after_{k}::_: " " copy_0::_{more}')
        last = k + 1 == fragments
        lines.append(
            f"copy_{k}::_: "
            + " | ".join(
                f"{quote(chunk)} copy_{k}::incr({first})"
                f" %if and(eq({first}, {p}), gt({after}, {p + 1}))"
                f" | {quote(chunk)} {'' if last else f'copied_{k}::_ '}"
                f"%if and(eq({first}, {p}), eq({after}, {p + 1}))"
                for p, chunk in enumerate(chunks)
            )
        )
        if not last:
            following = f"[{low + 3 * bits}:{low + 4 * bits}]"
            lines.append(
                f'copied_{k}::_: "" %if is_zeros({following})'
                f' | " " copy_{k + 1}::_ %if not(is_zeros({following}))'
            )
    return "\n".join(lines)


def numbered(rule: str, item: str, body: str, first: int, bound: int) -> str:
    """`rule`: at most `bound` items, whose NUMBER counts up from `first`."""
    bits = max(1, bound.bit_length())
    counter, again = f"[0:{bits}]", f"{item}::_ {rule}_from::incr([0:{bits}])"
    return "\n".join(
        [
            f"{rule}: {rule}_from::0",
            f'{rule}_from::_: "" | {again} %if lt({counter}, {bound})',
            f"{item}::_: " + body.replace("NUMBER", "number::_"),
            "number::_: "
            + " | ".join(f'"{first + i}" %if eq({counter}, {i})' for i in range(max(1, bound))),
        ]
    )


# ---- tagged text --------------------------------------------------------------------------------


def tag_depth(text_units: int, markers: int) -> int:
    """How deep tags may nest: what fits into a 64-bit parameter beside the position."""
    return min(16, (64 - text_units.bit_length()) // markers.bit_length())


def tagged_text(
    parts: Sequence[tuple[str, str]],
    tail: str,
    may_open: Sequence[bool],
    may_close: Sequence[bool],
    markers: Sequence[tuple[Sequence[str], Sequence[str]]],
) -> str:
    """`copy`: exactly the text, with balanced markers, none empty, none next to white space.

    Parameters
    ----------
    parts: for each unit that is not white space, the white space before it and the unit, as
        written in the answer. `tail`: the white space at the end.
    may_open, may_close: whether a marker may stand right before, right after the unit.
    markers: opening and closing marker of each label, each cut into units as the text is. The
        engine's lexer goes back by one byte at most: it could not leave a long marker for a text
        that begins in the same way.

    The parameter holds the index of the unit to come, and above it the stack of open markers.
    """
    n, bits, slot = len(parts), len(parts).bit_length(), len(markers).bit_length()
    depth = tag_depth(n, len(markers))
    top = bits + depth * slot
    at = f"[0:{bits}]"
    spelled = [
        f"{side}_{k}: {' '.join(map(quote, marker))}"
        for k, pair in enumerate(markers, 1)
        for side, marker in zip(("open", "close"), pair, strict=True)
    ]
    closings, openings = [], []
    for d in range(depth):
        low, high = bits + d * slot, bits + (d + 1) * slot
        last = f", is_zeros([{high}:{top}])" if high < top else ""
        under = f"not(is_zeros([{low - slot}:{low}])), " if d else ""
        for k in range(1, len(markers) + 1):
            full = f"and(eq([{low}:{high}], {k}){last})" if last else f"eq([{low}:{high}], {k})"
            pop = ((1 << 64) - 1) ^ (((1 << slot) - 1) << low)
            closings.append(f"close_{k} closing::bit_and({pop}) %if {full}")
            free = f"is_zeros([{low}:{top}])"
            push = f"and({under}{free})" if under else free
            openings.append(f"open_{k} opening::bit_or({k << low}) %if {push}")
    # After the last unit that a closing marker may follow, none may be open.
    last_close = max((p for p in range(n) if may_close[p]), default=-1)

    def here(p: int) -> str:
        all_closed = f", is_zeros([{bits}:{top}])"
        return f"%if eq({at}, {p})" if p <= last_close else f"%if and(eq({at}, {p}){all_closed})"

    opens = [may_open[p] and p <= last_close for p in range(n)]
    gaps = [
        (f"{quote(gap)} " if gap else "") + f"{'opening' if opens[p] else 'unit'}::_ {here(p)}"
        for p, (gap, _) in enumerate(parts)
    ]
    units = [
        f"{quote(unit)} {'closing' if may_close[p] else 'moving'}::incr({at}) %if eq({at}, {p})"
        for p, (_, unit) in enumerate(parts)
    ]
    gaps.append(f"{quote(tail)} %if eq([0:{top}], {n})")
    # Each rule between one unit and the next is one more item in the engine's last row. So
    # `closing` and `opening` repeat the alternatives of `moving` and `unit`, and do not refer to
    # them.
    lines = [
        "copy: closing::0",
        "closing::_: " + " | ".join(gaps + closings),
        "opening::_: " + " | ".join(units + openings),
        *spelled,
    ]
    if not all(may_close):
        lines.append("moving::_: " + " | ".join(gaps))
    if not all(opens):
        lines.append("unit::_: " + " | ".join(units))
    return "\n".join(lines)


# ---- layer --------------------------------------------------------------------------------------


def bio_run(slugs: Sequence[str]) -> str:
    """`RUN`: `O`, or one entity of one of the labels."""
    return 'RUN: "O" | ' + _bio_entities(slugs)


def _bio_entities(slugs: Sequence[str]) -> str:
    ordered = longest_first(slugs)
    return " | ".join(f'"B-{slug}" (" I-{slug}")*' for slug in ordered)


def bio_layer(words: int, slugs: Sequence[str]) -> str:
    """`LAYER`: one tag for each of so many words. `FULL`: the same, with an entity in it."""
    return "\n".join(
        [
            "LAYER: SHAPE & COUNT",
            'SHAPE: RUN (" " RUN)*',
            rf"COUNT: /[^ \n]+( [^ \n]+){{{words - 1}}}/",
            "FULL: FILLED & COUNT",
            'FILLED: ("O ")* ENTITY (" " RUN)*',
            f"ENTITY: {_bio_entities(slugs)}",
        ]
    )
