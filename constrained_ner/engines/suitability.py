"""Whether a checkpoint is what can be decoded: a causal language model, and whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from constrained_ner.errors import ModelError

_SHOWN = 3  # names of weights in a message


def check_kind(name: str, config: Any) -> None:
    """See that a model is of one stack, before its weights are read.

    Raises
    ------
    ModelError: it is an encoder with a decoder.
    """
    if config.is_encoder_decoder:
        raise ModelError(
            f"model {name!r} ({config.model_type}) is an encoder with a decoder: expected a causal "
            "language model"
        )


def check_whole(name: str, loading: Mapping[str, Any]) -> None:
    """See that the weights of a checkpoint are those of the model.

    Parameters
    ----------
    loading: what transformers says of it.

    Raises
    ------
    ModelError: some are missing, or are those of something else.
    """
    for kind, what in (("missing_keys", "lacks weights"), ("unexpected_keys", "has weights of")):
        keys = sorted(map(str, loading[kind]))
        if keys:
            shown = ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
            raise ModelError(
                f"model {name!r} {what}{' something else' if kind == 'unexpected_keys' else ''} "
                f"({len(keys)}: {shown}): expected those of a causal language model, all of them"
            )


def check_causal(name: str, model: Any) -> None:
    """See that a model does not look ahead, as encoders such as BERT do.

    Raises
    ------
    ModelError: what it makes of some tokens depends on those that follow.
    """
    size = model.config.get_text_config().vocab_size
    ids = torch.randint(size, (1, 8), generator=torch.Generator().manual_seed(0)).to(model.device)
    with torch.no_grad():
        known, all_of_it = (model(input_ids=ids[:, :n]).logits[0, :4].float() for n in (4, 8))
    # Far above what rounding does.
    if float((known - all_of_it).abs().max()) > 0.05 * float(known.abs().max()):
        raise ModelError(
            f"model {name!r} ({model.config.model_type}) looks ahead, as an encoder does: expected "
            "a causal language model"
        )
