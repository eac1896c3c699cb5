"""English phrases from an emoji's short name and the colours of its drawing.

The rules for articles and plurals are rules of thumb for short noun phrases, such as the names in
Unicode CLDR.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from datasets.colours import COLOUR_NAMES

_TONE = re.compile(r"\b(medium-light|medium-dark|light|medium|dark) skin tone\b")
_PEOPLE = "(?:man|men|woman|women|person|people|boy|girl|adult|child|children)"
_GROUP = re.compile(rf"(family|kiss|couple with heart) ({_PEOPLE}(?: {_PEOPLE})*)")
_HAIR = re.compile(r"(man|woman|person) (blond hair|red hair|curly hair|white hair|beard)(.*)")
_HEAD_END = re.compile(
    r" (?:with|of|in|on|facing|and|over|at|behind|for|from|to|under|holding|blowing|showing) "
)
_MASS = frozenset(
    "bacon badminton bald bread broccoli butter camping cheese coral dizzy dna fire fog garlic "
    "hair honey ice information lacrosse luggage milk money parking poultry rice sake salt "
    "scorpius soap softball spaghetti sushi sweat tea tennis volleyball wood yarn".split()
)
_SINGULAR_S = ("ss", "us", "is", "os", "arts")
_PLURALS = frozenset({"men", "women", "people", "children", "feet", "teeth"})
_PROPER = frozenset(
    "Aquarius Aries Cancer Capricorn Gemini Leo Libra Ophiuchus Pisces Sagittarius Scorpio Taurus "
    "Virgo Mrs. Mx Santa England Scotland Wales ZZZ".split()
)
_THE_COUNTRY = re.compile(
    r"(United |European |Democratic |Central African )|.*(Islands|Emirates|Republic|Territory|"
    r"Territories|Nations|Union|Netherlands|Philippines|Bahamas|Maldives|Gambia|Comoros)$"
)


def clean_name(shortcode: str) -> str:
    """':artist_medium-light_skin_tone:' -> 'artist with medium-light skin tone'."""
    text = shortcode.strip(":").replace("_", " ").strip()
    plain = re.sub(r"\s+", " ", _TONE.sub("", text)).strip()
    if not plain:  # the name is a skin tone alone
        return text
    tones, text = _TONE.findall(text), plain
    additions = []
    if match := _GROUP.fullmatch(text):
        text = f"{match[1].split(' with ')[0]} of {_enumerate(match[2].split())}"
        additions += ["a heart"] if match[1].endswith("heart") else []
    elif match := _HAIR.fullmatch(text):
        text, hair = match[1] + match[3], match[2]
        additions.append("a beard" if hair == "beard" else hair)
    elif match := re.fullmatch(r"(man|woman|person) bald", text):
        text = f"bald {match[1]}"
    if tones:
        distinct = list(dict.fromkeys(tones))
        additions.insert(
            0, f"{_enumerate(distinct)} skin tone" + ("s" if len(distinct) > 1 else "")
        )
    joiner = " and " if " with " in text else " with "
    return text + joiner + _enumerate(additions) if additions else text


def flag_names(country: str) -> list[str]:
    """'Germany' -> ['flag of Germany', 'Germany flag']."""
    the = "the " if _THE_COUNTRY.match(country) else ""
    return [f"flag of {the}{country}", f"{country} flag"]


def with_article(name: str) -> str:
    """'apple' -> 'an apple'; plurals, mass nouns and proper names stay as they are."""
    first = name.split()[0]
    head = _HEAD_END.split(name)[0].split()[-1].lower()
    if first in _PROPER or first in _PLURALS | {"no", "two"} or head in _MASS or head in _PLURALS:
        return name
    if first == "flag" and name.startswith("flag of "):
        return f"the {name}"
    plural = head.endswith("s") and not head.endswith(_SINGULAR_S)
    return name if plural else f"{_article(first)} {name}"


def colour_phrases(name: str, colours: Sequence[str]) -> list[str]:
    """Captions with the colours of a drawing.

    ('red apple', ['red', 'green']) ->
    ['a red and green icon of an apple', 'an apple drawn in red and green'].
    """
    if not colours:
        return [f"an icon of {with_article(name)}"]
    words = " and ".join(colours)
    noun = with_article(_without(name, colours))
    return [f"{_article(words)} {words} icon of {noun}", f"{noun} drawn in {words}"]


def _without(name: str, colours: Sequence[str]) -> str:
    """The name without a first word that is one of the colours: 'red heart' -> 'heart'."""
    first, _, rest = name.partition(" ")
    repeated = set(" ".join(colours).split()) & set(" ".join(COLOUR_NAMES).split())
    return rest if first in repeated and rest and not rest.startswith("and ") else name


def _article(word: str) -> str:
    """'a' or 'an', by the sound of the word's first letters."""
    if word.lower().startswith("x-"):
        return "an"
    first = re.split(r"[\s-]", word)[0]
    if re.fullmatch(r"[A-Z]{1,3}", first) and first not in ("UP", "TOP", "NEW", "END", "ON"):
        return "an" if first[0] in "AEFHILMNORSX" else "a"  # an acronym is read letter by letter
    lower = first.lower()
    if lower.startswith(("uni", "eu", "one", "use", "uku", "ufo")):
        return "a"
    if re.fullmatch(r"(8\d*|11|18)(\D.*)?", lower):
        return "an"
    return "an" if lower.startswith(("a", "e", "i", "o", "u", "hour", "honest")) else "a"


def _enumerate(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
