"""A known answer through the masks, token by token, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from llguidance import LLExecutor
from llguidance.numpy import fill_next_token_bitmask_par_with_draft_tokens
from numpy.typing import NDArray

if TYPE_CHECKING:
    from constrained_ner.engines.vocabulary import Vocabulary

_EXECUTOR = LLExecutor(1)


def replay(vocabulary: Vocabulary, matcher: Any, tokens: Sequence[int]) -> int:
    """How many of an answer's tokens the masks let through, one after the other.

    Parameters
    ----------
    matcher: at the beginning of the answer.
    tokens: token ids, the one that ends the answer included.
    """
    masks = masks_of(vocabulary, matcher, tokens)
    ids = np.array(tokens)
    words = masks[np.arange(len(tokens)), ids // 32]
    refused = np.flatnonzero((words >> (ids % 32).astype(np.uint32)) & 1 == 0)
    return int(refused[0]) if refused.size else len(tokens)


def masks_of(vocabulary: Vocabulary, matcher: Any, tokens: Sequence[int]) -> NDArray[np.uint32]:
    """The mask before each token, and one behind the last: [tokens + 1, vocabulary / 32].

    Parameters
    ----------
    matcher, tokens: see `replay`. Behind a token that is refused the masks let nothing through.

    Returns
    -------
    A bit a token, the lowest first, set where it is allowed.
    """
    masks = np.zeros(
        (len(tokens) + 1, (vocabulary.ll_tokenizer.vocab_size + 31) // 32), dtype=np.int32
    )
    fill_next_token_bitmask_par_with_draft_tokens(_EXECUTOR, [(matcher, 0, list(tokens))], masks)
    return masks.view(np.uint32)
