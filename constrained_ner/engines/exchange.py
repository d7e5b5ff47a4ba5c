"""Requests as records, and answers read back: for systems that we do not know.

`cner export` writes the first, somebody answers them, and `cner import` reads the second, with all
the checks of `external`. A request is known by a digest of what is asked, so that an answer to
another question, of other options or another text, is none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from constrained_ner.corpora.json_records import JsonRecord
from constrained_ner.engines.base import Answered, Capabilities, Chosen, Engine, Request, Requests
from constrained_ner.engines.external import Written, checked, has_ended, limit_of
from constrained_ner.engines.language_model import LanguageModel
from constrained_ner.errors import DecodingError, InputError


def id_of(request: Request) -> str:
    """What a request is known by."""
    source = request.grammar.source if request.grammar else None
    asked = json.dumps([request.prompt, request.budget, source])
    return hashlib.sha256(asked.encode()).hexdigest()[:24]


def request_to_json(request: Request, model: LanguageModel) -> dict[str, Any]:
    """A request that has begun, with all that a system needs to answer it."""
    grammar = request.grammar
    return {
        "id": id_of(request),
        "messages": [*request.messages],
        "prompt": model.tokenizer.decode(request.prompt),
        "tokens": request.prompt,
        "grammar": model.vocabulary.source_of(grammar) if grammar else None,
        "max_tokens": limit_of(request),
    }


def batch_line(record: Mapping[str, Any], served_model: str, *, chat: bool) -> dict[str, Any]:
    """A request as a line of OpenAI's batch files, with the grammar where vLLM has it.

    Parameters
    ----------
    record: of `request_to_json`.
    chat: give messages, to which the server applies its own template; else token ids.
    """
    body: dict[str, Any] = {"model": served_model, "max_tokens": record["max_tokens"]}
    body |= {"messages": record["messages"]} if chat else {"prompt": record["tokens"]}
    body |= {"temperature": 0}
    if record["grammar"] is not None:
        body["structured_outputs"] = {"grammar": record["grammar"]}
    url = "/v1/chat/completions" if chat else "/v1/completions"
    return {"custom_id": record["id"], "method": "POST", "url": url, "body": body}


def answer_from_json(record: JsonRecord) -> tuple[str, Written | DecodingError]:
    """The id of a request, and its answer or what went wrong with it.

    Parameters
    ----------
    record: with `id`, `text` and `finish_reason`, or a line of what OpenAI's batches give.

    Raises
    ------
    InputError: it is neither.
    """
    value = record.value
    if not isinstance(value, dict):
        raise record.error("expected an object with id and text")
    name = value.get("custom_id", value.get("id"))
    if not isinstance(name, str):
        raise record.error("expected the id of a request: a string at `id` or `custom_id`")
    choice: Any = value
    if "custom_id" in value:
        response = value.get("response")
        body = response.get("body") if isinstance(response, dict) else None
        choices = body.get("choices") if isinstance(body, dict) else None
        if value.get("error") or not isinstance(choices, list) or not choices:
            return name, DecodingError(f"no answer: {json.dumps(value.get('error') or body)[:200]}")
        choice = choices[0]
        if not isinstance(choice, dict):
            raise record.error("expected an object at `choices`")
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    if not isinstance(text, str):
        raise record.error("expected the answer: a string at `text`, or `message` with `content`")
    tokens = choice.get("token_ids") or []
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise record.error("`token_ids`: expected a list of integers")
    try:
        ended = has_ended(choice.get("finish_reason", "stop"))
    except DecodingError as error:
        return name, error
    return name, Written(text, ended, tuple(tokens))


class ImportedEngine(Engine):
    """Gives answers that are there already.

    Parameters
    ----------
    answers: by the id of the request. `lenient`: see `external.checked`.
    used: gets the ids of those that were asked for.
    """

    capabilities = Capabilities(log_probabilities=False)

    def __init__(
        self,
        *given: Any,
        answers: Mapping[str, Written | DecodingError],
        used: set[str],
        lenient: bool = False,
        **options: Any,
    ):
        super().__init__(*given, **options)
        self.answers = answers
        self.used = used
        self.lenient = lenient

    def _decode(self, requests: Requests) -> Iterator[Answered]:
        while (request := requests()) is not None:
            name = id_of(request)
            written = self.answers.get(name)
            self.used.add(name)
            if written is None:
                error = f"{request.name}: there is no answer to it (id {name})"
                yield request, DecodingError(error)
            elif isinstance(written, DecodingError):
                yield request, DecodingError(f"{request.name}: {written}")
            else:
                by, vocabulary = "who answered", self.model.vocabulary
                answer = checked(request, written, vocabulary, by=by, lenient=self.lenient)
                yield request, answer


def imported(
    answers: Mapping[str, Written | DecodingError], used: set[str], *, lenient: bool = False
) -> Chosen:
    """An engine that gives these; see there."""
    make = partial(ImportedEngine, answers=answers, used=used, lenient=lenient)
    return Chosen(make, ImportedEngine.capabilities, "import")


def read_answers(
    records: Iterator[JsonRecord | InputError],
) -> tuple[dict[str, Written | DecodingError], list[InputError]]:
    """Answers by the ids of their requests, and the records that are none."""
    answers: dict[str, Written | DecodingError] = {}
    broken: list[InputError] = []
    for record in records:
        try:
            if isinstance(record, InputError):
                raise record
            name, answer = answer_from_json(record)
        except InputError as error:
            broken.append(error)
        else:
            if not isinstance(answers.get(name), Written):  # a try that failed is none
                answers[name] = answer
            elif isinstance(answer, Written):
                broken.append(record.error(f"another answer to {name}: the first one counts"))
    return answers, broken
