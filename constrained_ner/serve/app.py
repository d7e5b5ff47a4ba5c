"""The web application: texts are answered by a `Worker`, and pages show how to ask."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from fastapi_offline import FastAPIOffline
from starlette.requests import ClientDisconnect

from constrained_ner.documents import Document
from constrained_ner.engines import DEFAULT_ENGINE, choose_engine
from constrained_ner.errors import CnerError, InputError
from constrained_ner.formats import FORMATS, Feature
from constrained_ner.pages import render, script_data
from constrained_ner.pipeline.extractor import Extractor
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.task import COMBINATIONS, default_format, task_for, together
from constrained_ner.serve.guard import HEADERS, Guard, waiting
from constrained_ner.serve.messages import (
    Ask,
    AskedDocument,
    BatchAsk,
    Failed,
    Found,
    Health,
    Refused,
    Results,
    Settings,
    Unreadable,
    Version,
)
from constrained_ner.serve.worker import Caller, RefusedError, StoppingError, Worker

PACKAGES = ("constrained_ner", "torch", "transformers", "outlines", "llguidance", "fastapi")
NDJSON = "application/x-ndjson"
_LOG = logging.getLogger("uvicorn.error")  # the one that an administrator reads


@dataclass(frozen=True)
class Limits:
    """How much the server accepts.

    Parameters
    ----------
    characters: the longest text. `labels`: the most labels of a request.
    waiting: the most requests that are being answered or wait.
    documents: the most of a batch. `batch_characters`: of all of its texts together.
    """

    characters: int = 20_000
    labels: int = 50
    waiting: int = 64
    documents: int = 1000
    batch_characters: int = 1_000_000

    @property
    def bytes(self) -> dict[str, int]:
        """The longest body by path: a character takes up to 12 bytes of JSON."""
        return {
            "/predict": 12 * self.characters + 100_000,
            "/predict/batch": 12 * self.batch_characters + 200 * self.documents + 100_000,
        }

    @property
    def in_words(self) -> str:
        return (
            f"Accepted are texts of up to {self.characters:,} characters and {self.labels} labels, "
            f"batches of up to {self.documents:,} documents with {self.batch_characters:,} "
            f"characters together, and {self.waiting} requests at a time."
        )


_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refused, "description": "The body cannot be read."},
    408: {"model": Refused, "description": "The body did not come in time."},
    411: {"model": Refused, "description": "The body does not say how long it is."},
    413: {"model": Refused, "description": "The body, or a text, is too long."},
    415: {"model": Refused, "description": "The body is not said to be JSON."},
    422: {"model": Refused, "description": "The request cannot be answered."},
    429: {"model": Refused, "description": "Too many requests are waiting."},
    503: {"model": Refused, "description": "The server is stopping."},
}


def create_app(extractor: Extractor, limits: Limits | None = None) -> FastAPI:
    """The web application for a model. While it runs, `state.worker` is its `Worker`."""
    limits = limits or Limits()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # This tries the model, for which the first caller is not to wait.
        await asyncio.to_thread(choose_engine, DEFAULT_ENGINE, extractor.model)
        app.state.worker = Worker(limits.waiting)
        yield
        await asyncio.to_thread(app.state.worker.close)

    app = FastAPIOffline(
        redoc_url=None,
        title="constrained_ner",
        version=version("constrained_ner"),
        description=f"Named entity recognition under a grammar, by {extractor.model.name}. "
        f"{limits.in_words}",
        lifespan=lifespan,
        # The address of a contract is not sent to a checker of contracts somewhere.
        swagger_ui_parameters={"validatorUrl": None, "tryItOutEnabled": True},
    )
    headers = {
        **HEADERS,
        "CNER-Version": version("constrained_ner"),
        "CNER-Model": quote(extractor.model.name),
    }
    app.add_middleware(Guard, most=limits.bytes, headers=headers)
    _say_what_is_wrong(app, headers)
    _add_answers(app, extractor, limits)
    _add_state(app, extractor)
    return app


# ---- answers


async def _admitted(request: Request) -> AsyncIterator[Caller]:
    """A place in the worker, until the answer is sent or its reader has gone away."""
    with request.app.state.worker.admit() as caller:
        yield caller


_Place = Annotated[Caller, Depends(_admitted)]


def _add_answers(app: FastAPI, extractor: Extractor, limits: Limits) -> None:

    def predictor_for(ask: Settings) -> tuple[Predictor, tuple[str, ...]]:
        """How to ask the model, and notes."""
        if ask.labels is not None and len(ask.labels) > limits.labels:
            raise HTTPException(422, f"{len(ask.labels)} labels: expected at most {limits.labels}")
        options = {"max_fragments": ask.max_fragments}
        task = task_for(
            extractor.manifest, ask.labels, ask.format, options=options, combine=ask.combine
        )
        names = ", ".join(format.name for format in task.formats)
        can_divide = any(Feature.DISCONTINUOUS in format.expresses for format in task.formats)
        if (ask.max_fragments or 1) > 1 and not can_divide:
            raise HTTPException(422, f"max_fragments: {names} has no discontinuous entities")
        if ask.combine != COMBINATIONS[0] and len(task.formats) == 1:
            raise HTTPException(422, f"combine is for several formats, and there is {names} alone")
        if ask.min_confidence is not None and ask.precision is not None:
            raise HTTPException(422, "min_confidence and precision exclude each other")
        predictor = extractor.answering(
            task,
            ask.level,
            segment=ask.segment,
            min_confidence=ask.min_confidence,
            precision=ask.precision,
            consistent=ask.consistent,
        )
        return predictor, task.notes

    @app.post("/predict", tags=["answers"], summary="One text", responses=_REFUSALS)
    async def predict(ask: Ask, request: Request, caller: _Place) -> Found:
        """Extract the entities of a text."""
        if len(ask.text) > limits.characters:
            raise HTTPException(413, _too_long(ask.text, limits))
        if not ask.text.strip():
            raise HTTPException(422, _EMPTY)
        predictor, notes = predictor_for(ask)
        outcome = caller.submit(predictor, Document("text", ask.text))
        async with _presence(request) as gone:
            prediction = await _unless(gone, outcome)
        if prediction.error is not None:
            raise HTTPException(422, prediction.error)
        if not ask.details:
            return _found(prediction, notes)
        # Grammars of a long text take their time, in which others are to be heard.
        return await asyncio.to_thread(_found, prediction, notes, predictor)

    streamed = {NDJSON: {"schema": {"type": "string", "description": "A line for each result."}}}

    @app.post(
        "/predict/batch",
        tags=["answers"],
        summary="Many documents",
        response_model=Results,
        responses=_REFUSALS | {200: {"content": streamed}},
    )
    async def predict_batch(ask: BatchAsk, request: Request, caller: _Place) -> Any:
        """Extract the entities of many documents; the settings are those of all.

        Results are in the order of the documents. One that cannot be answered has an error in its
        place. With `Accept: application/x-ndjson` each result is a line that is sent as soon as it
        is there. Other requests are answered in between.
        """
        _check_size(ask, limits)
        predictor, notes = predictor_for(ask)
        documents = [_document(n, one, limits) for n, one in enumerate(ask.documents, 1)]

        async def results() -> AsyncIterator[Found | Failed]:
            async with _presence(request) as gone:
                async for answered in _in_order(caller, predictor, documents, gone):
                    yield answered if isinstance(answered, dict) else _found(answered, notes)

        if NDJSON in request.headers.get("accept", ""):
            return StreamingResponse(_lines(results()), media_type=NDJSON)
        return JSONResponse({"results": [result async for result in results()]})


_EMPTY = "the text is empty: expected something to read"


def _too_long(text: str, limits: Limits) -> str:
    return f"the text has {len(text)} characters: expected at most {limits.characters}"


def _check_size(ask: BatchAsk, limits: Limits) -> None:
    if len(ask.documents) > limits.documents:
        raise HTTPException(
            413, f"{len(ask.documents)} documents: expected at most {limits.documents}"
        )
    characters = sum(len(one.text) for one in ask.documents if isinstance(one, AskedDocument))
    if characters > limits.batch_characters:
        raise HTTPException(
            413,
            f"the texts have {characters} characters together: expected at most "
            f"{limits.batch_characters}",
        )


def _document(number: int, asked: AskedDocument | Unreadable, limits: Limits) -> Document | Failed:
    """A document of a batch, or what is wrong with it."""
    name = _writable(str(number) if asked.id is None else asked.id)
    if isinstance(asked, Unreadable):
        return Failed(id=name, error=_writable(asked.error))
    if len(asked.text) > limits.characters:
        return Failed(id=name, error=_too_long(asked.text, limits))
    if not asked.text.strip():
        return Failed(id=name, error=_EMPTY)
    try:
        return Document(name, asked.text)
    except InputError as error:
        return Failed(id=name, error=_writable(str(error)))


@asynccontextmanager
async def _presence(request: Request) -> AsyncIterator[asyncio.Task[None]]:
    """A task that ends when the one who asked goes away."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task = asyncio.create_task(watch())
    try:
        yield task
    finally:
        task.cancel()


async def _unless(gone: asyncio.Task[None], outcome: Future[Prediction]) -> Prediction:
    """The outcome.

    Raises
    ------
    ClientDisconnect: nobody waits for it any more.
    """
    waiting = asyncio.wrap_future(outcome)
    either: set[asyncio.Future[Any]] = {waiting, gone}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        raise ClientDisconnect
    return waiting.result()


async def _in_order(
    caller: Caller,
    predictor: Predictor,
    documents: Sequence[Document | Failed],
    gone: asyncio.Task[None],
) -> AsyncIterator[Prediction | Failed]:
    """What becomes of the documents, a few of which are with the worker at a time."""
    ahead: deque[tuple[str, Failed | Future[Prediction]]] = deque()
    for document in documents:
        if len(ahead) > 2 * predictor.batch_size:
            yield await _result(*ahead.popleft(), gone)
        if not isinstance(document, Document):
            ahead.append((document["id"], document))
            continue
        try:
            ahead.append((document.id, caller.submit(predictor, document)))
        except StoppingError as error:
            ahead.append((document.id, Failed(id=document.id, error=str(error))))
    while ahead:
        yield await _result(*ahead.popleft(), gone)


async def _result(
    name: str, outcome: Failed | Future[Prediction], gone: asyncio.Task[None]
) -> Prediction | Failed:
    if not isinstance(outcome, Future):
        return outcome
    try:
        prediction = await _unless(gone, outcome)
    except ClientDisconnect:
        raise
    except CnerError as error:
        return Failed(id=name, error=_writable(str(error)))
    except Exception:
        _LOG.exception("a document of a batch was not answered")
        return Failed(id=name, error=_BROKEN)
    if prediction.error is not None:
        return Failed(id=name, error=_writable(prediction.error))
    return prediction


def _found(
    prediction: Prediction, notes: Sequence[str], explained_by: Predictor | None = None
) -> Found:
    record = prediction.to_record()
    if explained_by is not None:
        for answer, reply in zip(record["answers"], prediction.replies, strict=True):
            answer["prompt"], answer["grammar"] = explained_by.explain(prediction, reply)
    return Found(**record, notes=list(notes))


async def _lines(results: AsyncIterator[Found | Failed]) -> AsyncIterator[str]:
    try:
        async for result in results:
            yield json.dumps(result, ensure_ascii=False) + "\n"
    except ClientDisconnect:
        return


# ---- refusals

_BROKEN = "the server failed: its log says why"


def _say_what_is_wrong(app: FastAPI, headers: Mapping[str, str]) -> None:
    @app.exception_handler(CnerError)
    async def refused(request: Request, error: CnerError) -> JSONResponse:
        code = error.status if isinstance(error, RefusedError) else 422
        return JSONResponse({"detail": _writable(str(error))}, code, waiting(code))

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        # The input itself is left out: JSON may not be able to hold it.
        found = [
            {"loc": [str(part) for part in one["loc"]], "msg": _writable(one["msg"])}
            for one in error.errors()
        ]
        for one in error.errors():
            if one["type"] == "json_invalid":
                why, at = one["ctx"]["error"], one["loc"][-1]
                return JSONResponse({"detail": f"the body is not JSON: {why} at offset {at}"}, 400)
        return JSONResponse({"detail": found}, 422)

    @app.exception_handler(ClientDisconnect)
    async def left(request: Request, error: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"detail": "the client went away"}, 499)  # for the log: nobody reads it

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        # Answered from outside of the guard.
        return JSONResponse({"detail": _BROKEN}, 500, headers)


def _writable(text: str) -> str:
    """A message with what UTF-8 cannot hold, such as a lone surrogate in a quotation, escaped."""
    return text.encode(errors="backslashreplace").decode()


# ---- the state of the server, and its page


def _add_state(app: FastAPI, extractor: Extractor) -> None:
    trained = extractor.manifest
    about = Version(
        model=extractor.model.name,
        labels=list(trained.labels) if trained else None,
        format=default_format(trained),
        formats=list((trained.formats if trained else ()) or FORMATS),
        together={name: list(formats) for name, formats in together(trained).items()},
        versions={name: version(name) for name in PACKAGES},
    )
    page = render("try.html", known=script_data(about))

    @app.get(
        "/health",
        tags=["state"],
        summary="Does it live?",
        responses={503: {"model": Refused, "description": "Out of order."}},
    )
    async def health(request: Request) -> Health:
        """Whether the server works: if not, it is to be started anew."""
        worker: Worker = request.app.state.worker
        if not worker.alive:
            raise HTTPException(503, "the worker has ended")
        return Health(status="ok", waiting=worker.callers)

    @app.get(
        "/ready",
        tags=["state"],
        summary="Is there room?",
        responses={503: {"model": Refused, "description": "Not now."}},
    )
    async def ready(request: Request) -> Health:
        """Whether a request would be admitted: if not, another server is to be asked."""
        worker: Worker = request.app.state.worker
        try:
            worker.check()
        except RefusedError as error:
            raise HTTPException(503, str(error)) from None
        return Health(status="ok", waiting=worker.callers)

    @app.get("/version", tags=["state"], summary="What is running")
    async def versions() -> Version:
        """The model, its labels and default format, and the versions of packages."""
        return about

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page)
