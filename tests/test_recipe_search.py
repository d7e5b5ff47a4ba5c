"""The search for a recipe: what its variants are, and what its table says."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.recipe_search import VARIANTS, cut, difference, losses, recipe_of, table
from constrained_ner.engines.models import LoadedModel
from constrained_ner.formats import FORMATS
from constrained_ner.pipeline.prompts import Target
from constrained_ner.training.examples import Question
from tests.support.training import TEN, one_example


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_is_a_recipe(name: str) -> None:
    recipe = recipe_of(VARIANTS[name], Path("corpora"), 2000, Path("search"))
    share = {"easy-formats": 133, "easy-first": 267}
    assert recipe.examples.train == share.get(name, 400)
    assert (recipe.lora is None) == (name == "all-weights-1e-4")
    base = recipe_of(VARIANTS["base"], Path("corpora"), 2000, Path("search"))
    assert (recipe == base) == (name == "base")


def test_losses_are_those_of_the_answers(tiny_model: LoadedModel) -> None:
    model = tiny_model
    examples = [
        one_example(Question(TEN[i], "multi_term", Target(("Disease", "Gene"), "c")), model)
        for i in range(3)
    ]
    bare: Any = model.steerable.model
    for example, loss in zip(examples, losses(model, examples), strict=True):
        expected = 0.0
        for at, on in enumerate(example.mask):
            if on:
                with torch.no_grad():
                    scores = bare(torch.tensor([example.tokens[:at]])).logits[0, -1].float()
                expected -= scores.log_softmax(-1)[example.tokens[at]].item()
        assert loss == pytest.approx(expected, abs=1e-3)
    # The masks leave less to choose from.
    both = zip(losses(model, examples), losses(model, examples, masked=True), strict=True)
    assert all(0 <= masked < free for free, masked in both)


@pytest.mark.parametrize("rank", [1, 4])
def test_what_is_cut_is_what_an_adapter_can_hold(tiny_model: LoadedModel, rank: int) -> None:
    base: Any = tiny_model.steerable.model
    learnt = copy.deepcopy(base)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in learnt.parameters():
            weight += 0.01 * torch.randn_like(weight)
    before = {name: weight.clone() for name, weight in learnt.named_parameters()}
    cut(learnt, base, rank)
    kept = 0
    for (name, weight), old in zip(learnt.named_parameters(), base.parameters(), strict=True):
        if "_proj" not in name:
            assert torch.equal(weight, old), name
            continue
        kept += 1
        assert torch.linalg.matrix_rank(weight - old, rtol=1e-3) == rank
        # What is left out is the part of the smallest singular values.
        values = torch.linalg.svdvals(before[name] - old)
        left_out = torch.linalg.norm(before[name] - weight).item()
        assert left_out == pytest.approx(torch.linalg.norm(values[rank:]).item(), rel=1e-3)
    assert kept == 7 * base.config.num_hidden_layers


def test_the_difference_is_that_of_pairs() -> None:
    change, low, high = difference([1.0, 2.0, 3.0, 50.0], [2.0, 3.0, 4.0, 51.0])
    assert change == low == high == 1.0


def test_the_table() -> None:
    def row(variant: str, **found: list[float]) -> dict[str, Any]:
        return {"cell": {"variant": variant}, "losses": found}

    rows = [
        row("base", multi_term=[1.0, 3.0], multi_tag=[5.0, 5.0]),
        row("few", multi_term=[0.5, 2.5]),
    ]
    lines = table(rows).splitlines()
    assert lines[2].startswith("| base | 3.500 | +0.000 | +0.000 to +0.000 |")
    # Compared in the formats that both have.
    assert lines[3].startswith("| few | 1.500 | -0.500 | -0.500 to -0.500 |")
    cells = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert cells[4 + list(FORMATS).index("multi_term")] == "-0.50"
    assert cells[4 + list(FORMATS).index("multi_tag")] == "-"
