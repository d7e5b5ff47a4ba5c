"""The report in words: what the numbers support, and no more."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from constrained_ner.benchmark.blocks import Items, Tone, Words, bounds, number, percent, signed
from constrained_ner.benchmark.spans import distance_of, span_ways, term_of
from constrained_ner.benchmark.tables import mean_of, slowdowns, verdict
from constrained_ner.benchmark.view import (
    FREE,
    Cell,
    Group,
    View,
    Way,
    health_sum,
    metric,
    scores_of,
    untrue,
)

Item = tuple[str, str]


def setting(view: View) -> Words:
    """What was done, in one paragraph."""
    documents, entities = (
        sum(data[key] for data in view.data) for key in ("documents", "entities")
    )
    if not view.data:
        return Words("There are no data sets: nothing was measured.")
    several = any(len(group.names) > 1 for group in view.groups)
    intervals = (
        "mean and sample standard deviation over draws, each of other documents"
        if several
        else "95 % intervals in brackets, by bootstrap over documents "
        f"({view.results['resamples']} resamples)"
    )
    return Words(
        f"{documents} documents with {entities} gold entities, of {_data_sets(view)}; "
        f"{plural(len(view.variants), 'way')} to write answers, at the "
        f"{'level' if len(view.levels) == 1 else 'levels'} {listed(view.levels)}. F1 is strict, "
        "the label and all fragments right, over the entities of all documents; "
        f"{intervals}. Of free answers all that can be read counts."
    )


def seen(view: View, group: Group) -> Words | None:
    """Which of the data sets a model was trained on; None where it does not say."""
    known = [view.results.get("trained", {}).get(name) for name in group.names]
    if None in known:
        return None
    new = [name for name in view.names if not any(name in names for names in known)]
    old = [name for name in view.names if name not in new]
    if not old:
        return Words("It was trained on none of the data sets.")
    return Words(
        f"Trained on other documents of {listed(old)}"
        + (f"; {listed(new)} {'is' if len(new) == 1 else 'are'} new to it." if new else ".")
    )


def _data_sets(view: View) -> str:
    return f"{plural(len(view.names), 'data set')} ({', '.join(view.names)})"


def summary(view: View, group: Group) -> Items:
    """What constraints buy this model, losses beside gains."""
    makers: tuple[Callable[[View, Group], list[Item]], ...] = (
        _gains,
        _form,
        _truth,
        _best,
        _spans,
        _cost,
        _caution,
        _missing,
    )
    return Items(tuple(item for make in makers for item in make(view, group)))


def _differences(view: View, group: Group, level: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """For each format the differences of F1 to free answers, draw by draw."""
    found = []
    for variant in view.variants_of(group):
        cells = view.pooled(group, (variant, level))
        known = [cell["against_free"]["f1"] for cell in cells if cell.get("against_free")]
        if known:
            found.append((variant, known))
    return found


def _gains(view: View, group: Group) -> list[Item]:
    if FREE not in view.levels:
        return [("Against free:", "not measured, for no free answers are among the results.")]
    items = []
    for level in view.masked:
        differences = _differences(view, group, level)
        if not differences:
            items.append((f"{level} against free:", "not measured."))
            continue
        if len(group.names) > 1:
            items.append((f"{level} against free:", _over_draws(differences)))
            continue
        of: dict[Tone, list[str]] = {tone: [] for tone in Tone}
        for variant, (one,) in differences:
            tone = verdict(one)
            shown = f"{variant} {signed(one['difference'])} {bounds(one['interval'], signed)}"
            of[tone].append(variant if tone is Tone.PLAIN else shown)
        parts = [
            f"F1 is {word} in {len(of[tone])} of {plural(len(differences), 'format')}"
            + (f": {'; '.join(of[tone])}" if of[tone] else "")
            for tone, word in ((Tone.BETTER, "higher"), (Tone.WORSE, "lower"))
        ]
        even = of[Tone.PLAIN]
        parts.append(f"no difference shown in {len(even)}" + (f": {', '.join(even)}" * bool(even)))
        items.append((f"{level} against free:", ". ".join(map(_capital, parts)) + "."))
    if not view.masked:
        items.append(("Against free:", "not measured, for only free answers are there."))
    return items


def _over_draws(differences: list[tuple[str, list[dict[str, Any]]]]) -> str:
    parts = []
    for variant, known in differences:
        values = [one["difference"] for one in known]
        higher = sum(value > 0 for value in values)
        mean = sum(values) / len(values)
        parts.append(f"{variant} {signed(mean)} (higher in {higher} of {len(values)} draws)")
    return "mean difference of F1: " + "; ".join(parts) + "."


def _whole(view: View, group: Group, level: str) -> list[tuple[str, list[Cell]]]:
    """For each format that was answered on all data sets its cells, all draws together."""
    found = []
    for variant in view.variants_of(group):
        cells = [cell for draw in view.draws(group, (variant, level)) for cell in draw]
        if health_sum(cells, "answers"):
            found.append((variant, cells))
    return found


def _form(view: View, group: Group) -> list[Item]:
    parts = []
    for level in view.levels:
        rates = {
            variant: (health_sum(cells, "parsed"), health_sum(cells, "answers"))
            for variant, cells in _whole(view, group, level)
        }
        if not rates:
            continue
        parsed, answers = (sum(rate[i] for rate in rates.values()) for i in (0, 1))
        if parsed == answers:
            parts.append(f"{level}: all {answers}")
            continue
        low, high = (end(rates, key=lambda v: rates[v][0] / rates[v][1]) for end in (min, max))
        parts.append(
            f"{level}: {parsed} of {answers}, by format from {percent(*rates[low])} ({low}) to "
            f"{percent(*rates[high])} ({high})"
        )
    return [("Answers that follow their format to the letter:", _sentence(parts))] if parts else []


def _truth(view: View, group: Group) -> list[Item]:
    parts = []
    for level in view.levels:
        counts = {variant: untrue(cells) for variant, cells in _whole(view, group, level)}
        if not counts:
            continue
        most = max(counts, key=lambda variant: counts[variant])
        where = f", most in {most} ({counts[most]})" if counts[most] else ""
        parts.append(f"{level}: {sum(counts.values())}{where}")
    if not parts:
        return []
    return [("Surfaces, offsets and copies that are not true to the text:", _sentence(parts))]


def _best(view: View, group: Group) -> list[Item]:
    parts = []
    for level in view.levels:
        f1 = {}
        for variant in view.variants_of(group):
            cells = view.pooled(group, (variant, level))
            value = mean_of([cell["strict"]["f1"] for cell in cells])
            if value is not None:
                f1[variant] = (value, cells)
        if not f1:
            continue
        best = max(f1, key=lambda variant: f1[variant][0])
        value, cells = f1[best]
        interval = (cells[0]["strict"].get("intervals") or {}).get("f1")
        around = f" {bounds(interval)}" if interval and len(cells) == 1 else ""
        if not value:
            parts.append(f"{level}: 0 in every format")
            continue
        parts.append(f"{level}: {best}, {number(value)}{around}")
    if not parts:
        return []
    text = _sentence(parts)
    return [("Highest F1:", f"{text} Formats were not tested against one another.")]


def _spans(view: View, group: Group) -> list[Item]:
    level = view.levels[-1] if view.levels else ""
    parts = []
    for way in span_ways(view, group):
        value = mean_of(distance_of(view, group, way)) if way[1] == level else None
        if value is not None:
            parts.append(_distance(view, group, way, value))
    return [(f"Formats with offsets, {level}:", f"F1 of {_sentence(parts)}")] if parts else []


def _distance(view: View, group: Group, way: Way, value: float) -> str:
    """How far a way is from its format with terms, with the interval where it was tested."""
    cells = view.pooled(group, way)
    tested = cells[0].get("against_terms") if len(cells) == 1 else None
    where = f"{way[0]} {number(abs(value))} {'below' if value >= 0 else 'above'} {term_of(way[0])}"
    if not tested:
        return where
    even = "" if verdict(tested["f1"]) else ", no difference shown"
    return f"{where} ({bounds(tested['f1']['interval'], signed)}{even})"


def _cost(view: View, group: Group) -> list[Item]:
    items = []
    for level in view.masked:
        times = {}
        for variant in view.variants_of(group):
            value = mean_of(slowdowns(view, group, (variant, level)))
            if value is not None:
                times[variant] = value
        if times:
            low, high = (end(times, key=lambda v: times[v]) for end in (min, max))
            items.append(
                f"{level}: median {number(median(times.values()), 2)} times free's, by format from "
                f"{number(times[low], 2)} ({low}) to {number(times[high], 2)} ({high})"
            )
    return [("Seconds a document:", _sentence(items))] if items else []


def _caution(view: View, group: Group) -> list[Item]:
    tests = sum(len(_differences(view, group, level)) for level in view.masked)
    if tests < 2 or len(group.names) > 1:
        return []
    return [
        (
            "To keep in mind:",
            f"{tests} differences are tested here, without correction; were there none in truth, "
            f"about {max(1, round(tests / 20))} would seem to be there. The intervals are over "
            "documents; another training of the model is not part of them.",
        )
    ]


def _missing(view: View, group: Group) -> list[Item]:
    lacking = [cell for cell in view.missing if cell["model"] in group.names]
    if not lacking:
        return []
    return [
        (
            "Not run:",
            f"{len(lacking)} of {len(lacking) + len(view.cells(group))} cells. A format that was "
            "not run on all data sets has no pooled score.",
        )
    ]


def span_words(view: View, group: Group) -> Items:
    """The distance of each format with offsets, and where it comes from."""
    items = []
    for way in span_ways(view, group):
        distance, elsewhere = (
            mean_of(distance_of(view, group, way, name)) for name in ("strict", "overlap")
        )
        if distance is None or elsewhere is None or way[1] not in (FREE, view.levels[-1]):
            continue
        cells = [cell for draw in view.draws(group, way) for cell in draw]
        f1 = scores_of(cells, metric("strict")).f1 or 0.0
        parsed, answers = health_sum(cells, "parsed"), health_sum(cells, "answers")
        where = f"{number(abs(distance))} {'below' if distance >= 0 else 'above'}"
        items.append(
            (
                f"{way[0]}, {way[1]}:",
                f"F1 {number(f1)}, {where} {term_of(way[0])} (wrong boundaries "
                f"{signed(distance - elsewhere)}, elsewhere {signed(elsewhere)}); "
                f"{percent(parsed, answers)} of the answers parse.",
            )
        )
    return Items(tuple(items))


# ---- words --------------------------------------------------------------------------------------


def plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def listed(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else "none"


def _sentence(parts: list[str]) -> str:
    return "; ".join(parts) + "."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
