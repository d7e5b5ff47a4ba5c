"""What the property tests draw: hostile texts, label sets, documents, and mutated answers.

Importing this module loads the hypothesis profile: no deadline, and the same examples in each
run, so that a run says something about the code alone. `CNER_HYPOTHESIS=explore` draws many new
ones instead.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from constrained_ner.documents import Document, Entity
from constrained_ner.formats import Feature, Format
from constrained_ner.formats.grammar import Level
from constrained_ner.words import Span, tokens, units

EXPLORE = os.environ.get("CNER_HYPOTHESIS") == "explore"


def examples(count: int) -> settings:
    """For tests that want more or fewer examples than the profile has."""
    return settings(max_examples=10 * count if EXPLORE else count)


settings.register_profile(
    "constrained_ner",
    max_examples=400 if EXPLORE else 25,
    deadline=None,
    derandomize=not EXPLORE,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("constrained_ner")

Case = tuple[Document, tuple[str, ...]]

# ---- texts

WORDS = (
    *("a", "b", "x", "BCL6", "CD28", "activated", "lymphocytes", "27", "_", "1", "O", "I", "is"),
    "e\u0301",  # a letter and a combining mark
    "\u0301",  # the mark by itself
    "\u0130",  # a capital letter that grows when it is lower-cased
    "\N{LATIN SMALL LETTER SHARP S}",
    "\N{LATIN SMALL LIGATURE FI}",
    "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{MICROSCOPE}",
    "\N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16}",
    "\N{HEBREW LETTER SHIN}\N{HEBREW LETTER LAMED}",
    "\N{RIGHT-TO-LEFT OVERRIDE}x",
    "\N{ARABIC-INDIC DIGIT THREE}",
    "\N{SUPERSCRIPT TWO}",
    "\N{CJK UNIFIED IDEOGRAPH-4E2D}\N{CJK UNIFIED IDEOGRAPH-6587}",
    "\N{MATHEMATICAL FRAKTUR CAPITAL A}",
    "\N{ZERO WIDTH SPACE}",
    "\N{ZERO WIDTH NO-BREAK SPACE}",
)
SPACES = (
    *(" ", " ", " ", "  ", "\t", "\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f"),
    *("\x85", "\xa0", "\u2028", "\u2029", "\u3000"),
)
DELIMITERS = (
    *("; is a; ", "; is a; protein", ";", "@@", "##", "@", "#", "@@@", "###", "-", "/", ".", "%20"),
    *("<protein>", "</protein>", "\\<protein>", "\\</protein>", "<protein", "</protein", "<x>"),
    *("</x>", "<x", "<", "</", ">", "<protein_", "</protein_", "\\", "\\\\", "\\n", "\\@@", "\\#"),
    *("[", "]", '"', "'", ",", '", "', '"]', '"}]', "{", "}", ": ", "(", ")", "|", "&", "~", "*"),
    *("```", '"""', "Answer:", "Answer: ", "Layer 1: O", "T1 protein 0 1 a", "B-protein", "O O"),
    *('entity_list.append({"text": "a"})', 'input_text = "a"', "{0,3}", "$", "^", "?", "+", "//"),
    *("\x00", "\x07", "\b", "\x1b", "\x7f", "\ufffd", "\ufdd0"),
)


def _visible(text: str) -> bool:
    return not text.isspace() and text != ""


@st.composite
def hostile_texts(draw: st.DrawFn) -> str:
    """Words, spaces and delimiters of the formats, thrown together."""
    pieces = draw(
        st.lists(
            st.one_of(st.sampled_from(WORDS), st.sampled_from(SPACES), st.sampled_from(DELIMITERS)),
            min_size=1,
            max_size=14,
        )
    )
    return "".join(pieces)


def texts() -> st.SearchStrategy[str]:
    """Texts with at least one character that is no white space."""
    few = st.lists(st.sampled_from(["a", "b", "a b", "c-a"]), min_size=1, max_size=9).map(" ".join)
    spaced = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)
    anything = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
    single = st.sampled_from(WORDS + DELIMITERS)
    return st.one_of(hostile_texts(), few, spaced, single, anything).filter(_visible)


# ---- labels

LABELS = (
    *("protein", "protein_x", "cell_type", "DNA", "x", "xy", "O", "B-x", "I", "T1", "0", "27 31"),
    *("cell type", "a/b", 'say "x"', "it's", "%20", "protein%20x", "%C3%28", "%zz", "back\\slash"),
    *("@@", "##", "<x>", "</x>", "a;b", "; is a; x", '", "', "]", "new\nline", "tab\tx", "\x01"),
    *("e\u0301", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\u0130", "\N{WOMAN}\N{ZERO WIDTH JOINER}"),
    *("\N{HEBREW LETTER SHIN}", "x\N{SUPERSCRIPT TWO}", "a\u2028b", "bell\bx", "```"),
)


def labels() -> st.SearchStrategy[str]:
    anything = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6).map(str.strip)
    return st.one_of(
        st.sampled_from(LABELS[:6]), st.sampled_from(LABELS), anything.filter(_visible)
    )


def label_sets(most: int = 4) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(labels(), min_size=1, max_size=most, unique=True).map(tuple)


# ---- documents


@st.composite
def documents(
    draw: st.DrawFn,
    label_set: Sequence[str],
    *,
    nested: bool = True,
    same_span: bool = True,
    crossing: bool = True,
    discontinuous: bool = True,
    boundaries: str = "word",
    words: str | None = None,
    most: int = 5,
) -> Document:
    """A text and entities in it, none of which begins or ends with white space.

    Parameters
    ----------
    label_set: the labels to choose from.
    nested, same_span, crossing, discontinuous: whether entities may be so.
    boundaries: the units that entities begin and end with: `word` or `character`.
    words: entities are made of whole multi_bio words instead: `space` or `fine`.
    most: the most entities.
    """
    text = draw(texts())
    pieces = units(text, boundaries) if words is None else tokens(text, words)
    solid = [(s, e) for s, e in pieces if not text[s:e].isspace()]
    entities: list[Entity] = []
    for _ in range(draw(st.integers(0, most))):
        parts = draw(st.integers(1, 3)) if discontinuous else 1
        ends = sorted(
            draw(
                st.lists(
                    st.integers(0, 2 * len(solid) - 1),
                    min_size=2 * parts,
                    max_size=2 * parts,
                )
            )
        )
        fragments: list[Span] = []
        for first, last in zip(ends[::2], ends[1::2], strict=True):
            start, end = solid[first // 2][0], solid[last // 2][1]
            if not fragments or start >= fragments[-1][1]:
                fragments.append((start, end))
        entity = Entity(draw(st.sampled_from(list(label_set))), tuple(fragments))
        if all(_together(entity, other, nested, same_span, crossing) for other in entities):
            entities.append(entity)
    return Document("d", text, tuple(entities))


def _together(a: Entity, b: Entity, nested: bool, same_span: bool, crossing: bool) -> bool:
    if a.end <= b.start or b.end <= a.start:
        return True
    if (a.start, a.end) == (b.start, b.end):
        return same_span
    inside = (a.start <= b.start and b.end <= a.end) or (b.start <= a.start and a.end <= b.end)
    return nested if inside else crossing


def json_values() -> st.SearchStrategy[Any]:
    """Any value that JSON has, but for NaN, which is not equal to itself."""
    simple = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False))
    text = st.one_of(hostile_texts(), st.text(max_size=4))
    return st.recursive(
        st.one_of(simple, text),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=4,
    )


def own_keys() -> st.SearchStrategy[dict[str, Any]]:
    """Keys of the user's own, with names that are ours, too."""
    ours = ("meta", "text", "id", "entities", "labels", "answers", "format", "level", "options")
    names = st.one_of(st.sampled_from(ours), st.text(max_size=3))
    return st.dictionaries(names, json_values(), max_size=4)


@st.composite
def raw_cases(draw: st.DrawFn, format: Format) -> Case:
    """A document and labels that the format may be asked for; not all entities need fit."""
    label_set = draw(label_sets(1 if format.one_label else 4))
    others = (*label_set, "not asked for")
    return draw(
        documents(others, boundaries=draw(st.sampled_from(["word", "character"])))
    ), label_set


@st.composite
def cases(draw: st.DrawFn, format: Format, level: Level = Level.FREE) -> Case:
    """A document and labels, the document holding only what the format can write."""
    label_set = draw(label_sets(1 if format.one_label else 4))
    document = draw(
        documents(
            label_set,
            same_span=Feature.SAME_SPAN in format.expresses,
            crossing=Feature.CROSSING in format.expresses,
            discontinuous=Feature.DISCONTINUOUS in format.expresses
            and (level is Level.FREE or format.options.max_fragments > 1),
            boundaries=draw(
                st.just(format.options.boundaries)
                if level is Level.FAITHFUL
                else st.sampled_from(["word", "character"])
            ),
            words=format.options.words if format.name == "multi_bio" else None,
        )
    )
    kept, _ = format.expressible(document, label_set, level)
    return Document(document.id, document.text, kept), label_set


# ---- answers


@st.composite
def mutations(draw: st.DrawFn, answer: str, pieces: Sequence[str] = ()) -> str:
    """The answer with a few characters or pieces inserted, deleted, replaced or swapped, or cut."""
    alphabet = st.one_of(
        st.sampled_from([*DELIMITERS, *SPACES, *WORDS, "0", "9", "-1", "B-", "I-", "T2 ", "\n"]),
        st.sampled_from([*pieces, "O"]),
        st.characters(codec="utf-8"),
    )
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(answer)))
        kind = draw(st.sampled_from(["insert", "delete", "replace", "repeat", "swap", "cut"]))
        length = draw(st.integers(1, 4))
        if kind == "insert":
            answer = answer[:at] + draw(alphabet) + answer[at:]
        elif kind == "delete":
            answer = answer[:at] + answer[at + length :]
        elif kind == "replace":
            answer = answer[:at] + draw(alphabet) + answer[at + length :]
        elif kind == "repeat":
            answer = answer[: at + length] + answer[at:]
        elif kind == "cut":
            answer = answer[:at]
        elif len(pieces) > 1:
            old, new = draw(st.sampled_from(pieces)), draw(st.sampled_from(pieces))
            answer = answer.replace(old, new, 1)
    return answer


def strings() -> st.SearchStrategy[str]:
    """Any string at all, lone surrogates included."""
    return st.one_of(st.text(max_size=40), hostile_texts())
