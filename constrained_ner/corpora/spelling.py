"""Whether two surfaces are the same but for their spelling.

Files often give the text of a mention in ASCII, in lower case or cut into tokens: `TNF-a` for
`TNF-α`, `SARS CoV 2` for `SARS‐CoV‐2`, `IL - 2` for `IL-2`.
"""

from __future__ import annotations

import re
import unicodedata

# Single quotes of all kinds are written `'`, double ones `''`.
_QUOTES = str.maketrans(dict.fromkeys("‘’‚‛`´′ʹʻʼ", "'") | dict.fromkeys('"“”„‟″«»', "''"))
_INNER_GAPS = re.compile(r"(?<=[^\s-])[\s-]+(?=[^\s-])")
# What else a letter is written as, besides what `_ascii_forms` knows of all Greek letters.
_OTHER_FORMS = {
    "ß": ("ss", "b", "beta"),  # a sharp s often stands for a beta
    "λ": ("lambda",),  # Unicode's name for it is LAMDA
    "μ": ("u",),
    "χ": ("x",),
    "ω": ("w",),
    "æ": ("ae",),
    "œ": ("oe",),
    "ø": ("o", "oe"),
    "đ": ("d",),
    "ł": ("l",),
    "×": ("x", "*"),
}


def spelled_alike(one: str, other: str) -> bool:
    """Whether two surfaces differ in spelling at most.

    No difference is made by case, accents, the kinds of quotes and hyphens, white space and hyphens
    inside, invisible characters, and letters that are spelled in ASCII (a Greek letter by its name
    or by the first letter of its name).
    """
    one, other = _folded(one), _folded(other)
    return one == other or _spells(one, other) or _spells(other, one)


def _folded(surface: str) -> str:
    """Without case, accents and invisible characters, and without gaps between words.

    A hyphen at the edge stays: `IL2-` with offsets that are off by one must not pass for `IL2`.
    """
    decomposed = unicodedata.normalize("NFKD", surface.translate(_QUOTES)).lower()
    kept = "".join(map(_plain, decomposed))
    return "".join(_INNER_GAPS.sub("", kept).split())


def _plain(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Mn", "Cf"):  # accents; characters that are not seen, such as soft hyphens
        return ""
    return "-" if category == "Pd" or character == "\N{MINUS SIGN}" else character


def _spells(original: str, ascii_form: str) -> bool:
    """Whether `ascii_form` is `original` with other letters for those that ASCII has not."""
    if original.isascii():
        return False
    ends = {0}  # where in `ascii_form` what was looked at so far may end
    for character in original:
        forms = (character, *_ascii_forms(character))
        ends = {at + len(f) for at in ends for f in forms if ascii_form.startswith(f, at)}
    return len(ascii_form) in ends


def _ascii_forms(character: str) -> tuple[str, ...]:
    name = unicodedata.name(character, "").split()
    greek = name[:1] == ["GREEK"] and "LETTER" in name
    letter = name[-1].lower() if greek else ""
    return (*((letter, letter[0]) if letter else ()), *_OTHER_FORMS.get(character, ()))
