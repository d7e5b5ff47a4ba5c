"""The report's plots, as SVG: the same numbers give the same bytes.

What is drawn is collected without matplotlib, so that it can be tested by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from math import log
from operator import attrgetter
from statistics import fmean, stdev
from typing import Any

import numpy as np

from constrained_ner.benchmark.blocks import Tone
from constrained_ner.benchmark.grid import Way
from constrained_ner.benchmark.tables.cost import per_document
from constrained_ner.benchmark.tables.fields import mean_of, pooled_interval, verdict
from constrained_ner.benchmark.tables.spans import shifts_of, span_ways
from constrained_ner.benchmark.tables.together import results_of
from constrained_ner.benchmark.tables.validity import kept_mass
from constrained_ner.benchmark.view import (
    Group,
    View,
    answers,
    parsed,
    seconds,
    tenths,
    tokens,
    untrue,
)
from constrained_ner.errors import MissingExtraError
from constrained_ner.formats.grammar import Level

# Okabe and Ito's colours, which the colour-blind can tell apart; each level has a shape, too.
COLOURS_AND_MARKERS = {
    "free": ("#D55E00", "o"),
    "syntax": ("#009E73", "s"),
    "faithful": ("#0072B2", "D"),
}
_INK = "#222222"
_RC = {
    "svg.fonttype": "none",  # text stays text: to be searched, copied and read aloud
    "svg.hashsalt": "constrained_ner",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}
_THIRD = 4.2  # inches: three of them stand side by side on a screen
SHIFTS = 15  # characters to either side; what is farther away is counted at the edge


@dataclass(frozen=True)
class Point:
    """A way to answer, in numbers.

    Attributes
    ----------
    f1, low, high: of all data sets, and its interval; over draws mean and standard deviation.
    parsed: share of the answers. `untrue`: surfaces, offsets and copies an answer that are not
        true to the text. `seconds`, `tokens`: a document. None where not measured.
    """

    variant: str
    level: str
    f1: float | None
    low: float | None
    high: float | None
    parsed: float | None
    untrue: float | None
    seconds: float | None
    tokens: float | None


def points(view: View, group: Group) -> list[Point]:
    return [_point(view, group, way) for way in view.ways(group)]


def _point(view: View, group: Group, way: Way) -> Point:
    pooled = view.pooled(group, way)
    scores = [each.strict.scores.f1 for each in pooled]
    values = [f1 for f1 in scores if f1 is not None]
    f1, low, high = mean_of(values), None, None
    interval = pooled_interval(pooled)
    if interval:
        low, high = interval
    elif len(values) > 1:
        low, high = fmean(values) - stdev(values), fmean(values) + stdev(values)
    draws = view.draws(group, way)
    every = [cell for draw in draws for cell in draw]
    number = answers(every)
    return Point(
        str(way.variant),
        str(way.level),
        f1,
        low,
        high,
        parsed(every) / number if number else None,
        untrue(every) / number if number else None,
        mean_of([per_document(cells, seconds) for cells in draws]),
        mean_of([per_document(cells, tokens) for cells in draws]),
    )


# ---- drawing ------------------------------------------------------------------------------------


def require_matplotlib() -> None:
    """Raises `MissingExtraError` without it, or where some of it is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingExtraError("the report of a benchmark", "benchmark") from None


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Any, name: str) -> str:
    """The figure as an element of a page. `name` makes its ids different from other figures'."""
    file = StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    # Of places more digits could not be seen; those of texts stay.
    text = re.sub(r'"[^"]*"', lambda value: re.sub(r"(\d\.\d\d)\d+", r"\1", value[0]), text)
    text = re.sub(r"\n\s+", "\n", text)
    # The page chooses the size.
    return re.sub(r'<svg ([^>]*?)width="[\d.]+pt"', r"<svg \1", text, count=1).replace(
        'height="', 'data-height="', 1
    )


def _styled() -> Any:
    from matplotlib import style

    return style.context(["default", _RC], after_reset=True)


def _colour_and_marker(level: str) -> tuple[str, str]:
    return COLOURS_AND_MARKERS.get(level, (_INK, "o"))


def accuracy_plot(view: View, group: Group, name: str) -> str | None:
    """F1 with intervals for each format, and what its strictest level is against free answers."""

    def add(axes: Sequence[Any], found: Sequence[Point], row: Callable[[Point], float]) -> None:
        (only,) = axes
        ends = [p.high or p.f1 or 0.0 for p in found]
        only.set_xlim(0, min(1.0, 0.05 + max(ends)))
        edge = only.get_yaxis_transform()
        for way, p in zip(view.ways(group), found, strict=True):
            if p.low is not None and p.high is not None:
                colour = _colour_and_marker(p.level)[0]
                only.plot([p.low, p.high], [row(p)] * 2, color=colour, linewidth=1.1)
            tone = _shown(view, group, way) if way.level is view.levels[-1] else None
            if tone in _VERDICTS:
                look = {"color": _VERDICTS[tone], "va": "center", "fontsize": 7.5}
                only.text(1.0, round(row(p)), f" {tone}", transform=edge, **look)

    return _by_format(view, group, name, {"strict F1": lambda p: p.f1}, add)


_VERDICTS = {Tone.BETTER: "#00664b", Tone.WORSE: "#a14400", Tone.UNCLEAR: _INK}


def _shown(view: View, group: Group, way: Way) -> Tone | None:
    """What the difference to free answers shows; None for several draws, which are not tested."""
    pooled = view.pooled(group, way)
    if len(pooled) != 1 or pooled[0].against_free is None:
        return None
    return verdict(pooled[0].against_free.f1)


def validity_plot(view: View, group: Group, name: str) -> str | None:
    """Answers that parse, and what is not true to the text, for each format."""

    def add(axes: Sequence[Any], *_: Any) -> None:
        left, right = axes
        left.set_xlim(-4, 104)
        right.set_xlim(left=-0.04 * max(1.0, right.get_xlim()[1]))

    values: dict[str, Callable[[Point], float | None]] = {
        "parse, %": lambda p: None if p.parsed is None else 100 * p.parsed,
        "untrue, in 100 answers": lambda p: None if p.untrue is None else 100 * p.untrue,
    }
    return _by_format(view, group, name, values, add)


def _by_format(
    view: View,
    group: Group,
    name: str,
    values: Mapping[str, Callable[[Point], float | None]],
    add: Callable[[Sequence[Any], Sequence[Point], Callable[[Point], float]], None],
) -> str | None:
    """A row for each format, the best first, with a mark for each level; None without any mark.

    Parameters
    ----------
    values: what is drawn along each of the axes, by what is written below them.
    add: is given the axes, the points, and the height of each, to draw what else there is.
    """
    found = points(view, group)
    if not any(value(p) is not None for p in found for value in values.values()):
        return None
    variants, levels = _ranked(view, found), list(map(str, view.levels))

    def row(p: Point) -> float:
        return variants.index(p.variant) + (levels.index(p.level) - (len(levels) - 1) / 2) * 0.24

    with _styled():
        figure = _figure(_THIRD, _height(len(variants)))
        every = figure.subplots(1, len(values), sharey=True, squeeze=False)[0]
        for axes, (label, value) in zip(every, values.items(), strict=True):
            for level in levels:
                drawn = [p for p in found if p.level == level and value(p) is not None]
                name_once = level if axes is every[0] else None
                at = [row(p) for p in drawn]
                axes.plot([value(p) for p in drawn], at, label=name_once, **_mark(level))
            axes.set_xlabel(label)
            axes.set_yticks(range(len(variants)), variants, fontsize=8)
            axes.set_ylim(len(variants) - 0.5, -0.5)
            for i in range(1, len(variants)):
                axes.axhline(i - 0.5, color="#eeeeee", linewidth=0.8)
            axes.grid(False, axis="y")
            axes.tick_params(axis="y", length=0)
        add(every, found, row)
        figure.legend(loc="outside upper left", ncols=len(levels))
        return _svg(figure, name)


def _ranked(view: View, found: Sequence[Point]) -> list[str]:
    """Variants by F1 at the strictest level they were asked for at, the best first."""
    order = {str(level): i for i, level in enumerate(view.levels)}
    best: dict[str, tuple[int, float]] = {}
    for p in found:
        if p.f1 is not None:
            best[p.variant] = max(best.get(p.variant, (-1, 0.0)), (order[p.level], p.f1))
    return sorted(
        dict.fromkeys(p.variant for p in found),
        key=lambda variant: best.get(variant, (-1, 0.0))[1],
        reverse=True,
    )


def _height(rows: int) -> float:
    return max(3.2, 0.9 + 0.27 * rows)


def _mark(level: str) -> dict[str, Any]:
    colour, marker = _colour_and_marker(level)
    return {"color": colour, "marker": marker, "linestyle": "none", "markersize": 3.6}


def cost_plot(view: View, group: Group, name: str) -> str | None:
    """F1 against seconds for each document, from free to masked, for each format."""
    drawn = [p for p in points(view, group) if p.f1 is not None and p.seconds]
    if not drawn:
        return None
    with _styled():
        size = _THIRD, _height(len(view.variants_of(group)))
        figure = _figure(*size)
        axes = figure.subplots()
        ends: list[tuple[float, float, str]] = []
        for variant in map(str, view.variants_of(group)):
            line = [p for p in drawn if p.variant == variant]
            axes.plot(
                [p.seconds for p in line], [p.f1 for p in line], color="#bbbbbb", linewidth=0.8
            )
            if line:
                ends.append((line[-1].seconds or 0.0, line[-1].f1 or 0.0, variant))
        for level in view.levels:
            of_level = [p for p in drawn if p.level == level]
            times, f1 = [p.seconds for p in of_level], [p.f1 for p in of_level]
            axes.plot(times, f1, label=level, **_mark(level))
        axes.set_xscale("log")
        marks = [(p.seconds or 0.0, p.f1 or 0.0) for p in drawn]
        all_times, all_f1 = zip(*marks, strict=True)
        limits = (
            (min(all_times) / 1.4, max(all_times) * 1.4),
            (max(-0.02, min(all_f1) - 0.05), min(1.02, max(all_f1) + 0.05)),
        )
        axes.set_xlim(limits[0])
        axes.set_ylim(limits[1])
        ticks = _log_ticks(*limits[0])
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        labels = _labels(ends, marks, limits, size)
        for (x, y, text), (left, height) in zip(ends, labels, strict=True):
            axes.annotate(
                text,
                (x, y),
                (left, height),
                textcoords="axes fraction",
                va="center",
                fontsize=7,
                arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.5},
            )
        axes.set_xlabel("seconds a document")
        axes.set_ylabel("strict F1")
        figure.legend(loc="outside upper left", ncols=len(view.levels))
        return _svg(figure, name)


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten."""
    steps = [float(f"{digit}e{power}") for power in range(-9, 10) for digit in (1, 2, 5)]
    return [step for step in steps if low <= step <= high]


# In inches: the width of a letter, the height of a line, the distance to a point.
_LETTER, _LINE, _NEAR = 0.058, 0.155, 0.09
_AXES = 0.85  # of a figure, about


def _labels(
    ends: Sequence[tuple[float, float, str]],
    marks: Sequence[tuple[float, float]],
    limits: tuple[tuple[float, float], tuple[float, float]],
    size: tuple[float, float],
) -> list[tuple[float, float]]:
    """Where the names of points begin: as near as they can be without covering anything.

    Parameters
    ----------
    ends: points in data coordinates, and their names. `marks`: all points.
    limits: of x, which is logarithmic, and of y. `size`: of the figure, in inches.

    Returns
    -------
    Fractions of the axes.
    """
    (left, right), (low, high) = limits
    width_of, height_of = (_AXES * inches for inches in size)
    letter, near, line = _LETTER / width_of, _NEAR / width_of, _LINE / height_of

    def place(x: float, y: float) -> tuple[float, float]:
        return log(x / left) / log(right / left), (y - low) / (high - low)

    taken = [(x - near / 2, x + near / 2, y) for x, y in (place(*mark) for mark in marks)]
    found = []
    for x, y, text in ends:
        x, y = place(x, y)
        width = letter * len(text)
        tries = [
            (start, y + step * sign * line / 2)
            for step in range(40)
            for sign in (1, -1)
            for start in (x + near, x - near - width)
        ]
        free = (
            (start, at)
            for start, at in tries
            if 0 <= start <= 1 - width
            and line / 2 <= at <= 1 - line / 2
            and not any(
                start < end and begin < start + width and abs(at - other) < line
                for begin, end, other in taken
            )
        )
        start, at = next(free, tries[0])
        taken.append((start, start + width, at))
        found.append((start, at))
    return found


def risk_plot(view: View, group: Group, name: str) -> str | None:
    """The share that is wrong of the entities that are kept, against the share of gold found."""
    known = [one for one in results_of(view, group) if one.how == "agreement" and one.thresholds]
    bests = {one.against for one in known if len(one.formats) > 1}
    found = [one for one in known if len(one.formats) > 1 or one.against in bests]
    if not found:
        return None
    with _styled():
        figure = _figure(9.6, 4.2)
        axes = figure.subplots()
        for i, one in enumerate(found):
            kept = [each for each in one.thresholds if each.entities]
            colour = f"C{i % 10}"
            axes.plot(
                [each.recall for each in kept],
                [1 - each.precision for each in kept],
                color=colour,
                linewidth=1.0,
                linestyle="-" if len(one.formats) > 1 else ":",
                label=", ".join(one.formats),
            )
            scores = one.strict.scores
            if scores.recall is not None and scores.precision is not None:
                axes.plot(
                    [scores.recall], [1 - scores.precision], "o", color=colour, markersize=4.5
                )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("recall")
        axes.set_ylabel("share of what is found that is wrong")
        figure.legend(loc="outside right upper")
        return _svg(figure, name)


def confidence_plot(view: View, group: Group, name: str) -> str | None:
    """How often entities are right by their confidence, and the mass that masks let through."""
    ways = [way for way in view.ways(group) if way.level != Level.FREE]
    cells = {way: [cell for draw in view.draws(group, way) for cell in draw] for way in ways}
    levels = [level for level in view.masked if any(cells[w] for w in ways if w.level is level)]
    if not any(tenths(found) for found in cells.values()):
        return None
    variants = list(dict.fromkeys(way.variant for way in ways))
    with _styled():
        figure = _figure(9.6, max(3.6, 1.1 + 0.3 * len(variants)))
        left, right = figure.subplots(1, 2, width_ratios=(1, 1))
        left.plot([0, 1], [0, 1], color="#888888", linewidth=0.6, linestyle=":")
        for i, level in enumerate(levels):
            colour, marker = _colour_and_marker(level)
            found = tenths([cell for way in ways if way.level is level for cell in cells[way]])
            some = [(total / n, good / n) for n, good, total in found if n]
            plain = {"color": colour, "marker": marker, "markersize": 4.5}
            left.plot(*zip(*some, strict=True), label=level, linewidth=1.0, **plain)
            offset = (i - (len(levels) - 1) / 2) * 0.26
            masses = [view.draws(group, Way(variant, level)) for variant in variants]
            for of, filled in ((attrgetter("mean"), colour), (attrgetter("least"), "white")):
                kept = (mean_of([kept_mass(cells, of) for cells in draws]) for draws in masses)
                shown = [(x, y + offset) for y, x in enumerate(kept) if x is not None]
                if shown:
                    right.plot(
                        *zip(*shown, strict=True),
                        linestyle="none",
                        markerfacecolor=filled,
                        **plain,
                    )
        left.set_xlim(-0.02, 1.02)
        left.set_ylim(-0.02, 1.02)
        left.set_xlabel("confidence, tenth by tenth")
        left.set_ylabel("share of entities that are right")
        right.set_yticks(range(len(variants)), list(map(str, variants)))
        right.set_ylim(len(variants) - 0.5, -0.5)
        right.set_xlim(-0.02, 1.02)
        right.set_xlabel("allowed mass: mean (filled), mean of the least (open)")
        right.grid(False, axis="y")
        right.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper left", ncols=len(levels))
        return _svg(figure, name)


def clipped(shifts: dict[int, int]) -> dict[int, int]:
    """Counts for shifts up to `SHIFTS`; larger ones are counted at the edge."""
    found = dict.fromkeys(range(-SHIFTS, SHIFTS + 1), 0)
    for shift, times in shifts.items():
        found[max(-SHIFTS, min(SHIFTS, shift))] += times
    return found


def shift_plot(view: View, group: Group, name: str) -> str | None:
    """By how many characters beginnings and ends miss, for free and for masked answers."""
    ways = span_ways(view, group)
    variants = list(dict.fromkeys(way.variant for way in ways))
    levels = [level for level in (Level.FREE, view.levels[-1]) if level in view.levels]
    levels = list(dict.fromkeys(levels))
    counts = {}
    for way in ways:
        shifts = shifts_of(view, group, way)
        counts[way, "start"], counts[way, "end"] = clipped(shifts.start), clipped(shifts.end)
    if not any(sum(found.values()) for found in counts.values()):
        return None
    from matplotlib.patches import Patch, PathPatch
    from matplotlib.path import Path

    looks: dict[Level, dict[str, Any]] = {
        level: {
            "facecolor": _colour_and_marker(level)[0] if i else "white",
            "edgecolor": _colour_and_marker(level)[0],
            "hatch": "" if i else "////",
            "linewidth": 0.6,
        }
        for i, level in enumerate(levels)
    }
    with _styled():
        figure = _figure(9.6, 0.9 + 1.45 * len(variants))
        grid = figure.subplots(len(variants), 2, sharex=True, sharey="row", squeeze=False)
        for row, variant in zip(grid, variants, strict=True):
            for axes, side in zip(row, ("start", "end"), strict=True):
                for i, (level, look) in enumerate(looks.items()):
                    found = counts.get((Way(variant, level), side), {})
                    width = 0.8 / len(levels)
                    bars = [
                        [(left, 0), (left, times), (left + width, times), (left + width, 0)]
                        for left, times in ((x - 0.4 + width * i, n) for x, n in found.items() if n)
                    ]
                    if bars:  # as one path: single bars take a kilobyte each
                        path = Path.make_compound_path_from_polys(np.array(bars))
                        axes.add_patch(PathPatch(path, **look))
                axes.axvline(0, color="#888888", linewidth=0.6, linestyle=":")
                axes.set_xlim(-SHIFTS - 0.6, SHIFTS + 0.6)
                axes.grid(False, axis="x")
                axes.yaxis.get_major_locator().set_params(integer=True)
            highest = max(
                max(found.values()) for (way, _), found in counts.items() if way.variant == variant
            )
            row[0].set_ylim(0, 1.05 * max(1, highest))
            row[0].set_ylabel(str(variant), fontsize=8)
        grid[0][0].set_title("beginnings", fontsize=9)
        grid[0][1].set_title("ends", fontsize=9)
        ticks = range(-SHIFTS, SHIFTS + 1, 5)
        names = [f"≤{t}" if t == -SHIFTS else f"≥{t}" if t == SHIFTS else str(t) for t in ticks]
        grid[-1][0].set_xticks(ticks, [each.replace("-", "\N{MINUS SIGN}") for each in names])
        for axes in grid[-1]:
            axes.set_xlabel("characters too early (−) or too late (+)")
        handles = [Patch(label=level, **look) for level, look in looks.items()]
        figure.legend(handles=handles, loc="outside upper left", ncols=len(levels))
        return _svg(figure, name)
