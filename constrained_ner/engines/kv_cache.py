"""A ragged KV cache: calls of a model for blocks of tokens, as many to each row as it wants.

transformers pads rows to the same length. Here the tokens of all rows lie one after another in one
long row, so that what costs time, the linear layers, sees no padding; each row has its own length
in the cache, so that tokens which are rejected are forgotten by counting back; and only those
positions get logits that somebody wants. Attention is the one place where rows are told apart: the
function registered below takes the place of the model's own while a call lasts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from constrained_ner.engines.costs import Costs
from constrained_ner.engines.models import turn_of
from constrained_ner.words import shared_prefix

_ATTENTION = "constrained_ner_ragged"
_SPARE = 256  # places
_WIDEST = 512  # tokens of a block; more than any draft has


@dataclass(frozen=True)
class _CallLayout:
    """Where the tokens of a call are, in the long row and in the cache.

    Attributes
    ----------
    rows, positions: of each token, [tokens].
    padded: for each row and place of its block the token there, or token 0, [rows, widest].
    places: of each token in the flattened `padded`, [tokens].
    starts: of each row's block, in positions, [rows].
    first, last: the rows taken part, from first to before last.
    keys: how many places of the cache are in use.
    masks: which keys each place of a block may see, by the window, None for no window, and the
        heads that share keys: additive, [rows, 1, groups x widest, keys].
    """

    rows: torch.Tensor
    positions: torch.Tensor
    padded: torch.Tensor
    places: torch.Tensor
    starts: torch.Tensor
    first: int
    last: int
    keys: int
    masks: dict[tuple[int | None, int], torch.Tensor]

    def mask(self, window: int | None, groups: int, dtype: torch.dtype) -> torch.Tensor:
        """Additive, [rows, 1, groups x widest, keys]."""
        if (window, groups) not in self.masks:
            width = self.padded.shape[1]
            device = self.padded.device
            queries = self.starts[:, None] + torch.arange(width, device=device)  # [rows, widest]
            keys = torch.arange(self.keys, device=device)
            hidden = keys > queries[:, :, None]
            if window is not None:
                hidden |= keys <= queries[:, :, None] - window
            mask = torch.zeros(hidden.shape, dtype=dtype, device=device)
            mask.masked_fill_(hidden, torch.finfo(dtype).min)
            self.masks[window, groups] = mask.repeat(1, groups, 1)[:, None]
        return self.masks[window, groups]


class _Layer:
    """Keys and values of one layer, [rows, heads, places, size of a head]."""

    is_sliding = False

    def __init__(self, rows: int):
        self.rows, self.places = rows, 0
        self.states: tuple[torch.Tensor, torch.Tensor] | None = None
        self.layout: _CallLayout | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep what is new, [1, heads, tokens, size]; give all of the rows taken part."""
        if self.states is None:
            # Zeros, since what a mask hides must still be a number.
            keys, values = (
                new.new_zeros(self.rows, new.shape[1], self.places, new.shape[3])
                for new in (key_states, value_states)
            )
            self.states = keys, values
        at = self.layout
        assert at is not None
        for states, new in zip(self.states, (key_states, value_states), strict=True):
            states[at.rows, :, at.positions] = new[0].transpose(0, 1)
        keys, values = self.states
        return keys[at.first : at.last, :, : at.keys], values[at.first : at.last, :, : at.keys]

    def copy(self, source: int, target: int, places: slice) -> None:
        for states in self.states or ():
            states[target, :, places] = states[source, :, places]

    def swap(self, one: int, other: int, length: int) -> None:
        for states in self.states or ():
            states[[one, other], :, :length] = states[[other, one], :, :length]

    def clear(self, row: int, length: int) -> None:
        for states in self.states or ():
            states[row, :, length:] = 0

    def grow(self, places: int) -> None:
        if self.states is not None:
            keys, values = (
                torch.nn.functional.pad(states, (0, 0, 0, places - self.places))
                for states in self.states
            )
            self.states = keys, values
        self.places = places

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of the blocks, each to the keys of its own row.

    Parameters
    ----------
    query: [1, heads, tokens, size].
    key, value: of the rows taken part, [rows, heads of keys, keys, size].

    Returns
    -------
    [1, tokens, heads, size], and no weights.
    """
    layout: _CallLayout = options["layout"]
    if options.get("s_aux") is not None:
        raise TypeError("its attention has sinks")
    rows, width = layout.padded.shape
    heads, size = key.shape[1], query.shape[3]
    groups = query.shape[1] // heads
    blocks = query[0].transpose(0, 1)[layout.padded]  # [rows, widest, heads, size]
    # The heads that share keys come one after another, as if their tokens were more of a block:
    # so the keys need not be repeated for them.
    blocks = blocks.view(rows, width, heads, groups, size).permute(0, 2, 3, 1, 4)
    blocks = blocks.reshape(rows, heads, groups * width, size)
    mask = layout.mask(sliding_window, groups, query.dtype)
    if softcap is None:
        found = torch.nn.functional.scaled_dot_product_attention(
            blocks, key, value, attn_mask=mask, scale=scaling
        )
    else:
        scores = blocks @ key.transpose(2, 3) * (size**-0.5 if scaling is None else scaling)
        scores = torch.tanh(scores / softcap) * softcap + mask
        found = scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value
    size = found.shape[3]
    found = found.view(rows, heads, groups, width, size).permute(0, 3, 1, 2, 4)
    return found.reshape(1, rows * width, heads * groups, size)[:, layout.places], None


AttentionInterface.register(_ATTENTION, _attend)


def cache_argument(model: Any) -> str:
    """What a model calls its cache: transformers has renamed it in 5.24."""
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model  # within peft's
    names = signature(bare.forward).parameters
    return "cache" if "cache" in names else "past_key_values"


class RaggedKVCache:
    """A model with a cache of rows that each have a length of their own.

    Parameters
    ----------
    model: a causal language model of transformers; see `speculative.unsupported_reason`.
    rows: how many rows there are room for.
    costs: what to count the calls of the model in.

    Attributes
    ----------
    contents: the tokens in the cache, a list for each row.
    windows: how far back layers saw, of those that do not see everything.
    """

    def __init__(self, model: Any, rows: int, costs: Costs | None = None):
        self.model = model
        self._costs = costs or Costs()
        config = model.config.get_text_config(decoder=True)
        self._layers = [_Layer(rows) for _ in range(config.num_hidden_layers)]
        layers: Any = self._layers  # of the cache's own kind by what they can do
        self._cache = Cache(layers=layers)
        self._argument = cache_argument(model)
        self._linear = [module for module in model.modules() if type(module) is torch.nn.Linear]
        self.contents: list[list[int]] = [[] for _ in range(rows)]
        self.windows: set[int] = set()

    def forget(self, row: int, length: int) -> None:
        """Cut a row back to its first tokens."""
        del self.contents[row][length:]

    def clear(self, row: int, length: int = 0) -> None:
        """The same, and leave nothing of the others, of which some may be no numbers.

        What is no number is none behind a mask, either: the row could never be used again.
        """
        self.forget(row, length)
        for layer in self._layers:
            layer.clear(row, length)

    def copy(self, source: int, length: int, target: int) -> None:
        """Have the first tokens of one row, and no more, in another."""
        if source != target:
            # What they share already need not be copied.
            same = shared_prefix(self.contents[source][:length], self.contents[target])
            for layer in self._layers:
                layer.copy(source, target, slice(same, length))
        self.contents[target] = self.contents[source][:length]

    def swap(self, one: int, other: int) -> None:
        """Let two rows change places."""
        if one != other:
            length = max(len(self.contents[one]), len(self.contents[other]))
            for layer in self._layers:
                layer.swap(one, other, length)
            self.contents[one], self.contents[other] = self.contents[other], self.contents[one]

    def call(
        self,
        blocks: Sequence[Sequence[int]],
        wanted: Sequence[int],
        first: int = 0,
    ) -> torch.Tensor:
        """Append a block of tokens to each of some neighbouring rows.

        Parameters
        ----------
        blocks: tokens of the rows `first`, `first + 1` and so on; none is empty.
        wanted: for each row, of how many of its last tokens the logits are wanted.

        Returns
        -------
        What may come after these tokens: logits, [all that are wanted, vocabulary].
        """
        # Attention takes memory of the longest block times all keys in each of the rows: of a long
        # prompt all but its end comes before, by itself.
        ends = []
        for row, (block, last) in enumerate(zip(blocks, wanted, strict=True), first):
            rest = list(block)
            while len(rest) > max(_WIDEST, last):
                size = min(_WIDEST, len(rest) - max(1, last))
                self._call([rest[:size]], [0], row)
                rest = rest[size:]
            ends.append(rest)
        return self._call(ends, wanted, first)

    def _call(
        self, blocks: Sequence[Sequence[int]], wanted: Sequence[int], first: int
    ) -> torch.Tensor:
        """See `call`."""
        device = self.model.device
        starts = [len(self.contents[first + i]) for i in range(len(blocks))]
        widths = [len(block) for block in blocks]
        keys = max(s + w for s, w in zip(starts, widths, strict=True))
        self._make_room(keys)
        width, at = max(widths), 0
        tokens: list[int] = []
        rows: list[int] = []
        positions: list[int] = []
        padded: list[list[int]] = []
        places: list[int] = []
        kept: list[int] = []
        for i, block in enumerate(blocks):
            size = widths[i]
            tokens += block
            rows += [first + i] * size
            positions += range(starts[i], starts[i] + size)
            padded.append([*range(at, at + size), *[0] * (width - size)])
            places += range(i * width, i * width + size)
            kept += range(at + size - wanted[i], at + size)
            at += size
        # One transfer for all of it.
        numbers = torch.tensor([tokens, rows, positions, places]).to(device)
        layout = _CallLayout(
            rows=numbers[1],
            positions=numbers[2],
            padded=torch.tensor(padded).to(device),
            places=numbers[3],
            starts=torch.tensor(starts).to(device),
            first=first,
            last=first + len(blocks),
            keys=keys,
            masks={},
        )
        for layer in self._layers:
            layer.layout = layout
        with (
            turn_of(self.model),
            _own_attention(self.model),
            _few_tokens(self._linear, at),
            torch.no_grad(),
        ):
            found = self.model(
                input_ids=numbers[None, 0],
                position_ids=numbers[None, 2],
                use_cache=True,
                logits_to_keep=torch.tensor(kept, dtype=torch.long, device=device),
                layout=layout,
                **{self._argument: self._cache},
            )
        self._costs.calls += 1
        self.windows |= {window for window, _ in layout.masks if window is not None}
        for i, block in enumerate(blocks):
            self.contents[first + i] += block
        logits: torch.Tensor = found.logits[0]
        return logits

    def _make_room(self, places: int) -> None:
        if places > self._layers[0].places:
            # With room to spare: growing copies everything. Not with much: all rows get it.
            for layer in self._layers:
                layer.grow(places + _SPARE)


@contextmanager
def _own_attention(model: Any) -> Iterator[None]:
    """Our attention in the model for as long as this lasts."""
    configs = [model.config, model.config.get_text_config(decoder=True)]
    before = [config._attn_implementation_internal for config in configs]
    for config in configs:
        config._attn_implementation_internal = _ATTENTION
    try:
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation_internal = name


@contextmanager
def _few_tokens(linear: Sequence[torch.nn.Linear], tokens: int) -> Iterator[None]:
    """Linear layers that are fast for a few tokens, on a CPU in float32, while this lasts.

    There torch takes 1.2 to 8 times as long for x W' as for (W x')', and longer for one token than
    for two.
    """
    chosen = [
        layer
        for layer in linear
        if tokens <= (8 if layer.out_features >= layer.in_features else 4)
        and layer.weight.dtype is torch.float32
        and layer.weight.device.type == "cpu"
        and "forward" not in vars(layer)  # a hook of somebody else's
    ]
    for layer in chosen:
        vars(layer)["forward"] = partial(_weights_first, layer)
    try:
        yield
    finally:
        for layer in chosen:
            del vars(layer)["forward"]


def _weights_first(layer: torch.nn.Linear, given: torch.Tensor) -> torch.Tensor:
    """What the layer gives, [..., tokens, out]."""
    rows = given.reshape(-1, layer.in_features)
    tokens = len(rows)
    if tokens == 1:
        rows = rows.repeat(2, 1)
    found = (layer.weight @ rows.t())[:, :tokens].t()
    if layer.bias is not None:
        found = found + layer.bias
    return found.reshape(*given.shape[:-1], layer.out_features)
