"""The web application: `POST /predict`, a page to try it out, and the state of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from constrained_ner.documents import Document
from constrained_ner.errors import CnerError
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.pages import render, script_data
from constrained_ner.pipeline.extractor import Extractor
from constrained_ner.pipeline.prediction import Prediction, PredictionRecord
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.segments import SEGMENTS
from constrained_ner.pipeline.task import default_format, task_for
from constrained_ner.serve.worker import BusyError, Worker

PACKAGES = ("constrained_ner", "torch", "transformers", "outlines", "llguidance", "fastapi")


@dataclass(frozen=True)
class Limits:
    """How much the server accepts.

    Parameters
    ----------
    characters: the longest text. `labels`: the most labels of a request.
    waiting: the most requests that wait to be answered.
    """

    characters: int = 20_000
    labels: int = 50
    waiting: int = 64


class Ask(BaseModel):
    """A text, and what to extract from it."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(description="What to extract from; not empty.")]
    labels: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=100)]] | None,
        Field(min_length=1, description="By default those that the model was trained for."),
    ] = None
    # Names are checked where they are used; the schema only lists them.
    format: Annotated[
        str | None,
        Field(
            description="By default the one that the model is best at, see /version.",
            json_schema_extra={"enum": [*FORMATS, None]},
        ),
    ] = None
    level: Level = Level.FAITHFUL
    segment: Annotated[str, Field(json_schema_extra={"enum": list(SEGMENTS)})] = "sentence"
    max_fragments: Annotated[int | None, Field(ge=1, le=8)] = None
    details: Annotated[
        bool, Field(description="Also give the prompt and the grammar of each question.")
    ] = False


class Found(PredictionRecord):
    """The record of the text, as `cner predict` writes it.

    `notes` say why the model may fail at what it was asked for.
    """

    notes: list[str]


class Refused(BaseModel):
    """Why there is no answer, in words or as a list of fields that are wrong."""

    detail: str | list[Any]


def create_app(extractor: Extractor, limits: Limits | None = None) -> FastAPI:
    """The web application for a model."""
    limits = limits or Limits()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.worker = Worker(limits.waiting)
        yield
        await asyncio.to_thread(app.state.worker.close)

    app = FastAPI(
        title="constrained_ner",
        version=version("constrained_ner"),
        description="Named entity recognition under a grammar.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from the network; `/openapi.json` stays
        redoc_url=None,
    )

    @app.middleware("http")
    async def small(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        """Refuse a body that is far too long, or does not state its length, before it is read."""
        length = request.headers.get("content-length")
        most = 12 * limits.characters + 100_000  # a character takes up to 12 bytes of JSON
        if length is None and "transfer-encoding" in request.headers:
            return JSONResponse({"detail": "expected a Content-Length"}, 411)
        if length is not None and (not length.isdecimal() or int(length) > most):
            return JSONResponse({"detail": f"expected at most {most} bytes"}, 413)
        return await go_on(request)

    @app.exception_handler(CnerError)
    async def refused(request: Request, error: CnerError) -> JSONResponse:
        headers = {"Retry-After": "5"} if isinstance(error, BusyError) else None
        return JSONResponse({"detail": _writable(str(error))}, 429 if headers else 422, headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        # The input itself is left out: JSON may not be able to hold it.
        found = [
            {"loc": [str(part) for part in one["loc"]], "msg": _writable(one["msg"])}
            for one in error.errors()
        ]
        return JSONResponse({"detail": found}, 422)

    @app.post(
        "/predict",
        responses={
            400: {"model": Refused, "description": "The body cannot be read."},
            411: {"model": Refused, "description": "The body does not say how long it is."},
            413: {"model": Refused, "description": "The text is too long."},
            422: {"model": Refused, "description": "The request cannot be answered."},
            429: {"model": Refused, "description": "Too many requests are waiting."},
        },
    )
    async def predict(ask: Ask) -> Found:
        """Extract the entities of a text."""
        if len(ask.text) > limits.characters:
            most = limits.characters
            raise HTTPException(
                413, f"the text has {len(ask.text)} characters: expected at most {most}"
            )
        if ask.labels is not None and len(ask.labels) > limits.labels:
            raise HTTPException(422, f"{len(ask.labels)} labels: expected at most {limits.labels}")
        if not ask.text.strip():
            raise HTTPException(422, "the text is empty: expected something to read")
        document = Document("text", ask.text)
        options = {"max_fragments": ask.max_fragments}
        task = task_for(extractor.manifest, ask.labels, ask.format, options=options)
        predictor = extractor.answering(task, ask.level, segment=ask.segment)
        outcome = app.state.worker.submit(predictor, document)
        prediction = await asyncio.wrap_future(outcome)
        if prediction.error is not None:
            raise HTTPException(422, prediction.error)
        return _found(prediction, predictor, task.notes, details=ask.details)

    @app.get("/health", responses={503: {"model": Refused, "description": "Out of order."}})
    async def health() -> dict[str, Any]:
        """Whether the server can answer, and how many requests are waiting."""
        worker: Worker = app.state.worker
        if not worker.alive:
            raise HTTPException(503, "the worker has ended")
        return {"status": "ok", "waiting": worker.waiting}

    @app.get("/version")
    async def versions() -> dict[str, Any]:
        """The model, its labels and default format, and the versions of packages."""
        trained = extractor.manifest
        return {
            "model": extractor.model.name,
            "labels": list(trained.labels) if trained else None,
            "format": default_format(trained),
            "versions": {name: version(name) for name in PACKAGES},
        }

    page = _page(extractor)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page)

    return app


def _writable(text: str) -> str:
    """A message with what UTF-8 cannot hold, such as a lone surrogate in a quotation, escaped."""
    return text.encode(errors="backslashreplace").decode()


def _found(
    prediction: Prediction, predictor: Predictor, notes: Sequence[str], *, details: bool
) -> Found:
    record = prediction.to_record()
    if details:
        for answer, reply in zip(record["answers"], prediction.replies, strict=True):
            answer["prompt"], answer["grammar"] = predictor.explain(prediction, reply)
    return Found(**record, notes=list(notes))


def _page(extractor: Extractor) -> str:
    trained = extractor.manifest
    known = {
        "model": extractor.model.name,
        "labels": list(trained.labels) if trained else [],
        "formats": list(trained.formats if trained else FORMATS),
        "format": default_format(trained),
    }
    return render("try.html", known=script_data(known))
