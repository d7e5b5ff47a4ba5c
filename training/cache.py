"""Built examples in a file, so that a run that goes on, or goes on elsewhere, need not build them.

Each answer is replayed through its masks when it is built, which takes milliseconds, and minutes
for a large run.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from constrained_ner.atomic import whole
from constrained_ner.engines.models import LoadedModel
from constrained_ner.formats import get_format
from constrained_ner.pipeline.prompts import Target, prompt

from .examples import Example, Question

FILE = "examples.npz"


def wording(formats: Sequence[str]) -> str:
    """The prompts of the formats with their holes: it changes when a prompt does.

    Those that may be indexed come in both ways.
    """
    target = Target(("{label}",), "{dataset}")
    ways = [(get_format(name), index) for name in formats for index in (False, True)]
    return "\n\n".join(
        prompt(format, "{text}", target, index=index)
        for format, index in ways
        if format.by_place or not index
    )


def fingerprint(questions: Sequence[Question], model: LoadedModel) -> str:
    """Of everything that decides the tokens of examples: questions, prompts and tokenizer.

    It is the same on another machine, with other versions of the libraries.
    """
    tokenizer = model.tokenizer
    prompts = wording(sorted({question.format for question in questions}))
    total = sha256()
    for part in (
        sorted(tokenizer.get_vocab().items()),
        tokenizer(prompts)["input_ids"],
        tokenizer.chat_template,
        (model.vocabulary.size, model.vocabulary.ends, model.context),
        prompts,
    ):
        total.update(repr(part).encode("utf-8", "surrogatepass"))
    for question in questions:
        total.update(repr(question).encode("utf-8", "surrogatepass"))
    return total.hexdigest()


# What numpy and zipfile come to in a file that is damaged, or not there.
_DAMAGED = (
    *(OSError, ValueError, LookupError, EOFError, NotImplementedError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)


def save_examples(examples: Sequence[Example], of: str, path: Path) -> None:
    """Write the examples of questions; the file appears when it is whole."""
    with whole(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            fingerprint=np.array(of),
            turns=np.array([example.turn for example in examples], np.int32),
            lengths=np.array([len(example.tokens) for example in examples], np.int32),
            dropped=np.array([example.dropped for example in examples], np.int32),
            tokens=np.array([token for e in examples for token in e.tokens], np.uint32),
            mask=np.packbits([on for e in examples for on in e.mask]),
        )


def load_examples(questions: Sequence[Question], of: str, path: Path) -> list[list[Example]] | None:
    """The examples of questions; None where the file has others, is damaged or is not there."""
    found: list[list[Example]] = []
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            if str(file["fingerprint"]) != of:
                return None
            lengths, dropped = file["lengths"].tolist(), file["dropped"].tolist()
            turns = file["turns"].tolist()
            tokens = file["tokens"].tolist()
            mask = np.unpackbits(file["mask"], count=len(tokens)).astype(bool).tolist()
        borders = pairwise(accumulate(lengths, initial=0))
        for turn, (start, end), lost in zip(turns, borders, dropped, strict=True):
            if turn == 0:
                found.append([])
            question = questions[len(found) - 1]
            part = tuple(tokens[start:end]), tuple(mask[start:end])
            found[-1].append(Example(question, *part, lost, turn))
    except _DAMAGED:
        return None
    return found if len(found) == len(questions) else None
