"""Transcripts become pronunciations: dictionary words, numbers, signs, and words nobody knows."""

from __future__ import annotations

import pytest

from sayso.engine.phones import VISEME_OF_PHONE
from sayso.engine.words import dictionary_words, pronounced, spelled_out


def test_words_of_the_dictionary_keep_all_their_pronunciations() -> None:
    text = pronounced("Read the word, either way!")

    assert text.unknown == ()
    assert text.words[0] == ("R EH D", "R IY D")
    assert len(text.words) == 5


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("7", "seven"),
        ("42", "forty two"),
        ("100", "one hundred"),
        ("1,317", "one thousand three hundred seventeen"),
        ("2026", "two thousand twenty six"),
        ("5000000", "five million"),
        ("$20", "twenty dollars"),
        ("50%", "fifty percent"),
        ("rock & roll", "rock and roll"),
        ("café", "cafe"),
        ("don\u2019t", "don't"),
        ("well-known", "well known"),
    ],
)
def test_numbers_signs_and_accents_are_said_as_words(written: str, said: str) -> None:
    assert pronounced(written) == pronounced(said)


def test_unknown_name_is_spelled_out_and_named() -> None:
    text = pronounced("Zorblax waves")

    assert text.unknown == ("zorblax",)
    assert text.words[0][0].split()[0] == "Z"
    assert "B" in text.words[0][0].split()


@pytest.mark.parametrize("word", ["zorblax", "phyte", "quizzing", "strengthy", "aeiouy", "knyght"])
def test_spelling_gives_only_phones_of_the_decoder(word: str) -> None:
    assert set(spelled_out(word).split()) <= {*VISEME_OF_PHONE, "HH"}


def test_spelling_hits_the_lips_of_most_words() -> None:
    """Closures and lip-teeth sounds of common words: rules against the dictionary."""
    words = ["map", "problem", "family", "remember", "simple", "visible", "fabulous", "empty"]
    lips = {"P", "B", "M", "F", "V"}
    dictionary = dictionary_words(words)

    for word in words:
        known = [phone for phone in dictionary[word][0].split() if phone in lips]
        assert [phone for phone in spelled_out(word).split() if phone in lips] == known


def test_other_scripts_are_unknown_and_have_no_sound() -> None:
    text = pronounced("привет мир")

    assert text.words == ()
    assert text.unknown == ("привет", "мир")


def test_empty_transcript_has_no_words() -> None:
    assert pronounced(" \n ...").words == ()
