"""What the server is asked, and what it says: the models of `/openapi.json`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    with_config,
)
from typing_extensions import TypedDict

from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.formats.options import MAX_FRAGMENTS
from constrained_ner.pipeline.prediction import PredictionRecord
from constrained_ner.pipeline.segments import SEGMENTS
from constrained_ner.pipeline.task import COMBINATIONS

_DOCUMENTED = ConfigDict(use_attribute_docstrings=True)
EXAMPLE = "Two patients with colon cancer received oxaliplatin."


class Settings(BaseModel):
    """What to extract, and how."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    labels: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=100)]] | None, Field(min_length=1)
    ] = None
    """By default those that the model names for it; `all` stands for those that it was trained for,
    see /version."""
    # Names are checked where they are used; the schema only lists them.
    format: Annotated[str | None, Field(examples=[*FORMATS, "multi_tag,multi_brat", "best3"])] = (
        None
    )
    """How the model writes its answers; by default as it is best at, see /version. Several, with
    commas between them, are put together; `best3`: the three that it does best with."""
    combine: Annotated[str, Field(json_schema_extra={"enum": list(COMBINATIONS)})] = "agreement"
    """How answers in several formats are put together: by confidence, or what most of them have."""
    level: Level = Level.FAITHFUL
    """How much of an answer its grammar decides: free is without one, and without confidences."""
    segment: Annotated[str, Field(json_schema_extra={"enum": list(SEGMENTS)})] = "sentence"
    """What of a text the model is asked about at a time."""
    max_fragments: Annotated[int | None, Field(ge=1, le=MAX_FRAGMENTS)] = None
    """The most fragments of a discontinuous entity, at the faithful level."""
    min_confidence: Annotated[float | None, Field(ge=0, le=1)] = None
    """Entities that are less sure are left out; by default, as was best on dev if that is known."""
    precision: Annotated[float | None, Field(ge=0, le=1)] = None
    """In place of `min_confidence`: what has this precision on dev."""
    consistent: bool = False
    """Let the places of a text where the same words stand have one confidence, the mean."""


class Ask(Settings):
    """A text, and what to extract from it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"text": EXAMPLE}, {"text": EXAMPLE, "labels": ["Disease"]}]
        }
    )

    text: str
    """What to extract from; more than white space."""
    details: bool = False
    """Also give the prompt and the grammar of each question."""


class AskedDocument(BaseModel):
    """A document of a batch."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    text: str
    """What to extract from; more than white space."""
    id: Annotated[str | None, Field(coerce_numbers_to_str=True)] = None
    """What to call it in the results; by default its number, counted from 1."""


class Unreadable(BaseModel):
    """In place of a document that is none."""

    id: str | None
    error: str


def _or_what_is_wrong(value: Any, read: ValidatorFunctionWrapHandler) -> AskedDocument | Unreadable:
    """A document, or why it is none: it must not lose the others."""
    try:
        document: AskedDocument = read(value)
    except ValidationError as error:
        told = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        name = value.get("id") if isinstance(value, dict) else None
        known = isinstance(name, str | int)
        return Unreadable(id=str(name) if known else None, error="; ".join(told).removeprefix(": "))
    return document


class BatchAsk(Settings):
    """Documents, and what to extract from each of them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "documents": [
                        {"id": "a", "text": EXAMPLE},
                        {"id": "b", "text": "No fever since Monday."},
                    ],
                    "min_confidence": 0.5,
                }
            ]
        }
    )

    documents: Annotated[
        list[Annotated[AskedDocument, WrapValidator(_or_what_is_wrong)]], Field(min_length=1)
    ]
    """One that cannot be answered has an error in its place."""


_RECORD: dict[str, Any] = {
    "id": "text",
    "text": EXAMPLE,
    "format": "multi_tag",
    "level": "faithful",
    "options": {
        "boundaries": "word",
        "max_fragments": 1,
        "anchor": "surface",
        "words": "space",
        "order": "text",
    },
    "entities": [
        {
            "label": "Disease",
            "fragments": [[18, 30]],
            "surface": "colon cancer",
            "confidence": 0.9617,
        },
        {
            "label": "Chemical",
            "fragments": [[40, 51]],
            "surface": "oxaliplatin",
            "confidence": 0.994,
        },
    ],
    "answers": [
        {
            "labels": ["Chemical", "Disease"],
            "answer": "Answer: Two patients with <Disease>colon cancer</Disease> received "
            "<Chemical>oxaliplatin</Chemical>.",
            "parses": True,
            "problems": [],
            "tokens": 29,
            "ended": True,
            "forced": False,
            "allowed_mass": [0.969739, 0.524749],
        }
    ],
    "calibrated": True,
    "notes": [],
}


@with_config(ConfigDict(use_attribute_docstrings=True, json_schema_extra={"examples": [_RECORD]}))
class Found(PredictionRecord):
    """The record of a text, as `cner predict` writes it, and notes."""

    notes: list[str]
    """Why the model may fail at what it was asked for, such as labels that are new to it."""


@with_config(_DOCUMENTED)
class Failed(TypedDict):
    """In place of the record of a document that was not answered."""

    id: str
    """The document."""
    error: str
    """Why."""


@with_config(_DOCUMENTED)
class Results(TypedDict):
    """The answer to a batch."""

    results: list[Found | Failed]
    """One for each document, in their order."""


class Refused(BaseModel):
    """Why there is no answer."""

    model_config = _DOCUMENTED

    detail: str | list[Any]
    """In words, or as a list of fields that are wrong: each with its place and what is wrong."""


@with_config(_DOCUMENTED)
class Health(TypedDict):
    """The state of the server."""

    status: Literal["ok"]
    """Anything else has another status code."""
    waiting: int
    """How many requests are being answered or wait."""


@with_config(_DOCUMENTED)
class Version(TypedDict):
    """What is running."""

    model: str
    """The name of the model."""
    labels: list[str] | None
    """Those that it was trained for; null where it does not say."""
    format: str
    """The default format."""
    formats: list[str]
    """Those that it was trained for; all where it does not say."""
    together: dict[str, list[str]]
    """What `best2` and so on stand for."""
    versions: dict[str, str]
    """Of packages."""
