"""How many tokens an answer may have, computed from its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from constrained_ner.documents import Entity
from constrained_ner.formats import Format
from constrained_ner.words import tokens

if TYPE_CHECKING:
    from constrained_ner.engines.vocabulary import Vocabulary

# Chosen on the annotated corpora, where `cner check` compares the longest gold answer with this
# budget. The paper's fixed 128 tokens cut off most answers in multi_code.
TOKENS_PER_ITEM = 24  # at least: long labels take more
ITEMS_AT_LEAST = 6
WORDS_PER_ITEM = 2
# In short texts every word may be an entity of every label.
ITEMS_IN_SHORT_TEXTS = 24


def derived_budget(format: Format, text: str, labels: Sequence[str], vocabulary: Vocabulary) -> int:
    """A token budget that is large enough for any answer that annotators would give.

    It is the sum of

    - the answer without entities: the fixed part of the format and, in formats that copy the text,
      the text;
    - twice the text, for the surfaces of all entities together;
    - whatever else an item has, with the longest label, for six items and one per two words; in
      short texts for one item per word and label, up to 24;
    - the room that closing an answer takes, see `Grammar.largest_growth`.
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
    """An answer without entities, and one that has the first word, with the longest label."""
    label = max(labels, key=lambda label: len(label.encode()))
    found = [Entity(label, (word,)) for word in tokens(text)[:1]]
    return [format.write(text, entities, labels) for entities in ([], found)]
