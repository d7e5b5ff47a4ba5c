"""What is a heading in a note, and which headings say nothing of what is found below them."""

from __future__ import annotations

import re

HEADING_WORDS = 8

# A key with its value behind it, or the head of what stands on the next lines.
KEY = re.compile(r"[A-Z][^\s:]*(?:[^\S\n\r][^\s:]+){0,4}:(?=\s|$)")
_WITH_COLON = re.compile(r"[A-Z][^\s:]*(?:[^\S\n\r][^\s:]+){0,5}:$")
# Without a small letter, and with two capitals side by side. The first part takes what no pair
# begins with, and gives nothing back: else a long line would take a time with its square.
CAPITALS = re.compile(r"(?:[^a-zA-Z]|[A-Z](?![A-Z]))*+[A-Z]{2}[^a-z]*")
# So ends a sentence, and no heading: `IV CKD.`
_CLOSED = re.compile(r"[.;,]$")
# With the digits behind it: P53, S-100 and E2 are no words of headings, but P, S and E are.
_WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:['’.][^\W\d_]+)*(?:-?\d[\w-]*)?")
_LINKS = frozenset(
    ["a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "or", "so", "the", "to", "with"]
)
# `He was given the following:` is a sentence that goes on in a list.
_OF_SENTENCES = frozenset(
    ["are", "be", "been", "following", "follows", "had", "has", "have", "is", "was", "were"]
)
# None of them names what is looked for. `PE`, which may be an embolism, is not among them.
_WORDS_OF_HEADINGS = """
addendum additional administered admission admitting age aim aims allergies allergy anaesthesia
anaesthetist anesthesia ap appearance arrival assessment attending background behavior behaviour
bloods case cc chief clinic clinical collected comment comments comparison complaint complaints
complications conclusion conclusions condition consent consult consultant consultation contact
course current cxr data date day dd ddx department description design details developmental
diagnoses diagnosis dictated differential discharge discharged discussion disposition dob dose
drug drugs dx e ecg ed emergency encounter evaluation event events exam examination examinations
family fhx final finding findings follow followup formulation gender general genetics gross habits
history home hospital hospitalisation hospitalization hpi hx icu imaging immunisation
immunisations immunization immunizations immunohistochemistry imp impression indication
indications info information initial insight instruction instructions interpretation interval
intervention interventions introduction investigation investigations lab labor laboratory labs
last lifestyle list location macroscopic main management measurements medical medication
medications medicines meds mental method methods microscopic mood mrn name new night note notes
nursing o objective objectives obs observation observations occupation operation operations
op operative other outcome outcomes outpatient overnight p page past patient patients personal
physical physician plan plans pmh pmhx post pre postoperative preoperative presentation presenting
previous primary principal prior problem problems procedure procedures progress provider psh pshx
psychiatric purpose radiology reason recommendation recommendations referral regular report result
results review reviewed ros rounds rx s sample secondary service setting sex shift shx sign
signature signed signs social specimen specimens speech state status steps studies study subject
subjective suggestions summary surgeon surgical system systems technique test tests therapies
therapy time today treatment treatments triage tx up update visit vital vitals ward
"""
_USUAL = frozenset(_WORDS_OF_HEADINGS.split())
_KNOWN = _LINKS | _USUAL


def is_heading(line: str, *, capitals: bool) -> bool:
    """Whether a line is nothing but a heading.

    It ends with a colon, or is in capitals with one of the usual words of headings (`OPERATION
    NOTE`; `COPD` is an entry of a list), or has no other words than these.

    Parameters
    ----------
    line: without white space around it.
    capitals: whether all around it is in capitals, which say nothing then.
    """
    if len(line.split()) > HEADING_WORDS:
        return False
    if _WITH_COLON.fullmatch(line):
        return not _of_a_sentence(line)
    if ":" in line or _CLOSED.search(line):
        return False
    if says_nothing(line):
        return True
    return not capitals and bool(CAPITALS.fullmatch(line)) and not _USUAL.isdisjoint(_words(line))


def key_of(sentence: str) -> str:
    """The key that a sentence begins with, its colon included; empty if there is none.

    It is one word, or words in capitals, or the usual ones of headings; of others it is a sentence
    with a colon.
    """
    match = KEY.match(sentence)
    if match and (" " not in match[0] or CAPITALS.fullmatch(match[0]) or says_nothing(match[0])):
        return match[0]
    return ""


def says_nothing(heading: str) -> bool:
    """Whether all words of a heading, key or cell are the usual ones: nobody asks about it then."""
    words = _words(heading)
    return heading[:1].isupper() and not words <= _LINKS and words <= _KNOWN


def _words(line: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(line)}


def _of_a_sentence(line: str) -> bool:
    return not _OF_SENTENCES.isdisjoint(line.removesuffix(":").casefold().split())
