"""From a transcript to pronunciations: the CMU dictionary, numbers, and rules for unknown words.

    pronounced("It costs $20, Zorblax!") -> Text(words=(("IH T",), ..., ("Z AO R B ...",)), ...)

The dictionary (134,000 words) comes with pocketsphinx. A name or a rare word that it lacks is
spelled out by letter-to-sound rules: often a little wrong, but seldom in what the lips do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Pronunciations = tuple[str, ...]
"""What one word may sound like: phones of the CMU dictionary, separated by blanks."""

_SMALL: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS: Final = (
    *("zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"),
)
_SCALES: Final = ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand"))
_SIGNS: Final = {"&": " and ", "%": " percent ", "+": " plus ", "@": " at ", "=": " equals "}
_MOST_VARIANTS: Final = 4

# Longest spelling first at each place of a word; after Elovitz et al., "Letter-to-sound rules
# for automatic translation of English text to phonetics" (1976), cut down to what shows.
_SPELLINGS: Final = """
tion = SH AH N; sion = ZH AH N; ough = AO; augh = AO; eigh = EY; igh = AY; tch = CH
sch = SH; dge = JH; eau = OW; ing = IH NG; ch = CH; sh = SH; th = TH; ph = F; wh = W
gh = G; ck = K; ng = NG; kn = N; wr = R; qu = K W; gn = N; mb = M; sc = S K; ts = T S
ee = IY; ea = IY; oo = UW; ou = AW; ow = OW; oi = OY; oy = OY; ai = EY; ay = EY; au = AO
aw = AO; ei = EY; ey = IY; ie = IY; oa = OW; ue = UW; ui = UW; eu = Y UW; ew = UW
ar = AA R; er = ER; ir = ER; or = AO R; ur = ER; ll = L; ss = S; tt = T; nn = N; mm = M
pp = P; bb = B; dd = D; ff = F; gg = G; rr = R; zz = Z; cc = K; a = AE; b = B; c = K; d = D
e = EH; f = F; g = G; h = HH; i = IH; j = JH; k = K; l = L; m = M; n = N; o = AA; p = P
q = K; r = R; s = S; t = T; u = AH; v = V; w = W; x = K S; y = IY; z = Z
"""
_SOUNDS: Final[dict[str, str]] = dict(re.findall(r"(\w+) = ([A-Z ]+)", _SPELLINGS))
_LONG_VOWEL: Final = {"a": "EY", "e": "IY", "i": "AY", "o": "OW", "u": "UW", "y": "AY"}
# (spellings, what must stand before, what after, sound); "" stands for the long vowel.
_IN_CONTEXT: Final = (
    ("e", "[aeiouy]", "$", " "),
    ("[aeiouy]", "", "[bcdfghjklmnpqrstvwz]e$", ""),
    ("s?c", "", "[eiy]", "S"),
    ("g", "", "[eiy]", "JH"),
    ("y", "^$", "", "Y"),
    ("mb", "", "[^s]", "M B"),
)
_LONGEST_SPELLING: Final = max(map(len, _SOUNDS))


@dataclass(frozen=True)
class Text:
    """A transcript ready to be aligned: its pronunciations, and the words guessed, in order."""

    words: tuple[Pronunciations, ...]
    unknown: tuple[str, ...]


def pronounced(transcript: str) -> Text:
    """Return how a transcript's words are said; words of other scripts count as unknown."""
    said = list(_words(transcript))
    dictionary = dictionary_words({form for word in said for form in (word, _owner(word))})
    words: list[Pronunciations] = []
    unknown: list[str] = []
    for word in said:
        known = dictionary.get(word) or dictionary.get(_owner(word))
        if known is not None:
            words.append(known if word in dictionary else tuple(f"{way} Z" for way in known))
            continue
        unknown.append(word)
        spelled = spelled_out(word)
        if spelled:
            words.append((spelled,))
    return Text(tuple(words), tuple(unknown))


def dictionary_words(wanted: Collection[str] | None = None) -> Mapping[str, Pronunciations]:
    """Return the wanted words that pocketsphinx' dictionary has, or all of it (some 50 MB).

    Raises `ImportError` where pocketsphinx is not installed.
    """
    from pocketsphinx import get_model_path  # noqa: PLC0415  # Slow to load; optional.

    path = Path(get_model_path()) / "en-us" / "cmudict-en-us.dict"
    ways: dict[str, list[str]] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            entry, _, phones = line.rstrip("\n").partition(" ")
            word = entry.partition("(")[0]
            if word and (wanted is None or word in wanted):
                ways.setdefault(word, []).append(phones)
    return {word: tuple(found[:_MOST_VARIANTS]) for word, found in ways.items()}


def spelled_out(word: str) -> str:
    """Return the phones of a word by letter-to-sound rules; empty if it has no Latin letters."""
    letters = re.sub(r"[^a-z]", "", word)
    phones: list[str] = []
    at = 0
    while at < len(letters):
        spelling = next(
            letters[at : at + size]
            for size in range(_LONGEST_SPELLING, 0, -1)
            if letters[at : at + size] in _SOUNDS
        )
        phones += _sound_of(letters, at, spelling).split()
        at += len(spelling)
    return " ".join(phones)


def _sound_of(letters: str, at: int, spelling: str) -> str:
    """Return what a spelling sounds like where it stands."""
    before, after = letters[:at], letters[at + len(spelling) :]
    for spellings, wanted_before, wanted_after, sound in _IN_CONTEXT:
        if (
            re.fullmatch(spellings, spelling)
            and re.search(wanted_before, before)
            and re.match(wanted_after, after)
        ):
            return sound or _LONG_VOWEL[spelling]
    return _SOUNDS[spelling]


def _owner(word: str) -> str:
    return word.removesuffix("'s")


def _words(transcript: str) -> Iterator[str]:
    text = unicodedata.normalize("NFKD", transcript.lower().replace("\u2019", "'"))
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    text = re.sub(r"\$(\d[\d,.]*)", r"\1 dollars", text)
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    for sign, name in _SIGNS.items():
        text = text.replace(sign, name)
    for token in re.findall(r"\d+|[^\W\d_]+(?:'[^\W\d_]+)*", text):
        if token.isdecimal():
            yield from _number(int(token))
        else:
            yield token


def _number(number: int) -> Iterator[str]:
    """Say a number as English words; past the billions, digit by digit."""
    if number >= 1_000 * _SCALES[0][0]:
        yield from (_SMALL[int(digit)] for digit in str(number))
        return
    for size, name in _SCALES:
        if number >= size:
            yield from (*_number(number // size), name)
            number %= size
            if not number:
                return
    hundreds, rest = divmod(number, 100)
    if hundreds:
        yield from (_SMALL[hundreds], "hundred")
    if rest >= len(_SMALL):
        yield _TENS[rest // 10]
        rest %= 10
        if rest:
            yield _SMALL[rest]
    elif rest or not hundreds:
        yield _SMALL[rest]
