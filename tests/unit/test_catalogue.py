"""The catalogue: models, options, and an operator's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sayso.catalogue.catalogue import OUR_MODEL, Option, read_catalogue
from sayso.errors import ModelUnavailable, ModelUnknown, OptionInvalid, SettingsInvalid

WAN = "wan-video/wan-2.2-s2v"


def test_without_a_token_our_own_model_is_the_default() -> None:
    catalogue = read_catalogue(providers=["embedded"])

    assert catalogue.default.name == OUR_MODEL
    assert catalogue.choose(None).name == OUR_MODEL
    with pytest.raises(ModelUnavailable, match="set REPLICATE_API_TOKEN, or choose sayso/portrait"):
        catalogue.choose(WAN)


def test_with_a_token_the_cloud_model_is_the_default() -> None:
    assert read_catalogue(providers=["embedded", "replicate"]).default.name == WAN


def test_an_unknown_model_is_told_with_the_known_ones() -> None:
    with pytest.raises(ModelUnknown, match=WAN):
        read_catalogue(providers=["embedded"]).choose("nobody/nothing")


def test_ten_seconds_of_wan_cost_what_the_design_says() -> None:
    wan = read_catalogue(providers=["replicate"]).find(WAN)

    assert wan.rate_micros * 10 == 200_000
    assert wan.check_prompt(None) == "person talking"
    assert wan.check_prompt("  woman singing ") == "woman singing"


def test_a_model_without_a_prompt_drops_it() -> None:
    assert read_catalogue(providers=[]).find(OUR_MODEL).check_prompt("hello") is None


def test_the_operators_price_of_our_model_counts() -> None:
    assert read_catalogue(providers=[], our_rate_micros=0).find(OUR_MODEL).rate_micros == 0


def test_an_operators_file_overrides_key_by_key_and_adds(tmp_path: Path) -> None:
    own = tmp_path / "models.toml"
    own.write_text(
        f"""
        ["{OUR_MODEL}"]
        rate_micros = 5
        ["me/mine"]
        provider = "scripted"
        description = "mine"
        rate_micros = 7
        price_read_on = 2026-11-22
        inputs = {{ portrait = "picture", speech = "voice" }}
        """
    )

    catalogue = read_catalogue(own, providers=["scripted"], our_rate_micros=9)

    ours, mine = catalogue.find(OUR_MODEL), catalogue.find("me/mine")
    assert (ours.rate_micros, ours.provider) == (5, "embedded")
    assert (mine.inputs.portrait, mine.needs_face) == ("picture", True)
    assert catalogue.default.name == "me/mine"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("this is no toml", "not TOML"),
        ('["a/b"]\nprovider = "embedded"', "description"),
        (f'["{OUR_MODEL}"]\nrate_micros = -1', "rate_micros"),
        (f'["{OUR_MODEL}"]\nprise = 1', "prise"),
        ('["nonsense name"]\nprovider = "embedded"', "name"),
        ("number = 1", "must be a table"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path: Path, text: str, problem: str) -> None:
    own = tmp_path / "models.toml"
    own.write_text(text)

    with pytest.raises(SettingsInvalid, match=problem):
        read_catalogue(own, providers=[])


def test_a_file_that_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        read_catalogue(tmp_path / "none.toml", providers=[])


def test_a_version_is_64_hex_digits_and_changes_with_the_entry() -> None:
    one = read_catalogue(providers=[]).find(OUR_MODEL).version
    other = read_catalogue(providers=[], our_rate_micros=1).find(OUR_MODEL).version

    assert len(one) == 64
    assert int(one, 16) >= 0
    assert one != other


def test_options_that_are_not_given_have_their_defaults() -> None:
    ours = read_catalogue(providers=[]).find(OUR_MODEL)

    assert ours.check_options({}) == {"crop": "picture", "fps": 25, "size": 720}
    assert ours.check_options({"fps": 30.0, "seed": None, "crop": "face"})["fps"] == 30


@pytest.mark.parametrize(
    "given",
    [
        {"fps": 9},
        {"fps": 61},
        {"fps": 25.5},
        {"fps": True},
        {"fps": "25"},
        {"fps": float("nan")},
        {"crop": "hands"},
        {"transcript": "x" * 20_001},
        {"transcript": 5},
        {"colour": "red"},
    ],
)
def test_options_that_do_not_fit_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(OptionInvalid):
        read_catalogue(providers=[]).find(OUR_MODEL).check_options(given)


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        ("boolean", True, True),
        ("boolean", 1, False),
        ("number", 1.5, True),
        ("number", 2, True),
        ("number", False, False),
        ("number", float("nan"), False),
        ("text", "x", True),
    ],
)
def test_kinds_of_options(kind: Any, value: object, fits: bool) -> None:  # noqa: FBT001
    option = Option(name="it", kind=kind, description="", minimum=0, maximum=10)
    if fits:
        assert option.check(value) == value
    else:
        with pytest.raises(OptionInvalid):
            option.check(value)


def test_the_typical_time_grows_with_the_speech() -> None:
    wan = read_catalogue(providers=[]).find(WAN)

    assert wan.typical_s(10) - wan.typical_s(5) == pytest.approx(5 * wan.typical_s_per_speech_s)
