"""Any server with OpenAI's interface: vLLM, SGLang, llama.cpp's, Ollama and others.

Servers take grammars in different ways, some only JSON schemas, and some let pass what they do not
know and decode freely. So a server is tried once (`connect`): it is to write a word that no model
writes by itself, and the first way in which it does is the one that is used. Prompts go there as
token ids where that can be, since a chat template of the server's would take what reads like a
special token in a text for one. What comes back is held to the grammar in `external`.
"""

from __future__ import annotations

import math
import os
import random
import string
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from constrained_ner.engines.base import (
    Answer,
    Answered,
    Capabilities,
    Chosen,
    Engine,
    Request,
    Requests,
)
from constrained_ner.engines.external import Written, checked, has_ended, limit_of
from constrained_ner.engines.vocabulary import NO_FORCING
from constrained_ner.errors import (
    CnerError,
    DecodingError,
    MissingExtraError,
    ModelError,
    reason_of,
)

KEYS = ("CNER_API_KEY", "OPENAI_API_KEY")
_STRANGE = "does not answer as OpenAI's interface does: expected an address that goes up to /v1"
_GONE = (502, 503, 504)  # what a gateway says of a server that does not answer it
_BROKEN = (AttributeError, IndexError, TypeError, ValueError)  # what a strange answer gives rise to


class _Way(NamedTuple):
    """How a server takes a grammar: its name, and what goes into the body of a request."""

    name: str
    body: Callable[[str], dict[str, Any]]


_GRAMMAR_WAYS = (
    _Way("structured_outputs", lambda source: {"structured_outputs": {"grammar": source}}),  # vLLM
    _Way("grammar", lambda source: {"grammar": source}),  # llama.cpp
    _Way("ebnf", lambda source: {"ebnf": source}),  # SGLang
)


@dataclass(frozen=True)
class Server:
    """Where a server is, and how it is asked.

    Parameters
    ----------
    base_url: up to and including `/v1`.
    model: what it is called there; by default the only one that the server has.
    timeout: seconds that an answer may take. `retries`: of a request that failed, with pauses that
        grow, or are as long as the server says.
    lenient: read answers that leave the grammar as free ones, and mark them; else they are errors.
    """

    base_url: str
    model: str = ""
    timeout: float = 120.0
    retries: int = 5
    lenient: bool = False

    @cached_property
    def client(self) -> Any:
        try:
            from openai import OpenAI
        except ImportError:
            raise MissingExtraError("the engine openai", "openai") from None
        try:
            address = urlsplit(self.base_url)
            known = address.scheme in ("http", "https") and address.hostname
            _ = address.port
        except ValueError:
            known = False
        if not known:
            raise ModelError(
                f"--base-url {self.base_url!r}: expected an address such as http://localhost:8000/v1"
            )
        key = next(filter(None, map(os.environ.get, KEYS)), "none")
        return OpenAI(
            base_url=self.base_url, api_key=key, timeout=self.timeout, max_retries=self.retries
        )

    def hang_up(self) -> None:
        """End the requests that are out; the next one opens another connection."""
        client = vars(self).pop("client", None)
        if client is not None:
            client.close()


@dataclass(frozen=True)
class Connection:
    """A server that was tried.

    Attributes
    ----------
    model: what it calls it.
    way: how it takes grammars; None where it takes JSON schemas only.
    tokens: whether prompts go there as token ids; else as messages.
    log_probabilities: whether it tells those under the mask.
    """

    server: Server
    model: str
    way: _Way | None
    tokens: bool
    log_probabilities: bool

    @property
    def way_name(self) -> str:
        """How it is asked."""
        what = f"grammars in {self.way.name}" if self.way else "JSON schemas"
        return f"{what}, prompts as {'tokens' if self.tokens else 'messages'}"

    @property
    def engine(self) -> Chosen:
        """What makes engines that ask it."""
        capabilities = Capabilities(
            grammars=self.way is not None,
            log_probabilities=self.log_probabilities,
        )
        return Chosen(partial(ServerEngine, connection=self), capabilities, "openai")

    @property
    def name(self) -> str:
        return f"the server at {self.server.base_url}"


def connect(server: Server) -> Connection:
    """Find out what a server can do.

    Raises
    ------
    ModelError: it cannot be reached, has not the model, or applies neither grammars nor schemas.
    MissingExtraError: the package `openai` is not installed.
    """
    _ = server.client  # or the extra is missing
    model = server.model or _only_model(server)
    word = "".join(random.choices(string.ascii_lowercase, k=12))
    tried = []
    for tokens in (True, False):
        for way in _GRAMMAR_WAYS:
            asked = _Asked(f'{NO_FORCING}start: "{word}"', [1, 2, 3], _say("nothing"), 40)
            trial = Connection(server, model, way, tokens, True)
            written = _tried(trial, asked)
            if isinstance(written, Written) and written.text == word:
                return Connection(server, model, way, tokens, _are_masked(written, word))
            tried.append(f"{'completions' if tokens else 'chat'} with {way.name}: {_told(written)}")
    schema = {"type": "object", "properties": {"word": {"const": word}}, "required": ["word"]}
    trial = Connection(server, model, None, False, False)
    written = _tried(trial, _Asked(schema, [], _say("nothing"), 60))
    if isinstance(written, Written) and word in written.text:
        return trial
    tried.append(f"chat with a JSON schema: {_told(written)}")
    raise ModelError(
        f"{trial.name} applies no grammar: it was asked for a certain word under a grammar, and "
        f"wrote others. Expected vLLM with `--structured-outputs-config.backend guidance`, SGLang "
        f"with `--grammar-backend llguidance`, llama.cpp built with LLAMA_LLGUIDANCE, or JSON "
        f"schemas. Tried: {'; '.join(tried)}"
    )


def _are_masked(written: Written, word: str) -> bool:
    """Whether log-probabilities are those under the mask.

    Under it no more tokens can come next than the word has beginnings, and the likeliest is taken;
    by the model alone each letter of such a word is far less likely.
    """
    logs = written.log_probabilities  # none of a server that does not tell one of them
    # Without the tokens it is not known what they are of.
    return bool(written.tokens and logs) and min(logs) >= -math.log(len(word))


def _say(word: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Say {word}."}]


def _only_model(server: Server) -> str:
    import openai

    try:
        names = [str(model.id) for model in server.client.models.list().data]
    except openai.APIError as error:
        raise ModelError(f"the server at {server.base_url}: {_reason(error)}") from None
    except _BROKEN:
        raise ModelError(f"the server at {server.base_url} {_STRANGE}") from None
    if len(names) != 1:
        raise ModelError(
            f"the server at {server.base_url} has the models {', '.join(names) or 'none'}: "
            "expected --served-model"
        )
    return str(names[0])


class _Asked(NamedTuple):
    """What a server is asked.

    Attributes
    ----------
    constraint: the source of a grammar, a JSON schema, or None.
    limit: the most tokens of the answer.
    """

    constraint: str | dict[str, Any] | None
    prompt: list[int]
    messages: list[dict[str, str]]
    limit: int


def _tried(connection: Connection, asked: _Asked) -> Written | str:
    """What a server wrote, or why it did not."""
    import openai

    try:
        return _ask(connection, asked)
    except (openai.APIStatusError, DecodingError, ValueError) as error:
        if getattr(error, "status_code", None) in (401, 403):
            raise ModelError(f"{connection.name}: {_reason(error)}") from None
        return _reason(error)
    except openai.APIConnectionError as error:
        # Some go down with a grammar that they do not know: llama-cpp-python's.
        asked_for = f"a grammar in {connection.way.name}" if connection.way else "a JSON schema"
        raise ModelError(
            f"{connection.name} cannot be reached: {_reason(error)}. It was asked for {asked_for}"
        ) from None


def _ask(connection: Connection, asked: _Asked) -> Written:
    """One request, tried again as often as the server's settings say."""
    client = connection.server.client
    body: dict[str, Any] = {}
    if isinstance(asked.constraint, str) and connection.way is not None:
        body = connection.way.body(asked.constraint)
    elif asked.constraint is not None:
        schema = {"name": "answer", "schema": asked.constraint, "strict": True}
        body = {"response_format": {"type": "json_schema", "json_schema": schema}}
    options = {"model": connection.model, "max_tokens": asked.limit, "temperature": 0.0}
    if connection.tokens:
        logs = {"logprobs": 0} if connection.log_probabilities else {}
        body["return_token_ids"] = True  # vLLM's; others pass it over
        answer = client.completions.create(prompt=asked.prompt, extra_body=body, **options, **logs)
    else:
        answer = client.chat.completions.create(messages=asked.messages, extra_body=body, **options)
    try:
        choice = answer.choices[0]
        text = choice.text if connection.tokens else choice.message.content
        if not isinstance(text, str):
            raise TypeError
        return Written(
            text,
            has_ended(choice.finish_reason),
            tuple(getattr(choice, "token_ids", None) or ()),
            _logs_of(choice),
        )
    except _BROKEN:
        raise DecodingError(_STRANGE) from None


def _logs_of(choice: Any) -> tuple[float, ...]:
    """Log-probabilities of the tokens; none where one of them is not told."""
    found = getattr(getattr(choice, "logprobs", None), "token_logprobs", None) or ()
    return tuple(found) if all(isinstance(one, int | float) for one in found) else ()


def _told(written: Written | str) -> str:
    return written if isinstance(written, str) else f"it wrote {written.text[:30]!r}"


def _reason(error: Exception) -> str:
    """What an error says, on one line, without the body that some servers repeat in it."""
    cause = error.__cause__
    return reason_of(error) if cause is None else f"{reason_of(error)} ({reason_of(cause)})"


class ServerEngine(Engine):
    """See the module.

    Parameters
    ----------
    model: whose tokens and chat template the server's model has.
    rows: how many requests are sent at a time.
    """

    def __init__(self, *given: Any, connection: Connection, **options: Any):
        super().__init__(*given, **options)
        self.connection = connection

    def _decode(self, requests: Requests) -> Iterator[Answered]:
        asked: dict[Future[Written], Request] = {}
        pool = ThreadPoolExecutor(self.rows, "cner-server")
        try:
            while True:
                while len(asked) < self.rows and (request := requests()) is not None:
                    asked[pool.submit(self._ask, request)] = request
                if not asked:
                    return
                for future in wait(asked, return_when=FIRST_COMPLETED).done:
                    request = asked.pop(future)
                    yield request, self._outcome(request, future)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            if asked:  # and nobody waits for them: else Python would, when it ends
                self.connection.server.hang_up()

    def _ask(self, request: Request) -> Written:
        grammar = request.grammar
        constraint: str | dict[str, Any] | None = request.schema
        if grammar is not None:
            constraint = self.model.vocabulary.source_of(grammar)
        asked = _Asked(constraint, request.prompt, [*request.messages], limit_of(request))
        return _ask(self.connection, asked)

    def _outcome(self, request: Request, future: Future[Written]) -> Answer | CnerError:
        """The answer, held to its grammar.

        Raises
        ------
        ModelError: the server is gone, or refuses everybody.
        """
        import openai

        name = self.connection.name
        try:
            written = future.result()
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ModelError(f"{name}: {_reason(error)}") from None
        except openai.APITimeoutError:
            server = self.connection.server
            within = f"within {server.timeout:g} s, asked {server.retries + 1} times"
            return DecodingError(f"{request.name}: {name} did not answer {within}")
        except openai.APIConnectionError as error:
            raise ModelError(f"{name} cannot be reached any more: {_reason(error)}") from None
        except openai.InternalServerError as error:
            if error.status_code in _GONE:
                raise ModelError(f"{name} is gone: {_reason(error)}") from None
            return DecodingError(f"{request.name}: {name}: {_reason(error)}")
        except (openai.APIError, DecodingError, ValueError) as error:
            return DecodingError(f"{request.name}: {name}: {_reason(error)}")
        self.costs.calls += 1
        answer = checked(
            request,
            written,
            self.model.vocabulary,
            by=name,
            lenient=self.connection.server.lenient,
        )
        if isinstance(answer, Answer):
            self.costs.tokens += len(answer.tokens)
        return answer
