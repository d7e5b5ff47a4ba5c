"""Hostile texts, labels, options and models: what the laws and `always_parses` draw from."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch

from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import GrammarError
from constrained_ner.formats import FORMATS, Format, Options, get_format
from constrained_ner.formats.grammar import Grammar, Level

PIECES = [
    *("left", "right", "knee", "pain", "CD28", "IL-2", "colon", "cancer", "a", "B6", "x"),
    *(" ", " ", " ", " ", "-", "/", ".", ",", ";", "(", ")", "  ", "\n", "\r\n", "\t", "\u2028"),
    *('"', "\\", "'", "`", "```", "[", "]", "{", "}", "<", ">", "@", "#", "@@", "##", "; is a; "),
    *("<gene>", "</gene>", "\\<gene>", "\\@@", "é", "e\u0301", "İ", "α", "β", "😀", "👩\u200d🔬"),
    *("\u200b", "\u202e", "שלום", "مرحبا", "\x07", "\x1f", "0", "1", "42", "Layer 1: O", "T1 gene"),
]
LABELS = [
    *("gene", "finding", "gene_product", "cell type", "a/b", 'say "x"', "50%", "%20", "O", "B-x"),
    *("<gene>", "Größe", "蛋白", "a;b", "back\\slash", "#", "@@", "]"),
]


# Few sets, since lark builds a parser for each.
LABEL_SETS = [(label,) for label in LABELS] + [
    tuple(random.Random(i).sample(LABELS, 2 + i % 4)) for i in range(16)
]


# Sets of many labels, and of long ones: where they become slugs, up to 12 bytes a character.
MANY = [tuple(f"label {i}" for i in range(count)) for count in (40, 150)]
LONG = ["😀" * 20, "蛋白質" * 20, "x" * 150, "<" * 40]


def draw_text(rng: random.Random) -> str:
    while True:
        text = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 14)))
        if text.strip():
            return text


Drawn = tuple[str, tuple[str, ...]]  # a text, labels


def plain(rng: random.Random, one_label: bool) -> Drawn:
    sets = LABEL_SETS[: len(LABELS)] if one_label else LABEL_SETS[12:]
    return draw_text(rng), rng.choice(sets)


def with_inside(rng: random.Random, one_label: bool, middle: str) -> Drawn:
    text, labels = plain(rng, one_label)
    at = rng.randint(0, len(text))
    return text[:at] + middle + text[at:], labels


def long_word(rng: random.Random, one_label: bool) -> Drawn:
    letters = rng.choice(["ACGT", "MKVLAGETWY", "蛋白質", "x"])
    middle = "".join(rng.choices(letters, k=rng.randint(200, 1500)))
    return with_inside(rng, one_label, middle)


def white_space(rng: random.Random, one_label: bool) -> Drawn:
    return with_inside(rng, one_label, rng.choice([" ", "\t", "\n", " \t"]) * rng.randint(30, 300))


def repeats(rng: random.Random, one_label: bool) -> Drawn:
    some = [draw_text(rng), "a", "a b", "knee,", "left knee", "x\tx"]
    text = " ".join([rng.choice(some)] * rng.randint(10, 120))[:400]
    return text, plain(rng, one_label)[1]


def many_labels(rng: random.Random, one_label: bool) -> Drawn:
    text, labels = plain(rng, one_label)
    return text, labels if one_label else rng.choice(MANY)


def long_labels(rng: random.Random, one_label: bool) -> Drawn:
    text, _ = plain(rng, one_label)
    return text, tuple(rng.sample(LONG, 1 if one_label else rng.randint(1, 3)))


def runs(rng: random.Random, one_label: bool) -> Drawn:
    """A piece may end behind each character: a fragment could go on for long."""
    run = rng.choice(["\N{BULLET}", ".", "+-", "，。", "发热，", "a ."]) * rng.randint(20, 150)
    return with_inside(rng, one_label, run)


def special_tokens(rng: random.Random, one_label: bool) -> Drawn:
    """What reads like a token that ends answers, or pads them, and is text."""
    return with_inside(rng, one_label, rng.choice(["<end>", "<pad>"]) * rng.randint(1, 12))


Kind = Callable[[random.Random, bool], Drawn]
# With how often each is drawn. Long answers take long.
KINDS: dict[str, tuple[Kind, int]] = {
    "plain": (plain, 60),
    "no room": (plain, 15),  # a budget of the shortest answer, or a token or two more
    "long word": (long_word, 2),
    "white space": (white_space, 5),
    "repeats": (repeats, 6),
    "runs": (runs, 4),
    "special tokens": (special_tokens, 3),
    "about the bound": (plain, 8),  # a budget within which an item can just be closed
    "many labels": (many_labels, 4),
    "long labels": (long_labels, 8),
}


@dataclass(frozen=True)
class Task:
    """One answer to decode."""

    format: Format
    level: Level
    text: str
    labels: tuple[str, ...]
    grammar: Grammar
    kind: str = "plain"


def draw_task(rng: random.Random, name: str, kind: str = "plain") -> Task:
    level = rng.choice([Level.SYNTAX, Level.FAITHFUL])
    fragments = rng.choice([1, 1, 1, 2, 3])
    while True:
        text, labels = KINDS[kind][0](rng, FORMATS[name].one_label)
        solid = len([unit for unit in text.split() if unit])
        options = Options(
            boundaries=rng.choice(["word", "word", "character"]),
            max_fragments=fragments if name != "multi_brat" or solid >= 3 else 1,
            anchor=rng.choice(["surface", "offsets"]),
            words=rng.choice(["space", "fine"]),
        )
        format = get_format(name, options)
        try:
            return Task(format, level, text, labels, format.grammar(text, labels, level), kind)
        except GrammarError as error:
            if "too long" not in str(error):
                raise


Mind = Callable[[torch.Generator, int], torch.Tensor]


def minds(vocabulary: Vocabulary) -> dict[str, Mind]:
    """Sources of logits, [vocabulary], for one step of one row."""
    pieces = [vocabulary.bytes_of([i]) for i in range(vocabulary.ll_tokenizer.vocab_size)]

    def bias(wanted: Callable[[bytes], bool], strength: float) -> torch.Tensor:
        found = torch.tensor([strength * wanted(piece) for piece in pieces])
        return found[: vocabulary.size]

    opens = bias(lambda p: any(c in p for c in b"{[,<@B\n;") and b"</" not in p, 6.0)
    closes = bias(lambda p: any(c in p for c in b']}"#`>') or b"</" in p or p == b"\n", -8.0)
    ends = torch.zeros(vocabulary.size)
    ends[list(vocabulary.ends)] = -30.0
    digits = bias(lambda p: p.isdigit(), 6.0)
    long = torch.tensor([float(len(piece)) for piece in pieces])[: vocabulary.size]

    same = torch.randn(vocabulary.size, generator=torch.Generator().manual_seed(1)) * 5

    def noise(rng: torch.Generator) -> torch.Tensor:
        return torch.randn(vocabulary.size, generator=rng)

    return {
        "uniform": lambda rng, step: torch.rand(vocabulary.size, generator=rng) * 1e-3,
        "opens": lambda rng, step: noise(rng) + opens + ends,
        "never closes": lambda rng, step: noise(rng) + closes + ends,
        "digits": lambda rng, step: noise(rng) + digits + ends,
        "long tokens": lambda rng, step: noise(rng) + long + ends,
        "eager to end": lambda rng, step: noise(rng) - ends,
        "the same again": lambda rng, step: noise(rng) + same + ends,
    }
