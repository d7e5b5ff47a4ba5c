"""Metrics: hand-worked cases, laws, and agreement with seqeval on flat data."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.v1 import precision_recall_fscore_support
from seqeval.scheme import IOB2

from constrained_ner.documents import Entity
from constrained_ner.evaluation import (
    METRICS,
    PARITY,
    Counts,
    Metric,
    Scores,
    average,
    discontinuous,
    gner,
    instructuie,
    intervals,
    nested,
    of_label,
    overlap,
    paired_test,
    partial,
    plain,
    strict,
    text_multiset,
    text_set,
    uniner,
)
from constrained_ner.evaluation import resampling as resampling_module
from constrained_ner.evaluation.resampling import Difference, corrected
from tests.support.strategies import documents, examples

SUBSETS: dict[str, Metric] = {
    "nested": nested,
    "discontinuous": discontinuous,
    "plain": plain,
    "label a": of_label("a"),
}
ALL = METRICS | PARITY | SUBSETS


def entity(label: str, *fragments: tuple[int, int]) -> Entity:
    return Entity(label, fragments)


def counts(metric: Metric, gold: Sequence[Entity], predicted: Sequence[Entity]) -> Counts:
    return metric("x" * 100, gold, predicted)


# ---- hand-worked cases

TEXT = "left and right knee pain, no pain in colon cancer"
LEFT = entity("Disease", (0, 4), (15, 24))
RIGHT = entity("Disease", (9, 24))
PAIN = entity("Disease", (20, 24))
PAIN_AGAIN = entity("Disease", (29, 33))
CANCER = entity("Disease", (37, 49))
COLON = entity("Anatomy", (37, 42))
GOLD = [LEFT, RIGHT, PAIN_AGAIN, CANCER, COLON]


def test_surfaces_are_what_the_cases_say() -> None:
    surfaces = [e.surface(TEXT) for e in [*GOLD, PAIN]]
    assert surfaces == [
        *("left knee pain", "right knee pain", "pain", "colon cancer", "colon", "pain"),
    ]


def test_strict_takes_label_and_fragments() -> None:
    predicted = [
        CANCER,
        entity("Disease", (37, 42)),  # colon, with the wrong label
        entity("Disease", (0, 24)),  # left knee pain, its gap filled
        PAIN,  # the other pain
    ]
    assert strict(TEXT, GOLD, predicted) == Counts(5, 1, 4, 1)
    assert strict(TEXT, GOLD, predicted).scores == pytest.approx((0.25, 0.2, 2 / 9))


def test_duplicates_match_one_to_one() -> None:
    assert strict(TEXT, [CANCER], [CANCER, CANCER]) == Counts(1, 1, 2, 1)
    assert strict(TEXT, [CANCER, CANCER], [CANCER]) == Counts(2, 1, 1, 1)
    assert nested(TEXT, [CANCER, COLON, COLON], [COLON, CANCER]) == Counts(2, 1, 1, 1)
    assert partial(TEXT, [CANCER], [CANCER, CANCER]) == Counts(1, 1, 2, 1)


def test_texts_as_set_and_multiset() -> None:
    gold, predicted = [PAIN, PAIN_AGAIN, CANCER], [PAIN, entity("Anatomy", (37, 49))]
    assert text_multiset(TEXT, gold, predicted) == Counts(3, 1, 2, 1)
    assert text_set(TEXT, gold, predicted) == Counts(2, 1, 2, 1)
    # The wrong mention of the right surface is a hit; one surface may be many fragments.
    assert text_set(TEXT, [PAIN], [PAIN_AGAIN]) == Counts(1, 1, 1, 1)
    assert text_set("a b b", [entity("x", (0, 1), (2, 3))], [entity("x", (0, 3))]).correct == 1


def test_nested_lies_strictly_inside() -> None:
    # Inside, with the same start; the outer one is plain.
    assert nested(TEXT, [COLON, CANCER], [COLON, CANCER]) == Counts(1, 1, 1, 1)
    assert plain(TEXT, [COLON, CANCER], [COLON, CANCER]) == Counts(1, 1, 1, 1)
    # What counts is the extent: right knee pain lies inside left ... knee pain.
    assert nested(TEXT, [LEFT, RIGHT], [RIGHT]) == Counts(1, 1, 0, 0)
    assert nested(TEXT, GOLD, []).gold == 2
    assert plain(TEXT, GOLD, []).gold == 2
    # The same extent is not nested, and crossing is not.
    assert nested(TEXT, [COLON, entity("Disease", (37, 42))], []).gold == 0
    assert nested(TEXT, [entity("a", (0, 5)), entity("a", (3, 8))], []).gold == 0
    # Three levels: two lie inside.
    layers = [entity("a", (0, 9)), entity("a", (1, 9)), entity("a", (1, 8)), entity("b", (1, 8))]
    assert nested(TEXT, layers, []).gold == 3
    assert plain(TEXT, layers, []).gold == 1


def test_each_side_is_chosen_for_itself() -> None:
    # The inner one is found, the outer one is not: a hit for recall; no prediction is nested.
    assert nested(TEXT, [CANCER, COLON], [COLON]) == Counts(1, 1, 0, 0)
    assert nested(TEXT, [CANCER, COLON], [COLON]).scores == Scores(0.0, 1.0, 0.0)
    assert plain(TEXT, [CANCER, COLON], [COLON]) == Counts(1, 0, 1, 1)
    # A wrong outer one makes a right prediction nested.
    assert nested(TEXT, [COLON], [COLON, CANCER]) == Counts(0, 0, 1, 1)


def test_discontinuous() -> None:
    predicted = [LEFT, entity("Disease", (9, 14), (29, 33))]
    assert discontinuous(TEXT, GOLD, predicted) == Counts(1, 1, 2, 1)
    assert discontinuous(TEXT, [RIGHT], [RIGHT]).scores == Scores(None, None, None)


def test_overlap_is_a_maximum_matching() -> None:
    a, b = entity("x", (0, 6)), entity("x", (5, 9))
    first, second = entity("x", (5, 9)), entity("x", (8, 12))
    # b matches both, a only the first: greedily b would take it.
    for gold in permutations([a, b]):
        for predicted in permutations([first, second]):
            assert counts(overlap, gold, predicted) == Counts(2, 2, 2, 2)
            assert counts(partial, gold, predicted) == Counts(2, 1, 2, 1)
    # One long prediction is one hit.
    assert counts(overlap, [a, entity("x", (7, 9))], [entity("x", (0, 20))]) == Counts(2, 1, 1, 1)


def test_overlap_needs_label_and_a_common_character() -> None:
    assert counts(overlap, [entity("x", (0, 5))], [entity("y", (0, 5))]).correct == 0
    assert counts(overlap, [entity("x", (0, 5))], [entity("x", (5, 6))]).correct == 0
    assert counts(overlap, [entity("x", (0, 2), (8, 9))], [entity("x", (3, 7))]).correct == 0
    assert counts(overlap, [entity("x", (0, 2), (8, 9))], [entity("x", (3, 9))]).correct == 1


def test_partial_gives_half() -> None:
    gold = [CANCER, PAIN, RIGHT]
    predicted = [CANCER, entity("Disease", (15, 24)), entity("Anatomy", (9, 24))]
    # One exact, one of two that share characters with (15, 24), one with the wrong label.
    assert partial(TEXT, gold, predicted) == Counts(3, 1.5, 3, 1.5)
    assert partial(TEXT, gold, predicted).scores.f1 == 0.5


def test_a_long_chain_of_overlaps() -> None:
    gold = [entity("x", (4 * i, 4 * i + 3)) for i in range(1500)]
    shifted = [entity("x", (4 * i + 2, 4 * i + 5)) for i in range(1500)]
    assert overlap("", gold[::-1], shifted).correct == 1500
    assert overlap("", gold, [entity("x", (0, 1)), *shifted[:-1]]).correct == 1500


def test_zero_denominators() -> None:
    assert Counts().scores == Scores(None, None, None)
    assert Counts(gold=2).scores == Scores(0.0, 0.0, 0.0)
    assert Counts(predicted=2).scores == Scores(0.0, 0.0, 0.0)
    assert Counts(2, 0, 2, 0).scores == Scores(0.0, 0.0, 0.0)


def test_averages_leave_out_what_is_not_there() -> None:
    found = average([Counts(1, 1, 1, 1).scores, Counts().scores, Counts(2, 1, 4, 1).scores])
    assert found == pytest.approx((0.625, 0.75, (1 + 1 / 3) / 2))
    assert average([]) == Scores(None, None, None)


# ---- laws


Pair = tuple[str, tuple[Entity, ...], tuple[Entity, ...]]


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """A text, gold and predicted entities, some of them shared."""
    document = draw(documents(("a", "b"), most=8))
    sides = [
        tuple(e for e in document.entities if draw(st.sampled_from([True, True, False])))
        for _ in range(2)
    ]
    return document.text, sides[0], sides[1]


@pytest.mark.parametrize("name", ALL)
@given(pair=pairs(), random=st.randoms(use_true_random=False))
def test_order_does_not_matter(name: str, pair: Pair, random: random.Random) -> None:
    text, gold, predicted = pair
    again = random.sample(gold, len(gold)), random.sample(predicted, len(predicted))
    assert ALL[name](text, *again) == ALL[name](text, gold, predicted)


@pytest.mark.parametrize("name", ALL)
@given(pair=pairs())
def test_identity_is_perfect_and_a_swap_swaps(name: str, pair: Pair) -> None:
    text, gold, predicted = pair
    same = ALL[name](text, gold, gold)
    assert same.scores in (Scores(1.0, 1.0, 1.0), Scores(None, None, None))
    there, back = ALL[name](text, gold, predicted), ALL[name](text, predicted, gold)
    assert there == Counts(back.predicted, back.correct, back.gold, back.found)
    assert 0 <= there.found <= there.gold
    assert 0 <= there.correct <= there.predicted


@given(pair=pairs())
def test_strict_partial_overlap(
    pair: Pair,
) -> None:
    text, gold, predicted = pair
    exact, half, any_overlap = (m(text, gold, predicted) for m in (strict, partial, overlap))
    assert exact.correct <= half.correct <= any_overlap.correct
    assert exact.correct <= text_multiset(text, gold, predicted).correct
    by_label = [of_label(label)(text, gold, predicted) for label in ("a", "b")]
    assert sum(by_label, Counts()) == exact
    in_gold = [m(text, gold, predicted).gold for m in (plain, nested, discontinuous)]
    assert max(in_gold) <= len(gold) <= sum(in_gold)


@given(pair=pairs())
def test_matching_is_the_best_of_all(
    pair: Pair,
) -> None:
    """Against every assignment of the smaller side to the larger one."""
    text, gold, predicted = pair
    few, many = sorted([gold[:5], predicted[:5]], key=len)

    def characters(e: Entity) -> set[tuple[str, int]]:
        return {(e.label, i) for start, end in e.fragments for i in range(start, end)}

    def best(exact: float, shared: float) -> float:
        return max(
            sum(
                exact if a == b else shared if characters(a) & characters(b) else 0
                for a, b in zip(few, order, strict=True)
            )
            for order in permutations(many, len(few))
        )

    assert overlap(text, few, many).correct == best(1, 1)
    assert partial(text, few, many).correct == best(1, 0.5)


# ---- seqeval


@st.composite
def tagged(draw: st.DrawFn, words: int) -> list[str]:
    """Valid IOB2 tags."""
    tags: list[str] = []
    while len(tags) < words:
        length = draw(st.integers(1, 3))
        label = draw(st.sampled_from(["O", "O", "a", "b", "c"]))
        tags += [label] if label == "O" else [f"B-{label}", *[f"I-{label}"] * (length - 1)]
    return tags[:words]


@st.composite
def tagged_pairs(draw: st.DrawFn) -> tuple[list[list[str]], list[list[str]]]:
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    gold = [draw(tagged(length)) for length in lengths]
    # Half of the sentences are predicted right, so that there are hits.
    return gold, [tags if draw(st.booleans()) else draw(tagged(len(tags))) for tags in gold]


def entities_of(tags: list[str]) -> list[Entity]:
    """Of words of one character each, with one space between them."""
    spans: list[tuple[str, int, int]] = []
    for i, tag in enumerate(tags):
        if tag.startswith("B-"):
            spans.append((tag[2:], 2 * i, 2 * i + 1))
        elif tag.startswith("I-"):
            label, start, _ = spans.pop()
            spans.append((label, start, 2 * i + 1))
    return [entity(label, (start, end)) for label, start, end in spans]


@given(pair=tagged_pairs())
@examples(150)
def test_seqeval_agrees(pair: tuple[list[list[str]], list[list[str]]]) -> None:
    both = [(entities_of(g), entities_of(p)) for g, p in zip(*pair, strict=True)]
    labels = sorted({e.label for gold, predicted in both for e in [*gold, *predicted]})
    if not labels:
        return
    total = sum((counts(strict, *sides) for sides in both), Counts())
    by_label = [
        sum((counts(of_label(label), *sides) for sides in both), Counts()) for label in labels
    ]

    def theirs(mean: str | None) -> tuple[list[float], list[float], list[float], list[float]]:
        found = precision_recall_fscore_support(*pair, average=mean, scheme=IOB2, zero_division=0)
        return tuple(np.atleast_1d(column).tolist() for column in found)

    micro, macro, each = theirs("micro"), theirs("macro"), theirs(None)
    assert total.scores == pytest.approx([column[0] for column in micro[:3]])
    assert total.gold == micro[3][0]
    assert average(c.scores for c in by_label) == pytest.approx([c[0] for c in macro[:3]])
    for i, label_counts in enumerate(by_label):
        assert label_counts.scores == pytest.approx([column[i] for column in each[:3]])
        assert label_counts.gold == each[3][i]


# ---- parity


def test_parity_metrics_are_told_apart() -> None:
    """One text, one prediction, four ways to count."""
    text = "The p53 gene and p53."
    gold = [entity("gene", (0, 12)), entity("gene", (4, 7))]
    predicted = [entity("gene", (4, 12)), entity("gene", (17, 20))]
    assert strict(text, gold, predicted) == Counts(2, 0, 2, 0)
    # `The p53 gene` is `p53 gene`, and any p53 will do.
    assert uniner(text, gold, predicted) == Counts(2, 2, 2, 2)
    # Articles stay; the mention does not matter.
    assert instructuie(text, gold, predicted) == Counts(2, 1, 2, 1)
    # The nested p53 is not tagged in gold.
    assert gner(text, gold, predicted) == Counts(1, 1, 2, 1)


def test_an_agreed_none_is_a_hit_in_instructuie_only() -> None:
    assert instructuie("x", [], []) == Counts(1, 1, 1, 1)
    for metric in (uniner, gner, strict):
        assert metric("x", [], []) == Counts()
    assert instructuie("x", [entity("a", (0, 1))], []) == Counts(1, 0, 1, 0)


def test_uniner_normalises_and_takes_each_once() -> None:
    text = "P53, the p-53 and A p53"
    gold = [entity("gene", (0, 3)), entity("gene", (9, 13))]
    assert uniner(text, gold, [entity("gene", (18, 23))]) == Counts(1, 1, 1, 1)
    assert uniner(text, gold, [entity("Gene", (0, 3))]) == Counts(1, 0, 1, 0)
    # A letter that is no article goes, too.
    assert uniner("hepatitis A", [entity("d", (0, 11))], [entity("d", (0, 9))]).correct == 1


def test_uniner_reads_up_to_the_first_bracket() -> None:
    text = "[Ca2+]i and ATP"
    calcium, atp = entity("ion", (0, 7)), entity("ion", (12, 15))
    # The list is cut inside a surface and lost, on either side.
    assert uniner(text, [calcium, atp], [atp]) == Counts(0, 0, 1, 0)
    assert uniner(text, [atp], [calcium, atp]) == Counts(1, 0, 0, 0)
    assert uniner(text, [calcium, entity("drug", (12, 15))], []) == Counts(1, 0, 0, 0)
    assert uniner(text, [entity("ion", (0, 5))], []).gold == 1  # an opening one does no harm
    assert instructuie(text, [calcium, atp], [atp]) == Counts(2, 1, 1, 1)


def test_instructuie_splits_at_semicolons_and_rewrites() -> None:
    text = "IL-2;IL 2 at the Location; at the located, x"
    split = [entity("gene", (0, 9))]
    assert instructuie(text, split, split) == Counts(2, 2, 2, 2)
    assert instructuie(text, split, [entity("gene", (0, 4))]) == Counts(2, 1, 1, 1)
    gold, predicted = [entity("a", (10, 25))], [entity("a", (27, 41))]
    assert instructuie(text, gold, predicted) == Counts(1, 1, 1, 1)
    assert uniner(text, gold, predicted) == Counts(1, 0, 1, 0)
    # Space around punctuation goes, and with it the difference of these.
    assert instructuie("a - b a-b", [entity("x", (0, 5))], [entity("x", (6, 9))]).correct == 1


def test_gner_flattens_to_words() -> None:
    text = "CD28-mediated left and right knee pain"
    part, word = entity("gene", (0, 4)), entity("gene", (0, 13))
    assert gner(text, [part], [word]) == Counts(1, 1, 1, 1)  # a tag is for a whole word
    left, right = entity("d", (14, 18), (29, 38)), entity("d", (23, 38))
    whole, knee = entity("d", (14, 38)), entity("a", (29, 33))
    assert gner(text, [left, right, knee], [whole]) == Counts(1, 1, 1, 1)  # the longest wins
    # Of equally long ones the first wins, then the first label.
    assert gner("x y z", [entity("b", (2, 5)), entity("a", (0, 3))], []).gold == 1
    assert gner("x y z", [entity("b", (2, 5)), entity("a", (0, 3))], [entity("a", (0, 3))]) == (
        Counts(1, 1, 1, 1)
    )
    assert gner("x", [entity("b", (0, 1)), entity("a", (0, 1))], [entity("a", (0, 1))]).found == 1
    assert gner("x", [entity("b", (0, 1)), entity("a", (0, 1))], [entity("b", (0, 1))]).found == 0
    # How far they reach into their words does not matter.
    both = [entity("protein", (0, 13)), entity("cell", (0, 4))]
    assert gner(text, both, [entity("cell", (5, 13))]) == Counts(1, 1, 1, 1)


def test_gner_normalises_words_and_labels() -> None:
    text = "The Cell. cell"
    gold, predicted = [entity("cell_type", (0, 9))], [entity("Cell type", (10, 14))]
    assert gner(text, gold, predicted) == Counts(1, 0, 1, 0)
    assert gner(text, gold, [entity("celltype", (10, 14))]) == Counts(1, 1, 1, 1)


# ---- resampling

DOCUMENTS = [Counts(4, 2, 3, 2), Counts(1, 1, 1, 1), Counts(3, 0, 1, 0), Counts(0, 0, 2, 0)] * 5
BETTER = [Counts(4, 4, 5, 4), Counts(1, 1, 1, 1), Counts(3, 1, 1, 1), Counts(0, 0, 2, 0)] * 5


def test_intervals_hold_the_point_and_follow_the_seed() -> None:
    found = intervals(DOCUMENTS, resamples=2000)
    assert found is not None
    for score, (low, high) in zip(sum(DOCUMENTS, Counts()).scores, found, strict=True):
        assert score is not None
        assert low < score < high
    assert found == intervals(DOCUMENTS, resamples=2000)
    assert found == intervals(DOCUMENTS[::-1], resamples=2000)  # documents have no order
    assert found != intervals(DOCUMENTS, resamples=2000, seed=1)


def test_intervals_of_identical_documents_are_points() -> None:
    assert intervals([Counts(4, 2, 2, 2)] * 7, resamples=50) == ((1, 1), (0.5, 0.5), (2 / 3, 2 / 3))
    assert intervals([Counts()] * 3, resamples=50) is None
    assert intervals([], resamples=50) is None


def test_intervals_are_those_of_a_plain_bootstrap() -> None:
    """Drawn document by document, without the shortcut over equal documents."""
    rng = np.random.default_rng(5)
    f1 = []
    for _ in range(4000):
        drawn = rng.integers(len(DOCUMENTS), size=len(DOCUMENTS))
        f1.append(sum((DOCUMENTS[i] for i in drawn), Counts()).scores.f1 or 0.0)
    found = intervals(DOCUMENTS, resamples=4000)
    assert found is not None
    assert found[2] == pytest.approx(np.quantile(f1, [0.025, 0.975]), abs=0.02)


def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = intervals(DOCUMENTS, resamples=101), paired_test(DOCUMENTS, BETTER, resamples=101)
    monkeypatch.setattr(resampling_module, "_CELLS", 13)
    parts = intervals(DOCUMENTS, resamples=101), paired_test(DOCUMENTS, BETTER, resamples=101)
    assert whole == parts


def test_without_resamples_nothing_is_known() -> None:
    assert paired_test(DOCUMENTS, BETTER, resamples=0) is None


def test_a_line_end_inside_a_surface_is_a_space() -> None:
    text = "knee\npain, then knee pain"
    gold, predicted = [entity("x", (16, 25))], [entity("x", (0, 9))]
    assert text_set(text, gold, predicted) == Counts(1, 1, 1, 1)


def test_a_system_does_not_differ_from_itself() -> None:
    found = paired_test(DOCUMENTS, DOCUMENTS, resamples=200)
    assert found is not None
    for difference in found:
        assert difference.difference == 0
        assert difference.interval == (0, 0)
        assert difference.p == 1


def test_paired_test_of_a_better_system() -> None:
    found = paired_test(DOCUMENTS, BETTER, resamples=999)
    back = paired_test(BETTER, DOCUMENTS, resamples=999)
    assert found is not None
    assert back is not None
    _, recall, f1 = found
    assert recall.difference == pytest.approx(15 / 40)
    assert recall.interval[0] > 0
    # Ten documents differ, all one way: 2 of 1024 swaps are as far apart.
    assert f1.p == pytest.approx(2 / 1024, abs=0.004)
    assert recall.p == pytest.approx(2 / 1024, abs=0.004)
    for one, other in zip(found, back, strict=True):
        assert one.difference == -other.difference
        assert one.p == pytest.approx(other.p, abs=0.02)
        assert one.interval == pytest.approx([-x for x in other.interval[::-1]])


def test_p_is_that_of_all_swaps() -> None:
    """Three documents have eight swaps: p is known."""
    first = [Counts(2, 0, 2, 0), Counts(2, 1, 2, 1), Counts(2, 2, 2, 2)]
    second = [Counts(2, 2, 2, 2), Counts(2, 2, 2, 2), Counts(2, 1, 2, 1)]
    # Differences 2, 1, -1 of 6: |d| >= 2 for the signs of 2 and of the sum of the rest: 6 of 8.
    found = paired_test(first, second, resamples=20_000)
    assert found is not None
    assert found[1].difference == pytest.approx(2 / 6)
    assert found[1].p == pytest.approx(6 / 8, abs=0.01)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_p_values_are_corrected_for_how_many_there_are(ps: list[float]) -> None:
    """Holm's are the largest that reject what the closed Bonferroni procedure rejects."""
    found = corrected([Difference(0.1, (0.0, 0.2), p) for p in ps])
    assert all((one.difference, one.interval) == (0.1, (0.0, 0.2)) for one in found)
    for i, one in enumerate(found):
        # Of all groups of tests that it belongs to, the one that Bonferroni rejects last.
        others = sorted(p for j, p in enumerate(ps) if j != i and p >= ps[i])
        smaller = sorted((p for j, p in enumerate(ps) if j != i and p < ps[i]), reverse=True)
        groups = [(1 + len(others)) * ps[i]]
        groups += [(1 + len(others) + n) * p for n, p in enumerate(smaller, 1)]
        assert one.p == pytest.approx(min(1.0, max(groups)))


def test_corrected_by_hand() -> None:
    found = corrected([Difference(0.1, (0.0, 0.2), p) for p in (0.01, 0.04, 0.03, 0.005)])
    assert [one.p for one in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert corrected([]) == []


def test_without_gold_a_system_that_finds_nothing_is_not_better_by_chance() -> None:
    """Swaps after which a system predicts nothing cannot be measured: they count against it."""
    first = [Counts(predicted=1), *[Counts()] * 9]
    second = [Counts(), Counts(predicted=1), *[Counts()] * 8]
    found = paired_test(first, second, resamples=1000)
    assert found is not None
    assert found.f1.p == found.precision.p == 1


def test_nothing_to_compare() -> None:
    assert paired_test([Counts()], [Counts()], resamples=10) is None
    assert paired_test([], [], resamples=10) is None


@given(gold=st.integers(0, 5), predicted=st.integers(0, 5), data=st.data())
def test_array_scores_are_those_of_counts(gold: int, predicted: int, data: st.DataObject) -> None:
    one = Counts(
        gold,
        data.draw(st.integers(0, 2 * gold)) / 2,
        predicted,
        data.draw(st.integers(0, 2 * predicted)) / 2,
    )
    found = intervals([one], resamples=1)
    if one.scores.f1 is None:
        assert found is None
    else:
        assert found is not None
        assert [low for low, _ in found] == list(one.scores)
