"""A server with OpenAI's interface on this machine: a tiny model under the masks asked for.

It can also behave as badly as servers do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import torch
from transformers import DynamicCache

from constrained_ner.engines.kv_cache import cache_argument
from constrained_ner.engines.matcher import matcher_of
from constrained_ner.engines.models import LoadedModel


@dataclass
class Loopback:
    """How the server behaves, and what it was asked.

    Attributes
    ----------
    key: of a request that may have a grammar; others are passed over.
    chat: it takes messages only. `tells`: it tells token ids and log-probabilities.
    ignores: it decodes freely, whatever it is asked for. `cuts`: after so many tokens.
    failures: statuses with which it answers first, one a request. `garbage`: what it says instead.
    delay: seconds that it waits. `lives`: how many requests it answers before it is killed.
    """

    model: LoadedModel
    key: str = "structured_outputs"
    chat: bool = False
    tells: bool = True
    ignores: bool = False
    cuts: int = 10_000
    failures: list[int] = field(default_factory=list)
    garbage: bytes | None = None
    delay: float = 0.0
    lives: int | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    lock: Lock = field(default_factory=Lock)

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        chat = path.endswith("/chat/completions")
        if chat != self.chat or not (chat or isinstance(body["prompt"], list)):
            return None
        source = body.get(self.key)
        if isinstance(source, dict):
            source = source.get("grammar")
        prompt = self.model.encode(body["messages"]) if chat else body["prompt"]
        tokens, logs, reason = self.written(prompt, source, min(body["max_tokens"], self.cuts))
        text = self.model.vocabulary.text_of(tokens)
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        if chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        if self.tells and not chat:
            choice["token_ids"] = tokens
            choice["logprobs"] = {"token_logprobs": logs}
        return {
            "id": "1",
            "object": "completion",
            "created": 0,
            "model": "tiny",
            "choices": [choice],
        }

    def written(
        self, prompt: list[int], source: str | None, limit: int
    ) -> tuple[list[int], list[float], str]:
        vocabulary = self.model.vocabulary
        matcher = None
        if source and not self.ignores:
            matcher = matcher_of(vocabulary.ll_tokenizer, source)
        tokens: list[int] = []
        logs: list[float] = []
        bare: Any = self.model.steerable.model
        block, cache = prompt, {cache_argument(bare): DynamicCache()}
        while len(tokens) < limit:
            with self.lock, torch.inference_mode():
                found = bare(torch.tensor([block]), use_cache=True, **cache)
            logits = found.logits[0, -1].float()
            if matcher is not None:
                masked = torch.full_like(logits, -torch.inf)
                allowed = torch.tensor(vocabulary.allowed(matcher))
                masked[allowed] = logits[allowed]
                logits = masked
            token = int(logits.argmax())
            tokens.append(token)
            block = [token]
            logs.append(float(logits.log_softmax(-1)[token]))
            if token in vocabulary.ends:
                return tokens, logs, "stop"
            if matcher is not None:
                matcher.consume_token(token)
        return tokens, logs, "length"


@contextmanager
def serving(behaviour: Loopback) -> Iterator[Loopback]:
    """The server, for as long as this lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.say(200, json.dumps({"object": "list", "data": [{"id": "tiny"}]}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            behaviour.asked.append({**body, "key": self.headers["Authorization"]})
            time.sleep(behaviour.delay)
            if behaviour.lives == 0:
                self.close_connection = True  # without a word
                return
            if behaviour.lives is not None:
                behaviour.lives -= 1
            if behaviour.failures:
                self.say(behaviour.failures.pop(0), b'{"error": {"message": "not now"}}')
            elif behaviour.garbage is not None:
                self.say(200, behaviour.garbage)
            else:
                answer = behaviour.answer(self.path, body)
                if answer is None:
                    self.say(404, b'{"error": {"message": "no such thing"}}')
                else:
                    self.say(200, json.dumps(answer).encode())

        def say(self, status: int, body: bytes) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                pass  # whoever asked has gone

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    behaviour.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield behaviour
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
