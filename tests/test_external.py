"""What engines of others tell, taken with care."""

from __future__ import annotations

import pytest

from constrained_ner.documents import Document, Entity
from constrained_ner.engines.base import Answer, Request
from constrained_ner.engines.external import Written, checked, has_ended
from constrained_ner.engines.models import LoadedModel
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import DecodingError
from constrained_ner.formats import FORMATS, Format, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.confidence import Confidence
from constrained_ner.words import shared_prefix


@pytest.mark.parametrize(
    ("text", "told", "expected"),
    [
        ("knee", "knee", "knee"),
        ("\N{REPLACEMENT CHARACTER}knee", "knee", "knee"),  # left over from the prompt
        ("left knee", "knee", "left knee"),  # not all tokens are told
        ("knee", "left", "knee"),  # another tokenizer's
        ("knee", "", "knee"),
    ],
)
def test_the_text_is_that_of_the_tokens_where_all_are_told(
    tiny_model: LoadedModel, text: str, told: str, expected: str
) -> None:
    vocabulary = tiny_model.vocabulary
    written = Written(text, True, tuple(vocabulary.tokenize(told)))
    answer = checked(Request([1], 50), written, vocabulary, by="another engine")
    assert isinstance(answer, Answer)
    assert answer.text == expected
    assert answer.tokens == tuple(vocabulary.tokenize(expected))


def masked(model: LoadedModel, text: str) -> Request:
    format = get_format("multi_term")
    return Request([1], 80, format.grammar(text, ["Finding"], Level.FAITHFUL), name="document 'a'")


@pytest.mark.model
def test_what_the_tokens_cannot_write_leaves_the_grammar(smollm2: LoadedModel) -> None:
    """It is not dropped, as if the answer were another one."""
    model, bad = smollm2, "\x04"
    assert model.vocabulary.first_unspellable(bad) == 0
    request = masked(model, "left knee pain.")
    answer = f'Answer: [{{"text": "knee{bad} pain", "type": "Finding"}}]'
    good = answer.replace(bad, "")
    assert isinstance(checked(request, Written(good, True), model.vocabulary, by="x"), Answer)
    found = checked(request, Written(answer, True), model.vocabulary, by="x")
    assert isinstance(found, DecodingError)
    assert "characters that the model's tokens cannot write" in str(found)
    lenient = checked(request, Written(answer, True), model.vocabulary, by="x", lenient=True)
    assert isinstance(lenient, Answer)
    assert not lenient.guaranteed


@pytest.mark.parametrize("tokens", [(10**6,), (-1,)])
def test_tokens_of_another_tokenizer_cost_nothing(
    tiny_model: LoadedModel, tokens: tuple[int, ...]
) -> None:
    written = Written("knee", True, tokens)
    answer = checked(Request([1], 50), written, tiny_model.vocabulary, by="x")
    assert isinstance(answer, Answer)
    assert answer.text == "knee"


def test_half_a_pair_of_surrogates_is_no_character(tiny_model: LoadedModel) -> None:
    answer = checked(Request([1], 50), Written("a\ud83d", True), tiny_model.vocabulary, by="x")
    assert isinstance(answer, Answer)
    assert answer.text == "a\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("begun", ["", "Answe", 'Answer: [{"text": "knee'])
def test_an_answer_that_ends_before_it_may_is_none(tiny_model: LoadedModel, begun: str) -> None:
    """No mask was at work: it says nothing, and least of all that there is nothing to find."""
    request = masked(tiny_model, "left knee pain.")
    found = checked(request, Written(begun, ended=True), tiny_model.vocabulary, by="x")
    assert isinstance(found, DecodingError)
    assert "x did not apply the grammar: the answer ends before it may" in str(found)
    lenient = checked(request, Written(begun, True), tiny_model.vocabulary, by="x", lenient=True)
    assert isinstance(lenient, Answer)
    assert not lenient.guaranteed
    cut = checked(request, Written(begun, ended=False), tiny_model.vocabulary, by="x")
    assert isinstance(cut, Answer)
    assert cut.guaranteed
    assert cut.forced


def test_an_answer_that_was_given_up_is_none() -> None:
    assert has_ended("stop")
    assert not has_ended("length")
    for reason in ("abort", "content_filter", "error", None):
        with pytest.raises(DecodingError, match="given up"):
            has_ended(reason)


# Words after which a surface could end, and a label that another one begins with.
TEXT = 'BCL6 (type 2) binds [x] "T cells" here and BCL6 (type 2) again in CD28 cells'
LABELS = ("cell", "cell line")
ENTITIES = [
    Entity("cell line", ((0, 13),)),
    Entity("cell", ((20, 38),)),
    Entity("cell line", ((43, 56),)),
    Entity("cell line", ((66, 76),)),
]


def answer_of(format: Format, level: Level) -> tuple[str, tuple[str, ...], Request]:
    """The answer for all entities that it is asked for; what is asked for, and the question."""
    labels = format.questions(LABELS)[-1]
    document = Document("d", TEXT, tuple(e for e in ENTITIES if e.label in labels))
    answer = format.encode(document, labels, level)
    return answer, labels, Request([1], 500, format.grammar(TEXT, labels, level))


@pytest.mark.parametrize("level", [Level.SYNTAX, Level.FAITHFUL])
@pytest.mark.parametrize("name", FORMATS)
def test_white_space_around_an_answer_does_no_harm(
    vocabulary: Vocabulary, name: str, level: Level
) -> None:
    whole, _, request = answer_of(FORMATS[name], level)
    for spaced in (f"{whole}\n", f" {whole} ", f"\n{whole}\n\n"):
        tokens = tuple(vocabulary.tokenize(spaced))
        for told in ((), tokens):
            written = Written(spaced, True, told, tuple(-0.5 for _ in told))
            answer = checked(request, written, vocabulary, by="x")
            assert isinstance(answer, Answer)
            assert answer.text == whole
            assert answer.guaranteed


@pytest.mark.parametrize("level", [Level.SYNTAX, Level.FAITHFUL])
@pytest.mark.parametrize("name", FORMATS)
def test_what_nobody_wrote_is_not_found(vocabulary: Vocabulary, name: str, level: Level) -> None:
    """Wherever a limit cuts an answer, its whole items are kept, and no other is made up."""
    format = FORMATS[name]
    whole, labels, request = answer_of(format, level)
    most = 0
    assert request.grammar is not None
    same = shared_prefix(whole, request.grammar.empty)
    for cut in (1, *range(max(2, same - 3), len(whole))):
        # Tokens that the tokenizer would not choose are as good as its own.
        apart = [t for one in whole[:cut] for t in vocabulary.tokenize(one)]
        own = vocabulary.tokenize(whole[:cut])
        # Items end inside some of these.
        odd = [*vocabulary.tokenize(whole[:1]), *vocabulary.tokenize(whole[1:cut])]
        for tokens in (apart, ((), own, odd)[cut % 3]):
            written = Written(whole[:cut], False, tuple(tokens), tuple(-0.5 for _ in tokens))
            answer = checked(request, written, vocabulary, by="x")
            assert isinstance(answer, Answer)
            assert answer.forced
            settled = format.settle(answer.text, TEXT, labels, level)
            assert set(settled.entities) <= set(ENTITIES), whole[:cut]
            assert len(settled.entities) >= most
            if tokens and settled.entities:
                sure = Confidence(answer, vocabulary)
                assert max(sure.of(settled.places[e]) for e in settled.entities) < 0.9
        most = len(settled.entities)
    assert most >= 2


@pytest.mark.model
def test_an_item_may_end_inside_a_token(smollm2: LoadedModel) -> None:
    """The model's own tokens, and their probabilities, are kept up to there."""
    vocabulary = smollm2.vocabulary
    format, labels = FORMATS["multi_term"], ("cell (x)",)
    places = (((0, 13),), ((43, 56),))
    document = Document("d", TEXT, tuple(Entity(labels[0], place) for place in places))
    whole = format.encode(document, labels, Level.FAITHFUL)
    request = Request([1], 500, format.grammar(TEXT, labels, Level.FAITHFUL))
    at = whole.index('"},')
    (across,) = vocabulary.tokenize('"},')
    before = vocabulary.tokenize(whole[:at])
    tokens = [*before, across, *vocabulary.tokenize(whole[at + 3 : at + 20])]
    logs = [-0.01 * (i + 1) for i in range(len(tokens))]
    assert tokens != vocabulary.tokenize(whole[: at + 20])  # not as the tokenizer spells it
    written = Written(whole[: at + 20], False, tuple(tokens), tuple(logs))
    answer = checked(request, written, vocabulary, by="x")
    assert isinstance(answer, Answer)
    assert answer.text.startswith(whole[: at + 2])
    assert list(answer.tokens[: len(before)]) == before
    assert [step.masked for step in answer.steps] == logs[: len(before) + 1]
