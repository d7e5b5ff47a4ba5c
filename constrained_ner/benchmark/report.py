"""The report of a benchmark: `report.html`, one file without a network, and `report.md`.

Both are made of the same sections, from `Results` and nothing else; the same results give the same
bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from constrained_ner.atomic import write_text
from constrained_ner.benchmark.blocks import Block, Fold, Plot, Plots, Section, Words
from constrained_ner.benchmark.browser import browsable
from constrained_ner.benchmark.grid import Variant
from constrained_ner.benchmark.markdown import to_markdown
from constrained_ner.benchmark.plots import (
    COLOURS_AND_MARKERS,
    accuracy_plot,
    confidence_plot,
    cost_plot,
    require_matplotlib,
    risk_plot,
    shift_plot,
    validity_plot,
)
from constrained_ner.benchmark.results import Results
from constrained_ner.benchmark.summary import glance, seen, setting, span_words, summary
from constrained_ner.benchmark.tables import (
    accuracy,
    ceiling,
    cost,
    labels,
    nesting,
    overview,
    paper,
    setup,
    spans,
    together,
    validity,
)
from constrained_ner.benchmark.view import Group, View
from constrained_ner.formats.grammar import Level
from constrained_ner.pages import script_data

HTML, MARKDOWN = "report.html", "report.md"
TITLE = "What constraints buy, format by format"


def write_report(results: Results, folder: Path) -> tuple[Path, Path]:
    """Write `report.html` and `report.md`.

    Returns
    -------
    The files.

    Raises
    ------
    MissingExtraError: without the extra `benchmark`.
    """
    require_matplotlib()
    sections = list(report_sections(View(results)))
    page = _page(sections, browsable(results.documents))
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / HTML, folder / MARKDOWN
    for path, text in zip(paths, (page, to_markdown(TITLE, sections)), strict=True):
        write_text(text, path)
    return paths


def _page(sections: list[Section], documents: list[dict[str, Any]]) -> str:
    environment = Environment(
        loader=PackageLoader("constrained_ner.benchmark"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        title=TITLE,
        sections=sections,
        documents=script_data(documents) if documents else None,
        styles=COLOURS_AND_MARKERS,
        markup=Markup,
    )


def report_sections(view: View) -> Iterator[Section]:
    if glances := [block for group in view.groups for block in _glance(view, group)]:
        yield Section("glance", "At a glance", tuple(glances))
    yield Section("summary", "Summary", tuple(_summary(view)))
    for id, title, make in (
        ("accuracy", "Accuracy", _accuracy),
        ("spans", "Formats with offsets", _spans),
        ("together", "Formats together", _together),
        ("labels", "Labels that models drift to", _labels),
        ("health", "Health of the answers", _health),
        ("confidence", "How sure the model was", _confidence),
        ("cost", "Cost", _cost),
    ):
        blocks = [block for group in view.groups for block in _of_group(view, group, make)]
        if blocks:
            yield Section(id, title, tuple(blocks))
    yield Section("paper", "The paper's tables", tuple(_paper(view)))
    yield Section("about", "What was run", tuple(_about(view)))


def _of_group(
    view: View, group: Group, make: Callable[[View, Group], Iterable[Block]]
) -> list[Block]:
    """The blocks of a model; folded below its name if there are several models."""
    blocks = list(make(view, group))
    if not blocks or len(view.groups) == 1:
        return blocks
    return [Fold(group.title, tuple(blocks))]


def _glance(view: View, group: Group) -> Iterator[Block]:
    """The first screen: to be looked at more than read."""
    if not view.ways(group):
        return
    yield Words(f"Model: {group.title}.")
    yield glance(view, group)
    plots = (
        _plot(
            accuracy_plot,
            view,
            group,
            "accuracy",
            "Strict F1 with 95 % intervals; at the edge, what the strictest level is against "
            "free answers, where a difference is shown.",
        ),
        _plot(
            validity_plot,
            view,
            group,
            "validity",
            "Answers that follow their format to the letter; surfaces, offsets and copies that "
            "are not true to the text.",
        ),
        _plot(
            cost_plot,
            view,
            group,
            "cost",
            "Strict F1 against seconds a document; lines lead from level to level of a format.",
        ),
    )
    if drawn := tuple(chain.from_iterable(plots)):
        yield Plots(drawn)


def _summary(view: View) -> Iterator[Block]:
    yield setting(view)
    for group in view.groups:
        yield Words(f"Model: {group.title}.")
        if not view.ways(group):
            yield Words("No answers.")
            continue
        if (words := seen(view, group)) is not None:
            yield words
        yield summary(view, group)
        yield overview.main_table(view, group)


def _plot(
    draw: Callable[[View, Group, str], str | None],
    view: View,
    group: Group,
    name: str,
    caption: str,
) -> Iterator[Plot]:
    """A plot with its caption, where there is anything to draw."""
    # Its id is another one than those of all others.
    if svg := draw(view, group, f"{name}{view.groups.index(group)}"):
        yield Plot(caption, svg)


def _accuracy(view: View, group: Group) -> Iterator[Block]:
    if not view.ways(group):
        return
    yield accuracy.by_data(view, group)
    for name in view.names:
        yield Fold(f"{name}: precision, recall, tests", (accuracy.of_data(view, group, name),))
    for data in view.data:
        yield Fold(f"{data.name}: by label", (accuracy.by_label(view, group, data),))
    names = {kind: view.data_with(kind) for kind in ("nested", "discontinuous")}
    names = {kind: found for kind, found in names.items() if found}
    if names:
        yield nesting.complex_entities(view, group, names)
        several = list(dict.fromkeys(name for found in names.values() for name in found))
        for name in several if len(several) > 1 else ():
            own = {kind: [name] for kind, found in names.items() if name in found}
            block = nesting.complex_entities(view, group, own)
            yield Fold(f"{name}: nested and discontinuous entities", (block,))
    else:
        yield Words("No data set has nested or discontinuous entities.")
    yield accuracy.other_counts(view, group)
    if Level.FREE in view.levels:
        yield accuracy.in_two_readings(view, group)
    yield ceiling.recall_ceiling(view, group)
    yield Fold("What cannot be written, and why", (ceiling.unwritable(view, group),))


def _spans(view: View, group: Group) -> Iterator[Block]:
    if not spans.span_ways(view, group):
        return
    words = span_words(view, group)
    if words.items:
        yield words
    yield spans.distances(view, group)
    yield spans.validity(view, group)
    yield spans.outcomes(view, group)
    yield from _plot(
        shift_plot,
        view,
        group,
        "shift",
        "Wrong spans near a gold entity, as in the paper's section 5.5: how often their "
        "beginnings and ends miss, and by how much; what is farther away stands at the edges.",
    )


def _together(view: View, group: Group) -> Iterator[Block]:
    if not together.results_of(view, group):
        return
    yield together.gains(view, group)
    yield Fold("By data set", (together.by_data(view, group),))
    yield from _plot(
        risk_plot,
        view,
        group,
        "risk",
        "How much of what is found is wrong (1 - precision), against recall, where only what is "
        "most probable is taken; the dot is the threshold from dev.",
    )


def _labels(view: View, group: Group) -> Iterator[Block]:
    drift = labels.drift(view, group)
    name = paper.named(view, "AnatEM")
    found = labels.labels_given(view, group, Variant("multi_triple"), name) if name else None
    if found:
        yield found
    elif drift.rows:
        yield Words("multi_triple on AnatEM, as in the paper's section 5.3: not measured.")
    if drift.rows:
        yield drift


def _health(view: View, group: Group) -> Iterator[Block]:
    if not view.ways(group):
        return
    yield validity.health(view, group)
    if len(view.names) > 1:
        for name in view.names:
            yield Fold(name, (validity.health(view, group, [name]),))


def _confidence(view: View, group: Group) -> Iterator[Block]:
    for plot in _plot(
        confidence_plot,
        view,
        group,
        "confidence",
        "How often entities are right by their confidence, formats and data sets together; and "
        "the share of the model's probability that masks let through. Confidence is not "
        "calibrated; on the dotted line it would be.",
    ):
        yield plot
        yield validity.confidence(view, group)


def _cost(view: View, group: Group) -> Iterator[Block]:
    if not view.ways(group):
        return
    yield cost.costs(view, group)
    if len(view.names) > 1:
        for name in view.names:
            yield Fold(name, (cost.costs(view, group, [name]),))


def _paper(view: View) -> Iterator[Block]:
    yield Words(
        "Epron, Coulet and Alam (arXiv 2604.25920): two models, trained on eight data sets, mean "
        "and standard deviation over three draws; free answers of at most 128 tokens. Other "
        "models, other documents and another way to read answers: the numbers stand side by side "
        "and are no test of one another."
    )
    yield from paper.tables(view)


def _about(view: View) -> Iterator[Block]:
    yield setup.data_sets(view)
    yield setup.settings(view)
    if view.missing:
        yield Fold(f"{len(view.missing)} cells that were not run", (setup.not_run(view),))
    seed = view.results.seed
    yield Words(
        f"Seed of draws and intervals: {'of each run its draw' if seed is None else seed}. "
        f"Resamples of intervals and tests: {view.results.resamples}."
    )
