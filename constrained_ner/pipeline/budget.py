"""How many tokens an answer may take, derived from its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from constrained_ner.documents import Entity
from constrained_ner.formats import Format
from constrained_ner.words import tokens

if TYPE_CHECKING:
    from constrained_ner.engines.vocabulary import Vocabulary

# Calibrated on the annotated corpora: see `cner check`, which compares the longest gold answer
# with this budget. The paper's fixed 128 tokens cut most multi_code answers off.
TOKENS_PER_ITEM = 24  # at least: long labels take more
ITEMS_AT_LEAST = 6
WORDS_PER_ITEM = 2
# In short texts every word may be an entity of every label.
ITEMS_IN_SHORT_TEXTS = 24


def derived_budget(format: Format, text: str, labels: Sequence[str], vocabulary: Vocabulary) -> int:
    """A token budget that holds any answer that annotators would give.

    It holds the answer that finds nothing, which has the format's fixed part and, in the copying
    formats, the whole text; twice the text, for the surfaces of all entities together; what else
    an item takes, with the longest label, for as many items as half the words, or in short texts
    one for each word and label; and the room in which an answer is closed, see
    `Grammar.largest_growth`.
    """
    words = tokens(text)
    items = max(
        ITEMS_AT_LEAST + len(words) // WORDS_PER_ITEM,
        min(ITEMS_IN_SHORT_TEXTS, len(words) * len(labels)),
    )
    sizes = [len(vocabulary.tokenize(answer)) for answer in _none_and_one(format, text, labels)]
    item = max(TOKENS_PER_ITEM, sizes[-1] - sizes[0])
    surfaces = 2 * len(vocabulary.tokenize(text))
    return sizes[0] + 1 + surfaces + item * items + format.largest_growth(text, labels)


def _none_and_one(format: Format, text: str, labels: Sequence[str]) -> list[str]:
    """The answer that finds nothing, and one that finds the first word, with the longest label."""
    label = max(labels, key=lambda label: len(label.encode()))
    found = [Entity(label, (word,)) for word in tokens(text)[:1]]
    return [format.write(text, entities, labels) for entities in ([], found)]
