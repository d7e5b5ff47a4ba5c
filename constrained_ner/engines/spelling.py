"""What the tokens of a tokenizer write, in bytes, and how a text is spelt with them.

A mask knows tokens by their bytes, and an answer has to be its text byte by byte. A tokenizer may
see a text differently: it normalises it, puts a space before it, or takes some of it for special
tokens. So bytes are read off the tokenizer's decoder, and answers are tokenised without all that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

from tokenizers import Tokenizer, normalizers

from constrained_ner.errors import ModelError

# Characters of a text that may begin with the rest of one.
_CHARACTERS = re.compile(rb"[\x80-\xbf]+|[^\x80-\xbf][\x80-\xbf]*")
_BYTE = re.compile("<0x([0-9A-F]{2})>")  # one byte, in SentencePiece's vocabularies


class Spelling:
    """The tokens of a tokenizer as bytes.

    Parameters
    ----------
    tokenizer: of transformers, a fast one.
    size: there are at least so many tokens.
    ends: tokens that end an answer, which write nothing if they are added to the vocabulary.

    Attributes
    ----------
    data: the bytes that each token writes; of a control token its name.
    control: ids of the tokens that write nothing: special ones, ends, one for what is unknown.
    added: ids of tokens that the tokenizer looks for before all others, and that are text.
    prefixes: the tokenizer puts a space before a text, as SentencePiece does, so that an answer's
        first token may write one that is no part of the answer.

    Raises
    ------
    ModelError: the tokenizer does not say which bytes its tokens write.
    """

    def __init__(self, tokenizer: Any, size: int, ends: Collection[int]):
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"the tokenizer cannot be used for masks: it is a {type(tokenizer).__name__}, "
                "expected a fast one (tokenizer.json)"
            )
        backend: Any = tokenizer.backend_tokenizer
        names = {token: name for name, token in backend.get_vocab(with_added_tokens=True).items()}
        added = backend.get_added_tokens_decoder()
        control = {token for token, of in added.items() if of.special or token in ends}
        control |= set(range(max(size, max(names) + 1))) - names.keys()
        name = getattr(backend.model, "unk_token", None)
        unknown = None if name is None else backend.token_to_id(name)
        if unknown is not None:
            control.add(unknown)
        self.control = frozenset(control)
        self.added = frozenset(added.keys() - control)
        writes = _Decoder(backend.decoder).bytes_of
        self.data = [
            names.get(token, f"<[{token}]>").encode()
            if token in control
            else writes(names[token], token in added)
            for token in range(max(size, max(names) + 1))
        ]
        # Of tokens that write the same the first one.
        self._tokens = {
            self.data[token]: token
            for token in reversed(range(len(self.data)))
            if token not in control
        }
        first = backend.encode("a", add_special_tokens=False).ids[:1]
        self.prefixes = self.written(first).startswith(b" ")
        self._backend = _exact(backend)
        self._spelt = lru_cache(4096)(self._search)

    def written(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self.data[token] for token in tokens)

    def tokenize(self, text: str, avoid: Collection[int] = ()) -> list[int]:
        """The tokenizer's own tokens for what is to be written exactly.

        Where it has none that write just this, they are found character by character; what no
        tokens can write is left out, see `first_unspellable`.

        Parameters
        ----------
        avoid: tokens not to use, beside `control`.
        """
        encoding = self._backend.encode(text, add_special_tokens=False)
        tokens: list[int] = encoding.ids
        good = self.control.isdisjoint(tokens) and not (avoid and set(avoid) & set(tokens))
        if good and self.written(tokens) == text.encode():
            return tokens
        return self._mended(text, encoding, self.control.union(avoid))

    def _mended(self, text: str, encoding: Any, avoid: Collection[int]) -> list[int]:
        data, found, at = text.encode(), list[int](), 0
        places = list(accumulate((len(char.encode()) for char in text), initial=0))
        for token, (_, end) in zip(encoding.ids, encoding.offsets, strict=True):
            piece = self.data[token]
            if token not in avoid and piece and data.startswith(piece, at):
                found.append(token)
                at += len(piece)
            elif places[end] > at:
                found += self._by_characters(data[at : places[end]])
                at = places[end]
        return [*found, *self._by_characters(data[at:])]

    def _by_characters(self, data: bytes) -> Iterator[int]:
        for match in _CHARACTERS.finditer(data):
            yield from self._spelt(match[0]) or ()

    def _search(self, data: bytes) -> tuple[int, ...] | None:
        """The fewest tokens that write a character; None where none do."""
        ways: list[tuple[int, ...] | None] = [()]
        for end in range(1, len(data) + 1):
            found = [
                (*before, token)
                for start, before in enumerate(ways)
                if before is not None and (token := self._tokens.get(data[start:end])) is not None
            ]
            ways.append(min(found, key=len, default=None))
        return ways[-1]

    def first_unspellable(self, text: str) -> int | None:
        """Offset of the first character that the tokens cannot write; None where they can.

        Each has to be writable by itself: a mask looks at what a token writes, and not at whether
        there is one for the rest of a word.
        """
        bad = {char for char in set(text) if self._spelt(char.encode()) is None}
        return next((at for at, char in enumerate(text) if char in bad), None) if bad else None


class _Decoder:
    """What a tokenizer's decoder makes of the name of a token."""

    def __init__(self, decoder: Any):
        parts = list(_parts(json.loads(decoder.__getstate__()))) if decoder is not None else []
        kinds = {part["type"] for part in parts}
        self._byte_level = "ByteLevel" in kinds
        self._fallback = "ByteFallback" in kinds
        self._space = " "
        for part in parts:
            if part["type"] == "Metaspace":
                self._space = part["replacement"]
            elif part["type"] == "Replace" and part["content"] == " ":
                self._space = part["pattern"].get("String", self._space)
        if not self._byte_level and not self._fallback and self._space == " ":
            raise ModelError(
                "the tokenizer cannot be used for masks: its decoder "
                f"({', '.join(sorted(kinds)) or 'none'}) does not say which bytes a token writes; "
                "expected one by bytes, or of SentencePiece"
            )

    def bytes_of(self, name: str, added: bool) -> bytes:
        if self._byte_level:
            # What is added is found in the text as it is, before bytes are made characters.
            if added or not all(char in _BYTES for char in name):
                return name.encode()
            return bytes(_BYTES[char] for char in name)
        if self._fallback and (byte := _BYTE.fullmatch(name)):
            return bytes([int(byte[1], 16)])
        return name.replace(self._space, " ").encode()


def _byte_characters() -> dict[str, int]:
    """The byte of each character that byte-level tokenizers write their names in (GPT-2's)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {
        chr(256 + i): byte for i, byte in enumerate(others)
    }


_BYTES = _byte_characters()


def _parts(component: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of a normalizer, a decoder and so on, of sequences in sequences, too."""
    of = next((component[key] for key in ("normalizers", "decoders") if key in component), None)
    if of is None:
        yield component
    for part in of or ():
        yield from _parts(part)


def _exact(backend: Any) -> Any:
    """A tokenizer that changes nothing of a text and sees no special tokens in it."""
    exact: Any = Tokenizer.from_str(backend.to_str())
    exact.no_padding()
    exact.no_truncation()
    exact.encode_special_tokens = True
    if exact.normalizer is not None:
        # Of normalizers only what makes spaces SentencePiece's stays.
        parts = _parts(json.loads(exact.normalizer.__getstate__()))
        spaces = [part for part in parts if part.get("pattern") == {"String": " "}]
        exact.normalizer = None
        if spaces:
            exact.normalizer = normalizers.Replace(" ", spaces[0]["content"])
    _without_prefix(exact.pre_tokenizer)
    return exact


def _without_prefix(pre_tokenizer: Any) -> None:
    """Have a pre-tokenizer put no space before a text."""
    if hasattr(pre_tokenizer, "add_prefix_space"):
        pre_tokenizer.add_prefix_space = False
    if hasattr(pre_tokenizer, "prepend_scheme"):
        pre_tokenizer.prepend_scheme = "never"
    if type(pre_tokenizer).__name__ == "Sequence":
        for part in pre_tokenizer:
            _without_prefix(part)
