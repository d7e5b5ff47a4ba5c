"""The report's summary in words: it says only what the numbers support."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median

from constrained_ner.benchmark.blocks import Items, Tone, Words, bounds, number, percent, signed
from constrained_ner.benchmark.grid import Variant, Way
from constrained_ner.benchmark.tables.cost import slowdowns
from constrained_ner.benchmark.tables.fields import mean_of, pooled_interval, tested, verdict
from constrained_ner.benchmark.tables.spans import as_terms, distance_of, overlap, span_ways
from constrained_ner.benchmark.view import (
    Cells,
    Group,
    View,
    answers,
    f1_of,
    parsed,
    strict,
    untrue,
)
from constrained_ner.evaluation.resampling import Difference
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prediction import counted

Item = tuple[str, str]


def setting(view: View) -> Words:
    """What was done, in one paragraph."""
    documents = sum(data.documents for data in view.data)
    entities = sum(data.entities for data in view.data)
    if not view.data:
        return Words("There are no data sets: nothing was measured.")
    several = any(len(group.names) > 1 for group in view.groups)
    intervals = (
        "mean and sample standard deviation over draws, each of other documents"
        if several
        else "95 % intervals in brackets, by bootstrap over documents "
        f"({view.results.resamples} resamples)"
    )
    return Words(
        f"{documents} documents with {entities} gold entities, of {_data_sets(view)}; "
        f"{counted(len(view.variants), 'way')} to write answers, at the "
        f"{'level' if len(view.levels) == 1 else 'levels'} {listed(view.levels)}. F1 is strict, "
        "the label and all fragments right, over the entities of all documents; "
        f"{intervals}. Of free answers all that can be read counts."
    )


def seen(view: View, group: Group) -> Words | None:
    """How many of the documents a model was trained on; None if that is not known.

    The names of the data sets are no evidence: the training and the test split often share one.
    """
    known = [view.results.seen[name] for name in group.names if name in view.results.seen]
    if len(known) < len(group.names):
        return None
    most = {name: max(found.get(name, 0) for found in known) for name in view.names}
    parts = [
        f"{most[data.name]} of {counted(data.documents, 'document')} of {data.name}"
        for data in view.data
        if most[data.name]
    ]
    if not parts:
        return Words("None of the documents is among those that it was trained on, as a whole.")
    each = "in one of its draws it" if len(known) > 1 else "it"
    return Words(
        f"Seen before: {listed(parts)} {'are' if sum(most.values()) > 1 else 'is'} among those "
        f"that {each} was trained on. Scores on these say little about texts that it has not seen."
    )


def _data_sets(view: View) -> str:
    return f"{counted(len(view.names), 'data set')} ({', '.join(view.names)})"


def summary(view: View, group: Group) -> Items:
    """What constraints bring this model, losses as well as gains."""
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


def glance(view: View, group: Group) -> Items:
    """Three sentences: what is found, what constraints change, what they guarantee and cost."""
    makers: tuple[tuple[str, Callable[[View, Group], str]], ...] = (
        ("What is found:", _found),
        ("What constraints change:", _changed),
        ("What they guarantee and cost:", _guaranteed),
    )
    items = ((lead, make(view, group)) for lead, make in makers)
    return Items(tuple((lead, text) for lead, text in items if text))


def _ends(view: View) -> list[Level]:
    """The strictest level, and the one with the least constraints."""
    return list(dict.fromkeys((view.levels[-1], view.levels[0])))


def _found(view: View, group: Group) -> str:
    parts = [part for level in _ends(view) if (part := _best_of(view, group, level))]
    return f"the highest F1, {_sentence(parts)}" if parts else ""


def _changed(view: View, group: Group) -> str:
    level = view.levels[-1]
    differences = _differences(view, group, level)
    if not differences or level == Level.FREE:
        return ""
    mean = {variant: fmean(one.difference for one in known) for variant, known in differences}
    low, high = (end(mean, key=lambda variant: mean[variant]) for end in (min, max))
    span = f"by format from {signed(mean[low])} ({low}) to {signed(mean[high])} ({high})"
    if len(group.names) > 1:
        return f"{level} against free, F1 {span}, mean over draws."
    tones = [verdict(one) for _, (one,) in differences]
    better, worse, unclear = (
        sum(tone is each for tone in tones) for each in (Tone.BETTER, Tone.WORSE, Tone.UNCLEAR)
    )
    return (
        f"{level} against free, F1 is higher in {better} of {counted(len(tones), 'format')}, lower "
        f"in {worse}, unclear in {unclear}; {span}."
    )


def _guaranteed(view: View, group: Group) -> str:
    parts = []
    for level in _ends(view):
        cells = [cell for _, of in _whole(view, group, level) for cell in of]
        if cells:
            parts.append(
                f"of {level} answers {percent(parsed(cells), answers(cells))} follow their "
                f"format, with {untrue(cells)} places that are not true to the text"
            )
    times = _slowdowns(view, group, view.levels[-1])
    if times:
        parts.append(f"at {number(median(times.values()), 2)} times free's seconds, in the median")
    return _sentence(parts) if parts else ""


def _slowdowns(view: View, group: Group, level: Level) -> dict[Variant, float]:
    """For each format its seconds as multiples of those of free answers."""
    if level == Level.FREE:
        return {}
    found = {}
    for variant in view.variants_of(group):
        value = mean_of(slowdowns(view, group, Way(variant, level)))
        if value is not None:
            found[variant] = value
    return found


def _differences(view: View, group: Group, level: Level) -> list[tuple[Variant, list[Difference]]]:
    """For each format the differences of F1 to free answers, draw by draw."""
    found = []
    for variant in view.variants_of(group):
        pooled = view.pooled(group, Way(variant, level))
        known = [each.against_free.f1 for each in pooled if each.against_free]
        if known:
            found.append((variant, known))
    return found


def _gains(view: View, group: Group) -> list[Item]:
    if Level.FREE not in view.levels:
        return [("Against free:", "not measured, for no free answers are among the results.")]
    items = []
    for level in view.masked:
        differences = _differences(view, group, level)
        if not differences:
            items.append((f"{level} against free:", "not measured."))
        elif len(group.names) > 1:
            items.append((f"{level} against free:", _over_draws(differences)))
        else:
            of_one = [(variant, one) for variant, (one,) in differences]
            items.append((f"{level} against free:", _verdicts(of_one)))
    if not view.masked:
        items.append(("Against free:", "not measured, for only free answers are there."))
    return items


def _verdicts(differences: list[tuple[Variant, Difference]]) -> str:
    """Which formats are better, which are worse, and which show no difference."""
    of: dict[Tone, list[str]] = {tone: [] for tone in Tone}
    for variant, one in differences:
        tone = verdict(one)
        numbers = f" {signed(one.difference)} {tested(one)}" if tone is not Tone.PLAIN else ""
        of[tone].append(f"{variant}{numbers}")

    def part(words: str, tone: Tone, between: str = "; ") -> str:
        return words + (f": {between.join(of[tone])}" if of[tone] else "")

    formats = counted(len(differences), "format")
    parts = [
        part(f"F1 is higher in {len(of[Tone.BETTER])} of {formats}", Tone.BETTER),
        part(f"F1 is lower in {len(of[Tone.WORSE])} of {formats}", Tone.WORSE),
        part(f"No difference shown in {len(of[Tone.PLAIN])}", Tone.PLAIN, ", "),
    ]
    if unclear := of[Tone.UNCLEAR]:
        words = f"Unclear in {len(unclear)}, where interval and p-value disagree"
        parts.append(part(words, Tone.UNCLEAR))
    return ". ".join(parts) + "."


def _over_draws(differences: list[tuple[Variant, list[Difference]]]) -> str:
    parts = []
    for variant, known in differences:
        values = [one.difference for one in known]
        higher = sum(value > 0 for value in values)
        mean = sum(values) / len(values)
        parts.append(f"{variant} {signed(mean)} (higher in {higher} of {len(values)} draws)")
    return "mean difference of F1: " + "; ".join(parts) + "."


def _whole(view: View, group: Group, level: Level) -> list[tuple[Variant, Cells]]:
    """The cells of each format that was answered on all data sets, all draws together."""
    found: list[tuple[Variant, Cells]] = []
    for variant in view.variants_of(group):
        cells = [cell for draw in view.draws(group, Way(variant, level)) for cell in draw]
        if answers(cells):
            found.append((variant, cells))
    return found


def _form(view: View, group: Group) -> list[Item]:
    parts = []
    for level in view.levels:
        rates = {
            variant: (parsed(cells), answers(cells))
            for variant, cells in _whole(view, group, level)
        }
        if not rates:
            continue
        good, every = (sum(rate[i] for rate in rates.values()) for i in (0, 1))
        if good == every:
            parts.append(f"{level}: all {every}")
            continue
        low, high = (end(rates, key=lambda v: rates[v][0] / rates[v][1]) for end in (min, max))
        parts.append(
            f"{level}: {good} of {every}, by format from {percent(*rates[low])} ({low}) to "
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
    parts = [part for level in view.levels if (part := _best_of(view, group, level))]
    if not parts:
        return []
    text = _sentence(parts)
    return [("Highest F1:", f"{text} Formats were not tested against one another.")]


def _best_of(view: View, group: Group, level: Level) -> str:
    """The format with the highest F1 at a level; empty where none was measured."""
    f1 = {}
    for variant in view.variants_of(group):
        pooled = view.pooled(group, Way(variant, level))
        value = mean_of([each.strict.scores.f1 for each in pooled])
        if value is not None:
            f1[variant] = (value, pooled_interval(pooled))
    if not f1:
        return ""
    best = max(f1, key=lambda variant: f1[variant][0])
    value, interval = f1[best]
    if not value:
        return f"{level}: 0 in every format"
    around = f" {bounds(interval)}" if interval else ""
    return f"{level}: {best}, {number(value)}{around}"


def _spans(view: View, group: Group) -> list[Item]:
    level = view.levels[-1]
    parts = []
    for way in span_ways(view, group):
        value = mean_of(distance_of(view, group, way)) if way.level is level else None
        if value is not None:
            parts.append(_distance(view, group, way, value))
    return [(f"Formats with offsets, {level}:", f"F1 of {_sentence(parts)}")] if parts else []


def _distance(view: View, group: Group, way: Way, value: float) -> str:
    """The distance to the format with terms, and the test of it if there is one."""
    pooled = view.pooled(group, way)
    differences = pooled[0].against_terms if len(pooled) == 1 else None
    where = f"{way.variant} {_from_terms(way, value)}"
    if differences is None:
        return where
    even = _NOT_SHOWN.get(verdict(differences.f1), "")
    return f"{where} ({tested(differences.f1)}{even})"


_NOT_SHOWN = {Tone.PLAIN: ", no difference shown", Tone.UNCLEAR: ", unclear"}


def _from_terms(way: Way, distance: float) -> str:
    term = as_terms(way)
    assert term is not None
    side = "below" if distance >= 0 else "above"
    return f"{number(abs(distance))} {side} {term.variant}"


def _cost(view: View, group: Group) -> list[Item]:
    items = []
    for level in view.masked:
        if times := _slowdowns(view, group, level):
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
            f"{tests} differences are tested here; the p-values are corrected for that (Holm), the "
            "intervals are those of each by itself. They are over documents; another training of "
            "the model is not part of them.",
        )
    ]


def _missing(view: View, group: Group) -> list[Item]:
    lacking = [cell for cell in view.missing if cell.model in group.names]
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
    """The distance of each format with offsets to its format with terms, and its causes."""
    items = []
    for way in span_ways(view, group):
        distance = mean_of(distance_of(view, group, way))
        elsewhere = mean_of(distance_of(view, group, way, overlap))
        shown = way.level in (Level.FREE, view.levels[-1])
        if distance is None or elsewhere is None or not shown:
            continue
        cells = [cell for draw in view.draws(group, way) for cell in draw]
        items.append(
            (
                f"{way.variant}, {way.level}:",
                f"F1 {number(f1_of(cells, strict) or 0.0)}, {_from_terms(way, distance)} (wrong "
                f"boundaries {signed(distance - elsewhere)}, elsewhere {signed(elsewhere)}); "
                f"{percent(parsed(cells), answers(cells))} of the answers parse.",
            )
        )
    return Items(tuple(items))


# ---- words --------------------------------------------------------------------------------------


def listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else "none"


def _sentence(parts: list[str]) -> str:
    return "; ".join(parts) + "."
