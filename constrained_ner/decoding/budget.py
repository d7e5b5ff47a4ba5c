"""How many tokens an answer may take, derived from its text."""

from __future__ import annotations

from constrained_ner.vocabulary import Vocabulary

# Calibrated on the annotated corpora: see `cner check`, which compares the longest gold answer
# with this budget. The paper's fixed 128 tokens cut most multi_code answers off.
TOKENS_PER_ITEM = 24
ITEMS_AT_LEAST = 6
WORDS_PER_ITEM = 2


def derived_budget(text: str, empty: str, vocabulary: Vocabulary) -> int:
    """A token budget that holds any answer that annotators would give.

    Parameters
    ----------
    empty: the answer that finds nothing, which has the format's fixed part and, in the copying
        formats, the whole text.

    The surfaces of all entities together are counted as twice the text.
    """
    items = ITEMS_AT_LEAST + len(text.split()) // WORDS_PER_ITEM
    fixed = len(vocabulary.tokenize(empty)) + 1
    return fixed + 2 * len(vocabulary.tokenize(text)) + TOKENS_PER_ITEM * items
