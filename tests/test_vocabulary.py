"""Tokens for answers: what a tokenizer does with special tokens, normalising, odd ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from constrained_ner.documents import Document, Entity
from constrained_ner.engines.models import wrap
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import ModelError
from constrained_ner.evaluation.coverage import Checker
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.prompts import Target
from tests.support.models import small_vocabulary, tiny_llama


@pytest.mark.parametrize("text", ["<end>", "a <end><pad> b", 'Answer: ["<end>"]', "<en<end>d>"])
def test_what_reads_like_a_special_token_is_text(text: str, vocabulary: Vocabulary) -> None:
    tokens = vocabulary.tokenize(text)
    assert vocabulary.text_of(tokens) == text
    assert vocabulary.first_unspellable(text) is None
    assert vocabulary.continuation("", text) == tokens


@pytest.mark.parametrize("level", [Level.SYNTAX, Level.FAITHFUL])
@pytest.mark.parametrize("name", FORMATS)
def test_the_masks_let_such_text_through(name: str, level: Level, vocabulary: Vocabulary) -> None:
    """Within the budget that is derived from it."""
    text = "Models emit <end> " + "<pad>" * 40 + " before colon cancer."
    spans = ((12, 17), (len(text) - 13, len(text) - 1))
    entities = tuple(Entity("finding", (span,)) for span in spans)
    report = Checker(FORMATS[name], ("finding",), level, vocabulary).check(
        [Document("d", text, entities)]
    )
    assert report.passed, report.rejections + report.failed
    assert report.answers == report.accepted == 1
    assert report.share < 1


def test_a_tokenizer_that_normalises_drafts_nothing_of_what_it_changes() -> None:
    """It came to no end: what is written has fewer bytes than what was given."""
    backend = small_vocabulary()[0].backend_tokenizer
    backend.normalizer = normalizers.NFKC()
    wrapper: Any = PreTrainedTokenizerFast
    tokenizer = wrapper(tokenizer_object=backend, eos_token="<end>", pad_token="<pad>")
    model = wrap("nfkc", *tiny_llama(tokenizer=tokenizer))
    wide = "\uff21\uff23\uff27\uff34" * 20
    assert model.vocabulary.continuation("T1 gene 0 ", wide) == []
    predictor = Predictor(
        model, FORMATS["multi_brat"], [Target(("a",))], Level.SYNTAX, max_new_tokens=60
    )
    (prediction,) = predictor.predict([Document("d", " ".join([wide] * 8))])
    assert prediction.error is None


def test_a_token_that_is_text_does_not_end_an_answer() -> None:
    """Some models name their line break as an end, too: an answer has line breaks."""
    tokenizer, _ = small_vocabulary()
    text: Any = tokenizer.convert_tokens_to_ids("a")
    assert Vocabulary(tokenizer, len(tokenizer), [text, tokenizer.eos_token_id]).ends == (0,)
    with pytest.raises(ModelError, match="ordinary text, too: expected a special one"):
        Vocabulary(tokenizer, len(tokenizer), [text])


def test_an_end_that_is_an_added_token_and_not_special() -> None:
    """Some models have no other; only a text that holds its very string is refused."""
    tokenizer, _ = small_vocabulary()
    tokenizer.add_tokens(["[END]"])
    model = wrap("added", *tiny_llama(tokenizer=tokenizer))
    end: Any = tokenizer.convert_tokens_to_ids("[END]")
    vocabulary = Vocabulary(tokenizer, model.vocabulary.size, [end])
    assert (vocabulary.ends, vocabulary.written_ends) == ((end,), ("[END]",))
    predictor = Predictor(
        replace(model, vocabulary=vocabulary), FORMATS["multi_term"], [Target(("a",))]
    )
    good, bad = predictor.predict([Document("1", "knee pain"), Document("2", "a [END] b")])
    assert good.error is None
    assert "the text has '[END]', with which the model ends its answers" in str(bad.error)
