"""What engines of others tell, taken with care."""

from __future__ import annotations

import pytest

from constrained_ner.engines.base import Answer, Request
from constrained_ner.engines.external import Written, checked
from constrained_ner.engines.models import LoadedModel


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
