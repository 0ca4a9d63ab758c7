"""Phones of every source, brought to visemes: CMU's, festvox-ru's and those of the IPA.

The rules are those of the scoring tool's truth: a stop and its release are one sound, a diphthong
has the shape it starts with, `h` takes the shape of the vowel after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from sayso.engine.phones import VISEME_OF_PHONE

Segment = tuple[float, float, str]
"""start_s, end_s, viseme; `h` still to be resolved, `?` not to be learnt from."""

BREATH: Final = "h"

VISEME_OF_RUSSIAN: Final = {
    **dict.fromkeys(("p", "pp", "b", "bb", "m", "mm"), "PP"),
    **dict.fromkeys(("f", "ff", "v", "vv"), "FF"),
    **dict.fromkeys(("t", "tt", "d", "dd"), "DD"),
    **dict.fromkeys(("k", "kk", "g", "gg", "h", "hh"), "kk"),
    **dict.fromkeys(("ch", "sh", "sch", "zh"), "CH"),
    **dict.fromkeys(("s", "ss", "z", "zz", "c"), "SS"),
    **dict.fromkeys(("n", "nn", "l", "ll", "r", "rr"), "nn"),
    **dict.fromkeys(("a", "aa"), "aa"),
    **dict.fromkeys(("ae", "ay", "e", "ee"), "E"),
    **dict.fromkeys(("i", "ii", "j", "y", "yy"), "ih"),
    **dict.fromkeys(("oo",), "oh"),
    **dict.fromkeys(("u", "ur", "uu"), "ou"),
    "pau": "sil",
}

VISEME_OF_IPA: Final = {
    **dict.fromkeys("pbmɸβ", "PP"),
    **dict.fromkeys("fvʋɱ", "FF"),
    **dict.fromkeys("θð", "TH"),
    **dict.fromkeys("tdʈɖɾT", "DD"),
    **dict.fromkeys("kgɡŋqxɣχʁʔcɟç", "kk"),
    **dict.fromkeys("ʃʒʧʤɕʑʂʐʨʥ", "CH"),
    **dict.fromkeys("szʦʣ", "SS"),
    **dict.fromkeys("nɲɳɴlɭʎɫɬrɽʀ", "nn"),
    **dict.fromkeys("ɹɻɚɝ", "RR"),
    **dict.fromkeys("aɐæʌɑIW", "aa"),
    **dict.fromkeys("eɛəɘɤᵊAɜ", "E"),
    **dict.fromkeys("iɪɨᵻjɯʝ", "ih"),
    **dict.fromkeys("oɔɒœOQY", "oh"),
    **dict.fromkeys("uʊwyøʏɥʉ", "ou"),
    **dict.fromkeys("hɦħ", BREATH),
}

# The nearest sound of pocketsphinx's US English, for aligning what the IPA spells.
_CMU_OF_IPA: Final = """
p P, b B, m M, f F, v V, t T, d D, k K, g G, s S, z Z, l L, n N, w W, ɸ F, β V, ʋ V, θ TH,
ð DH, ɡ G, ŋ NG, ɣ G, ɾ D, T D, ʈ T, ɖ D, q K, x HH, χ HH, ʁ R, c K, ɟ G, ç HH, ʃ SH, ʒ ZH,
ʧ CH, ʤ JH, ɕ SH, ʑ ZH, ʦ S, ʣ Z, ɲ N, ɳ N, ʎ L, ɫ L, r D, ɹ R, ɻ R, a AA, ɐ AH, æ AE, ʌ AH,
ɑ AA, e EH, ɛ EH, ə AH, ᵊ AH, i IY, ɪ IH, ɨ IH, ᵻ IH, j Y, ʝ Y, ɯ UH, o OW, ɔ AO, ɒ AA, œ AH,
u UW, ʊ UH, y UW, ø UH, ɥ W, h HH, A EY, I AY, O OW, W AW, Y OY, Q OW, ɜ ER, ɚ ER, ɬ L, ɤ AH
"""
CMU_OF_IPA: Final[dict[str, str]] = dict(re.findall(r"([^\s,]) ([A-Z]+)", _CMU_OF_IPA))


def viseme_of_cmu(phone: str) -> str:
    """Return the viseme of a phone as CMU's dictionary or Festival's radio set writes it."""
    name = phone.rstrip("012").upper()
    special = {"HH": BREATH, "AX": "E", "AXR": "RR", "IX": "ih", "DX": "DD", "EL": "nn", "EN": "nn"}
    return special.get(name) or VISEME_OF_PHONE.get(name, "sil")


def visemes_of_ipa(phone: str) -> list[str]:
    """Return the visemes of one phone as espeak-ng writes it; marks say nothing.

    A diphthong keeps the shape it starts with, but an r that colours a vowel is its own.
    """
    shapes = [VISEME_OF_IPA[symbol] for symbol in phone if symbol in VISEME_OF_IPA]
    if len(shapes) > 1 and shapes[0] in {"aa", "E", "ih", "oh", "ou"}:
        shapes = [shapes[0], *(shape for shape in shapes[1:] if shape == "RR")]
    if phone.startswith("ɜ") and shapes:
        shapes = ["RR"]
    if len(shapes) > 1 and shapes[0] == "DD" and shapes[1] in {"CH", "SS"}:
        shapes = shapes[1:]
    return shapes


def resolved(segments: Iterable[Segment]) -> list[Segment]:
    """Give each `h` the viseme of the sound after it, and join equal neighbours of pauses."""
    result: list[Segment] = []
    following = "sil"
    for start_s, end_s, viseme in reversed(list(segments)):
        if viseme == BREATH:
            result.append((start_s, end_s, following))
            continue
        result.append((start_s, end_s, viseme))
        following = viseme
    result.reverse()
    joined: list[Segment] = []
    for viseme, run in groupby(result, key=lambda segment: segment[2]):
        parts = list(run)
        if viseme == "sil":
            joined.append((parts[0][0], parts[-1][1], viseme))
        else:
            joined.extend(parts)
    return joined
