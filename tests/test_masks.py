"""Masks on logits: in each type of numbers, by numpy and by torch, the tokens let through stay."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from constrained_ner.engines.completion import complete
from constrained_ner.engines.masks import Masks
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.formats import FORMATS, get_format
from constrained_ner.formats.grammar import Level
from tests.support.adversaries import draw_task
from tests.support.models import ENDS, wrapped

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize(
    ("by", "dtype"),
    [
        *product(["_apply_by_torch", "apply"], DTYPES),
        *product(["_apply_by_numpy"], DTYPES[:2]),  # numpy has no bfloat16
    ],
)
@pytest.mark.parametrize("wider", [-37, 0, 30, 100])
def test_what_a_mask_lets_through_keeps_its_score(
    by: str, dtype: torch.dtype, wider: int, vocabulary: Vocabulary
) -> None:
    """Logits may be wider than the vocabulary that the masks are of, or narrower."""
    rng, width = random.Random(f"{dtype}/{wider}"), vocabulary.ll_tokenizer.vocab_size + wider
    matchers = [
        vocabulary.matcher(draw_task(rng, rng.choice(list(FORMATS))).grammar) for _ in range(6)
    ]
    for matcher in matchers:
        for _ in range(rng.randint(0, 9)):
            allowed = [t for t in vocabulary.allowed(matcher).tolist() if t not in vocabulary.ends]
            if allowed:
                matcher.consume_token(rng.choice(allowed))
    masks = Masks(vocabulary)
    masks.make_room(6)
    masks.fill([(matcher, place) for place, matcher in enumerate(matchers)])
    for places, rows in (
        ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
        ([2, 3, 4], [0, 1, 2]),
        ([5, 0, 3], [4, 1, 2]),
        ([1], [3]),
    ):
        logits = torch.randn(6, width).to(dtype)
        before = logits.clone()
        getattr(masks, by)(places, rows, logits)
        for row in range(6):
            if row not in rows:
                assert torch.equal(logits[row], before[row])
                continue
            let_through = vocabulary.allowed(matchers[places[rows.index(row)]])
            through = np.zeros(width, dtype=bool)
            through[let_through[let_through < width]] = True
            assert torch.equal(logits[row][through], before[row][through])
            assert bool((logits[row][~through] == -torch.inf).all())


def test_a_brat_line_ends_where_no_word_is_longer_than_a_full_stop_and_a_line_break() -> None:
    """Tokens of Llama 3 and Qwen hold both; the way to an end must not begin line after line."""
    words = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    split = rf"{words}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(ENDS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["(L).\n", "Disease"] * 20, trainer)
    fast = wrapped(tokenizer)
    vocabulary = Vocabulary.of(fast, len(fast), [fast.eos_token_id])
    assert len(vocabulary.tokenize(").\n")) == 1
    grammar = get_format("multi_brat").grammar("Hb 9.2 (L).", ["Disease"], Level.FAITHFUL)
    for begun in ("0 1", "0 1 ", "7 9 ("):
        tokens = vocabulary.tokenize(f"Answer:\nT1 Disease {begun}")
        matcher = vocabulary.matcher(grammar)
        assert matcher.consume_tokens(tokens)
        assert len(complete(matcher, tokens, grammar, vocabulary)) <= 10
