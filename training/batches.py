"""Batches of training examples on which no work is wasted.

Every question of one format about one data set begins with the same words: half of a short prompt.
Where a batch's rows begin alike, the model reads that beginning once, and all rows go on from its
keys and values; the gradient flows through them. Logits are computed only where a loss is taken, of
each row's own places. Loss and gradients are those of the examples one by one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import signature
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from constrained_ner.engines.kv_cache import cache_argument
from constrained_ner.engines.models import has_window
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import TrainingError

from .examples import Example, allowed
from .objectives import OBJECTIVES, Objective

IGNORED = -100  # the label that torch's cross entropy passes over
FEW = 8  # tokens at the beginning that are not worth a call of their own
# Bytes of attention scores that a backward pass may keep: each takes about twelve.
SCORES = 15 * 10**8
POOL = 16  # batches among whose examples those of like length are put together


def as_item(
    example: Example,
    objective: Objective = OBJECTIVES["tokens"],
    vocabulary: Vocabulary | None = None,
) -> dict[str, Any]:
    """What the data loader takes: the labels are the tokens, or -100 where there is no loss.

    Parameters
    ----------
    vocabulary: for the masks, where the objective wants them.
    """
    pairs = zip(example.tokens, example.mask, strict=True)
    return {
        "input_ids": list(example.tokens),
        "labels": [token if on else IGNORED for token, on in pairs],
        "weights": objective.weights(example.mask),
        "length": len(example.tokens),
        "opening": example.question.opening,
        "allowed": partial(allowed, example, vocabulary) if vocabulary else None,
    }


class Batches(torch.utils.data.Sampler[int]):
    """Examples that begin alike and are of like length together, in batches of one size.

    The order depends on the seed and the epoch only, so that a run that was stopped goes on with
    it. The batch with the longest example comes first: where memory is short, that is known at
    once.

    Parameters
    ----------
    openings: [n] what each example begins with; all alike where that is of no use.
    lengths: [n] in tokens. `size`: examples in a batch.
    together: batches that processes work on side by side; they take about as long as one another.
    epoch: the number of the epoch that is about to begin.
    """

    def __init__(
        self,
        openings: Sequence[Hashable],
        lengths: Sequence[int],
        size: int,
        together: int,
        seed: int,
        epoch: Callable[[], int],
    ):
        self.openings, self.lengths, self.size = openings, lengths, size
        self.together, self.seed, self.epoch = together, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed}/{self.epoch()}")
        order = list(range(len(self.lengths)))
        rng.shuffle(order)
        groups: dict[Hashable, list[int]] = {}
        for index in order:
            groups.setdefault(self.openings[index], []).append(index)
        batches: list[list[int]] = []
        rest: list[int] = []
        for group in groups.values():
            full = len(group) // self.size * self.size
            batches += self._by_length(group[:full])
            rest += group[full:]
        rng.shuffle(rest)
        batches += self._by_length(rest)
        smaller = [batch for batch in batches if len(batch) < self.size]
        whole = [batch for batch in batches if len(batch) == self.size]
        rng.shuffle(whole)
        longest = max(whole, key=self._longest, default=[])
        whole.sort(key=lambda batch: batch is not longest)
        ordered = self._balanced(whole, rng) + smaller
        return iter([index for batch in ordered for index in batch])

    def _balanced(self, batches: list[list[int]], rng: random.Random) -> list[list[int]]:
        """Put batches of like length side by side; the first stays in the first step."""
        if self.together < 2:
            return batches
        steps: list[list[list[int]]] = []
        pool = POOL * self.together
        for start in range(0, len(batches), pool):
            near = sorted(batches[start : start + pool], key=self._longest, reverse=True)
            found = [near[at : at + self.together] for at in range(0, len(near), self.together)]
            first = found[:1] if not start else []
            others = found[len(first) :]
            rng.shuffle(others)
            steps += first + others
        return [batch for step in steps for batch in step]

    def _longest(self, batch: Sequence[int]) -> int:
        return max(map(self._length, batch))

    def _length(self, index: int) -> int:
        return self.lengths[index]

    def _by_length(self, group: Sequence[int]) -> list[list[int]]:
        pool = POOL * self.size
        found: list[list[int]] = []
        for start in range(0, len(group), pool):
            ordered = sorted(group[start : start + pool], key=self._length)
            found += [ordered[at : at + self.size] for at in range(0, len(ordered), self.size)]
        return found


def collate(
    items: Sequence[dict[str, Any]], pad: int, *, share: bool = False
) -> dict[str, torch.Tensor]:
    """A batch, padded on the right, for a model that `answers_only` watches.

    Parameters
    ----------
    share: whether tokens that all rows begin with are given once.

    Returns
    -------
    `input_ids`, `labels` [rows, longest] without the shared tokens; `opening_ids` [1, k], those,
    where there are any; `attention_mask` [rows, k + longest]; `places` [2, n], row and column of
    each token that a loss is taken on; `shift_labels` [n], that token, and `weights` [n], its
    weight. The model has to give it at the place before. Where the objective is masked, `allowed`
    [n, vocabulary / 32], see `Objective`.
    """
    shared = _shared(items) if share else 0
    longest = max(len(item["input_ids"]) for item in items) - shared
    ids = torch.full((len(items), longest), pad)
    labels = torch.full((len(items), longest), IGNORED)
    weights = torch.zeros((len(items), longest))
    mask = torch.zeros((len(items), shared + longest), dtype=torch.long)
    for row, item in enumerate(items):
        length = len(item["input_ids"]) - shared
        ids[row, :length] = torch.tensor(item["input_ids"][shared:])
        labels[row, :length] = torch.tensor(item["labels"][shared:])
        weights[row, :length] = torch.tensor(item["weights"][shared:])
        mask[row, : shared + length] = 1
    places = (labels[:, 1:] != IGNORED).nonzero().T
    batch = {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "places": places,
        "shift_labels": labels[:, 1:][places[0], places[1]],
        "weights": weights[:, 1:][places[0], places[1]],
    }
    if (masks := _allowed(items)) is not None:
        batch["allowed"] = masks
    if shared:
        batch["opening_ids"] = torch.tensor([items[0]["input_ids"][:shared]])
    return batch


def _allowed(items: Sequence[dict[str, Any]]) -> torch.Tensor | None:
    """The masks of the tokens that a loss is taken on, [n, vocabulary / 32]; see `Objective`."""
    if items[0]["allowed"] is None:
        return None
    masks = np.concatenate([item["allowed"]() for item in items])
    return torch.from_numpy(masks.view(np.int32))


def _shared(items: Sequence[dict[str, Any]]) -> int:
    """How many tokens all items begin with, short of the place that gives the first answer's."""
    most = min(
        next((at for at, label in enumerate(item["labels"]) if label != IGNORED), 0)
        for item in items
    )
    shared = 0
    for tokens in zip(*(item["input_ids"][: most - 1] for item in items), strict=False):
        if any(one != other for one, other in pairwise(tokens)):
            break
        shared += 1
    return shared if len(items) > 1 and shared >= FEW else 0


def pack(items: Sequence[dict[str, Any]], room: int) -> list[list[dict[str, Any]]]:
    """Examples one after the other in rows of up to `room` tokens, in their order.

    A row begins where the next example has no room: of rows of many examples that leaves free half
    an example. One that is longer than a row has a row of its own.
    """
    rows: list[list[dict[str, Any]]] = []
    left = 0
    for item in items:
        if item["length"] > left:
            rows.append([])
            left = room
        rows[-1].append(item)
        left -= item["length"]
    return rows


def collate_packed(rows: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """One row of all examples, for a model that `answers_only` watches; there is no padding.

    Returns
    -------
    `input_ids`, `labels`, `position_ids` [1, n], the positions beginning again with each example;
    no `attention_mask`, for with one transformers takes the row for one text. `places`,
    `shift_labels` and `weights` as `collate` has them; `cu_seq_lens_q`, `cu_seq_lens_k` [examples +
    1], where each begins, and `max_length_q`, `max_length_k`, how long the longest is.
    """
    items = [item for row in rows for item in row]
    lengths = torch.tensor([item["length"] for item in items])
    labels = torch.tensor([[label for item in items for label in item["labels"]]])
    weights = torch.tensor([[weight for item in items for weight in item["weights"]]])
    places = (labels[:, 1:] != IGNORED).nonzero().T
    starts = torch.cat([torch.zeros(1, dtype=torch.int32), lengths.cumsum(0, dtype=torch.int32)])
    longest = int(lengths.max())
    masks = _allowed(items)
    return {
        **({"allowed": masks} if masks is not None else {}),
        "input_ids": torch.tensor([[token for item in items for token in item["input_ids"]]]),
        "labels": labels,
        "position_ids": torch.cat([torch.arange(length) for length in lengths.tolist()])[None],
        "places": places,
        "shift_labels": labels[:, 1:][places[0], places[1]],
        "weights": weights[:, 1:][places[0], places[1]],
        "cu_seq_lens_q": starts,
        "cu_seq_lens_k": starts,
        "max_length_q": longest,
        "max_length_k": longest,
    }


PACKED = "cner_packed"  # the attention of packed rows, as transformers' configurations name it


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _: Any,
    *,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **__: Any,
) -> tuple[torch.Tensor, None]:
    """Each example of a row sees itself only: torch's kernel for that on a GPU, else a loop.

    Parameters
    ----------
    query, key, value: [1, heads, tokens, width]; fewer heads of keys and values are repeated.
    sliding_window: how many tokens up to its own each may see; all where it is None.

    Returns
    -------
    [1, tokens, heads, width]
    """
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        # torch 2.10 has another word for it, and no windows
        words = signature(varlen_attn).parameters
        causal: Any = {"is_causal": True} if "is_causal" in words else {"window_size": (-1, 0)}
        if sliding_window is not None and max_length_q > sliding_window:
            if "window_size" not in words:
                raise TrainingError("training.row_tokens: a window of tokens needs a newer torch")
            causal = {"window_size": (sliding_window - 1, 0)}
        attend: Any = varlen_attn
        starts, most = cu_seq_lens_q, max_length_q
        given = (part[0].transpose(0, 1) for part in (query, key, value))
        found = attend(*given, starts, starts, most, most, scale=scaling, **causal)
        return found[None], None
    parts = []
    for start, end in pairwise(cu_seq_lens_q.tolist()):
        q, k, v = (part[:, :, start:end] for part in (query, key, value))
        seen: Any = {"is_causal": True}
        if sliding_window is not None and end - start > sliding_window:
            every = torch.ones(end - start, end - start, dtype=torch.bool, device=query.device)
            seen = {"attn_mask": every.tril().triu(1 - sliding_window)}
        parts.append(scaled_dot_product_attention(q, k, v, scale=scaling, **seen))
    return torch.cat(parts, 2).transpose(1, 2), None


def reads_alike(model: Any, tokens: Sequence[int], *, packed: bool) -> bool:
    """Whether a model reads two texts together as it reads each by itself.

    Not every architecture keeps them apart: attention that does not go by transformers' interface,
    convolutions and states that go on from one text to the next.

    Parameters
    ----------
    tokens: ids of a text; the other one begins like it.
    packed: in one row; else behind their common beginning, which is read once.
    """
    half = len(tokens) // 2
    first = 1 if packed else half
    items = [
        {
            "input_ids": ids,
            "labels": [IGNORED] * first + ids[first:],
            "weights": [1.0] * len(ids),
            "length": len(ids),
            "allowed": None,
        }
        for ids in ([*tokens], [*tokens[:half], *reversed(tokens[half:])])
    ]

    def logits(batch: dict[str, Any]) -> torch.Tensor:
        given = {name: batch[name] for name in batch if name not in ("labels", "shift_labels")}
        found: torch.Tensor = model(**given).logits[0].float()
        return found

    windows: set[int | None] = set()

    def attend(*given: Any, **options: Any) -> tuple[torch.Tensor, None]:
        windows.add(options.get("sliding_window"))
        return packed_attention(*given, **options)

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), answers_only(model, False, attend):
            alone = torch.cat([logits(collate([item], 0)) for item in items])
            batch = collate_packed([items]) if packed else collate(items, 0, share=True)
            try:
                together = logits(batch)
            # Its cache has no rows that can be repeated, or its layers take no such arguments.
            except (AttributeError, NotImplementedError, TypeError, ValueError):
                return False
    finally:
        model.train(was_training)
    # The texts are shorter than most windows.
    if packed and has_window(model.config.get_text_config()) and windows <= {None}:
        return False
    return bool((together - alone).abs().max() <= 1e-3 * alone.abs().max())


@contextmanager
def answers_only(
    model: Any, bf16: bool, packed: Callable[..., Any] = packed_attention
) -> Iterator[Callable[[], None]]:
    """Let a model take the batches of `collate` and `collate_packed` while this lasts.

    Which attention is the fastest is decided by the batch. On a CPU the backward pass of SDPA takes
    three times as long as that of plain products, which keep all scores: short rows go by those.

    Parameters
    ----------
    model: a causal language model of transformers, or an adapter on one.
    bf16: whether the opening is read in bfloat16, as accelerate has it for the rest.
    packed: the attention of packed rows.

    Yields
    ------
    What gives the model its own attention back, to be called before it generates.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = causal.config.get_text_config()
    body = getattr(causal, causal.base_model_prefix)
    own = config._attn_implementation
    AttentionInterface.register(PACKED, packed)
    places: list[torch.Tensor | None] = [None]

    def attend(by: str) -> None:
        if config._attn_implementation != by:
            causal.set_attn_implementation(by)

    def before_model(_: Any, args: Any, given: dict[str, Any]) -> Any:
        for name in ("weights", "allowed"):  # of the objective
            given.pop(name, None)
        places[0] = given.pop("places", None)
        if places[0] is None:  # it generates
            return None
        if "cu_seq_lens_q" in given:
            attend(PACKED)
        elif own == "sdpa" and model.device.type == "cpu":
            rows, columns = given["attention_mask"].shape
            heads = config.num_attention_heads * config.num_hidden_layers
            attend("eager" if 12 * rows * columns**2 * heads <= SCORES else own)
        opening = given.pop("opening_ids", None)
        given["use_cache"] = opening is not None
        if opening is not None:
            with torch.autocast(opening.device.type, torch.bfloat16, enabled=bf16):
                read = getattr(body(input_ids=opening, use_cache=True), cache_argument(body))
            read.batch_repeat_interleave(len(given["input_ids"]))
            given[cache_argument(body)] = read
        return args, given

    def before_head(_: Any, args: Any) -> Any:
        at = places[0]
        return None if at is None else (args[0][at[0], at[1]][None],)

    hooks = [
        model.register_forward_pre_hook(before_model, with_kwargs=True),
        causal.get_output_embeddings().register_forward_pre_hook(before_head),
    ]
    try:
        yield lambda: attend(own)
    finally:
        for hook in hooks:
            hook.remove()
        attend(own)
