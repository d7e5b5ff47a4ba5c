"""What becomes of answers that contradict each other."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, permutations

from hypothesis import given
from hypothesis import strategies as st

from constrained_ner.documents import Document, Entity
from constrained_ner.pipeline.conflicts import Conflicts, Mention, labels_together

TEXT = "A colon cancer cell line."
COLON, CANCER, CELL = ((2, 7),), ((2, 14),), ((2, 19),)
ASKED = ("Disease", "Anatomy", "GENE", "protein", "cell_type")


def mention(
    label: str, fragments: tuple[tuple[int, int], ...], sure: float, answer: int
) -> Mention:
    return Mention(Entity(label, fragments), sure, answer)


def settled(*mentions: Mention, conflicts: Conflicts | None = None) -> dict[Entity, object]:
    found = replace(conflicts or Conflicts(), order=ASKED).settled(mentions)
    return {entity: (verdict.confidence, dict(verdict.also)) for entity, verdict in found.items()}


def test_of_sure_answers_about_the_same_words_the_label_that_comes_first_stays() -> None:
    assert settled(
        mention("Anatomy", CANCER, 0.98, 0),
        mention("Disease", CANCER, 0.85, 1),
        mention("cell_type", CANCER, 0.6, 2),
    ) == {Entity("Disease", CANCER): (0.85, {"Anatomy": 0.98, "cell_type": 0.6})}


def test_a_sure_answer_stays_whatever_its_label() -> None:
    assert settled(mention("Disease", CANCER, 0.7, 0), mention("cell_type", CANCER, 0.8, 1)) == {
        Entity("cell_type", CANCER): (0.8, {"Disease": 0.7})
    }


def test_of_unsure_answers_the_surest_stays() -> None:
    assert settled(mention("Disease", CANCER, 0.2, 0), mention("Anatomy", CANCER, 0.3, 1)) == {
        Entity("Anatomy", CANCER): (0.3, {"Disease": 0.2})
    }


def test_entities_may_lie_inside_each_other_but_not_cross() -> None:
    inside = settled(mention("Disease", CANCER, 0.9, 0), mention("Anatomy", COLON, 0.3, 1))
    assert set(inside) == {Entity("Disease", CANCER), Entity("Anatomy", COLON)}
    crossing = settled(mention("Disease", CANCER, 0.7, 0), mention("cell_type", ((8, 19),), 0.8, 1))
    assert set(crossing) == {Entity("cell_type", ((8, 19),))}


def test_what_one_answer_says_stays_together() -> None:
    both = (mention("Disease", CANCER, 0.9, 0), mention("Anatomy", CANCER, 0.3, 0))
    assert len(settled(*both)) == 2


def test_labels_that_a_data_set_gives_together() -> None:
    both = (mention("Disease", CANCER, 0.9, 0), mention("Anatomy", CANCER, 0.3, 1))
    conflicts = Conflicts(together=frozenset({frozenset({"Disease", "Anatomy"})}))
    assert len(settled(*both, conflicts=conflicts)) == 2


def test_synonyms_have_one_name_and_keep_the_other() -> None:
    conflicts = Conflicts(synonyms=(("gene", "Protein"),))
    found = settled(
        mention("GENE", COLON, 0.5, 0), mention("protein", COLON, 0.8, 1), conflicts=conflicts
    )
    assert found == {Entity("GENE", COLON): (0.8, {"protein": 0.8})}
    alone = settled(mention("protein", COLON, 0.8, 1), conflicts=conflicts)
    assert alone == {Entity("GENE", COLON): (0.8, {"protein": 0.8})}
    borders = settled(
        mention("GENE", COLON, 0.9, 0), mention("protein", CANCER, 0.8, 1), conflicts=conflicts
    )
    assert set(borders) == {Entity("GENE", COLON)}


# Some are as long as many that are compared at a time.
spans = st.builds(
    lambda start, length, size: ((start * size, (start + length) * size),),
    st.integers(0, 8),
    st.integers(1, 5),
    st.sampled_from([1, 50]),
)
mentions = st.lists(
    st.builds(
        Mention,
        st.builds(Entity, st.sampled_from(ASKED), spans),
        st.integers(1, 99).map(lambda n: n / 100),
        st.integers(0, 3),
    ),
    max_size=6,
)


LAW = Conflicts(order=ASKED)


@given(mentions)
def test_a_law_of_what_stays(every: list[Mention]) -> None:
    found = LAW.settled(every)
    # Nothing is made up, and something stays.
    assert set(found) <= {one.entity for one in every}
    assert bool(found) == bool(every)
    answers = {one.entity: {m.answer for m in every if m.entity == one.entity} for one in every}
    # What is left out is contradicted by something that stays, of another answer.
    for one in every:
        if one.entity not in found:
            assert any(one.answer not in answers[e] or len(answers[e]) > 1 for e in found)
    # Of two that stay with the same words one answer says both.
    for first, second in combinations(found, 2):
        if first.fragments == second.fragments:
            assert answers[first] & answers[second]


@given(mentions.filter(lambda every: len({one.confidence for one in every}) == len(every)))
def test_the_order_of_answers_changes_nothing(every: list[Mention]) -> None:
    expected = LAW.settled(every)
    for other in list(permutations(every))[:24]:
        assert LAW.settled(other) == expected


def test_labels_are_the_same_in_any_case() -> None:
    together = Conflicts(together=frozenset([frozenset(["disease", "anatomy"])]))
    both = settled(
        mention("Disease", COLON, 0.9, 1), mention("Anatomy", COLON, 0.9, 2), conflicts=together
    )
    assert {entity.label for entity in both} == {"Disease", "Anatomy"}


def test_labels_that_gold_gives_to_the_same_words() -> None:
    def document(*labels: str) -> Document:
        return Document("1", TEXT, tuple(Entity(label, CANCER) for label in labels))

    assert labels_together([document("A", "B")] + 9 * [document("A")]) == (("A", "B"),)
    once = [document("A", "B")] + 150 * [document("A"), document("B")]
    assert labels_together(once) == ()


@given(mentions)
def test_what_stays_contradicts_nothing_that_stays(every: list[Mention]) -> None:
    found = LAW.settled(every)
    by_entity = {one.entity: {m.answer for m in every if m.entity == one.entity} for one in every}
    for first, second in combinations(found, 2):
        apart = first.label != second.label and not by_entity[first] & by_entity[second]
        if apart and first.overlaps(second):
            (a,), (b,) = first.fragments, second.fragments
            assert (a[0] <= b[0] and b[1] <= a[1]) or (b[0] <= a[0] and a[1] <= b[1])
