"""The catalogue: models, options, and an operator's own file."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from sayso.artifacts.keys import CONTENT_TYPES
from sayso.catalogue.catalogue import OUR_MODEL, Model, Option, read_catalogue
from sayso.catalogue.limits import PortraitLimits, SpeechLimits
from sayso.credits.rules import decimal_text
from sayso.errors import (
    ImageTooLarge,
    ImageTooSmall,
    ImageUnsupported,
    ModelUnavailable,
    ModelUnknown,
    OptionInvalid,
    SettingsInvalid,
    SpeechTooLarge,
    SpeechTooLong,
    SpeechTooShort,
    SpeechUnsupported,
)

WAN = "wan-video/wan-2.2-s2v"
KLING = "kwaivgi/kling-avatar-v2"
SADTALKER = "lucataco/sadtalker"
DEADLINE_S = 600  # The operator's, where an entry names none.

SHIPPED = read_catalogue(providers=[]).models

# What Replicate's pages and schemas said: upstream name, price of a second of video, names of the
# inputs, what makes the price, and the options with their defaults.
FACTS: dict[
    str, tuple[str, int | None, tuple[str, str, str | None], dict[str, Any], dict[str, Any]]
]
FACTS = {
    WAN: (
        WAN,
        20_000,
        ("image", "audio", "prompt"),
        {},
        {"num_frames_per_chunk": 81, "seed": None},
    ),
    "bytedance/omni-human": ("bytedance/omni-human", 140_000, ("image", "audio", None), {}, {}),
    KLING: (KLING, 56_000, ("image", "audio", "prompt"), {"mode": "std"}, {}),
    f"{KLING}-pro": (KLING, 110_000, ("image", "audio", "prompt"), {"mode": "pro"}, {}),
    "veed/fabric-1.0": (
        "veed/fabric-1.0",
        150_000,
        ("image", "audio", None),
        {"resolution": "720p"},
        {},
    ),
    "veed/fabric-1.0-480p": (
        "veed/fabric-1.0",
        80_000,
        ("image", "audio", None),
        {"resolution": "480p"},
        {},
    ),
    "prunaai/p-video-avatar": (
        "prunaai/p-video-avatar",
        25_000,
        ("image", "audio", "video_prompt"),
        {"resolution": "720p"},
        {"seed": None},
    ),
    "prunaai/p-video-avatar-1080p": (
        "prunaai/p-video-avatar",
        45_000,
        ("image", "audio", "video_prompt"),
        {"resolution": "1080p"},
        {"seed": None},
    ),
    SADTALKER: (
        SADTALKER,
        None,
        ("source_image", "driven_audio", None),
        {},
        {"preprocess": "full", "still": True, "enhancer": None},
    ),
}


def test_the_catalogue_holds_our_model_and_those_of_the_facts() -> None:
    assert {model.name for model in SHIPPED} == {OUR_MODEL, *FACTS}


@pytest.mark.parametrize("model", SHIPPED, ids=lambda model: model.name)
def test_an_entry_is_whole(model: Model) -> None:
    read_on = model.price_read_on
    assert date(2026, 1, 1) <= read_on <= date(2026, 12, 31)
    assert model.description.endswith(".")
    assert model.rate_micros > 0
    assert model.typical_s(model.max_speech_s) <= (model.deadline_s or DEADLINE_S)
    assert set(model.portrait.formats) | set(model.speech.formats) <= CONTENT_TYPES.keys()
    assert (model.speech.min_s or 0) < model.max_speech_s
    for option in model.options:
        assert option.description.endswith(".")
        assert option.kind != "text" or option.choices or option.maximum
    # Every customer's second pays what the provider asks for it.
    for seconds in range(1, int(model.max_speech_s) + 1):
        cost = model.cost_micros(video_s=seconds, run_s=model.typical_s(seconds))
        assert cost is not None
        assert cost <= model.rate_micros * seconds


@pytest.mark.parametrize("name", FACTS)
def test_an_entry_says_what_the_model_says(name: str) -> None:
    model = read_catalogue(providers=[]).find(name)
    upstream, price, inputs, fixed, options = FACTS[name]

    assert model.provider == "replicate"
    assert model.upstream_name == upstream
    assert price is None or model.cost_micros(video_s=1, run_s=None) == price
    assert (model.inputs.portrait, model.inputs.speech, model.inputs.prompt) == inputs
    assert dict(model.fixed) == fixed
    assert {option.name: option.default for option in model.options} == options
    assert model.is_official == (name != SADTALKER)


HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "choose-models-and-prices.md"


def test_the_how_to_lists_each_model_with_its_price_and_day() -> None:
    rows = {
        cells[0].strip("`"): cells[1:]
        for line in HOW_TO.read_text("utf-8").splitlines()
        if line.startswith("| `") and len(cells := line.strip("| ").split(" | ")) == 5
    }

    assert rows.keys() == {model.name for model in SHIPPED}
    for model in SHIPPED:
        price, longest, _provider, read_on = rows[model.name]
        assert price == f"${decimal_text(model.rate_micros)}"
        seconds = int(model.max_speech_s)
        assert longest == (f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s")
        assert read_on == ("set by us" if model.name == OUR_MODEL else str(model.price_read_on))


def test_the_how_tos_files_can_be_used(tmp_path: Path) -> None:
    for number, block in enumerate(re.findall(r"```toml\n(.*?)```", HOW_TO.read_text(), re.DOTALL)):
        own = tmp_path / f"{number}.toml"
        own.write_text(block)
        found = read_catalogue(own, providers=["replicate"])
        assert found.models != SHIPPED


def test_a_prompt_is_sent_unasked_only_where_the_schema_insists() -> None:
    assert [model.name for model in SHIPPED if model.prompt_default] == [WAN]


@pytest.mark.parametrize(
    ("name", "video_s", "run_s", "cost"),
    [
        (WAN, 10.0, None, 200_000),
        (WAN, 10.04, 300.0, 200_800),
        (WAN, None, 300.0, None),
        (SADTALKER, 10.0, 90.5, 88_238),
        (SADTALKER, 10.0, None, None),
        (OUR_MODEL, None, None, 0),
    ],
)
def test_what_the_provider_charges_follows_its_own_measures(
    name: str, video_s: float | None, run_s: float | None, cost: int | None
) -> None:
    model = read_catalogue(providers=[]).find(name)

    assert model.cost_micros(video_s=video_s, run_s=run_s) == cost


def test_a_cost_of_its_own_leaves_the_customers_price_alone() -> None:
    model = replace(read_catalogue(providers=[]).find(WAN), rate_micros=50_000)

    assert model.cost_micros(video_s=2, run_s=None) == 100_000
    assert replace(model, cost_rate_micros=20_000).cost_micros(video_s=2, run_s=None) == 40_000


def take(portrait: dict[str, Any], limits: PortraitLimits) -> None:
    picture: dict[str, Any] = {"suffix": "jpg", "size_bytes": 1_000, "width": 640, "height": 480}
    limits.check("a/model", **{**picture, **portrait})


@pytest.mark.parametrize(
    ("portrait", "refusal"),
    [
        ({}, None),
        ({"suffix": "bmp"}, (ImageUnsupported, "takes JPG, PNG; this is BMP")),
        ({"size_bytes": 5_000_001}, (ImageTooLarge, "5 MB at most; this has 5.0 MB")),
        ({"height": 299}, (ImageTooSmall, "at least 300 pixels a side; this one is 640 x 299")),
        ({"width": 2_001}, (ImageTooLarge, "at most 2000 pixels a side; this one is 2001 x 480")),
        ({"width": None}, None),
    ],
)
def test_a_portrait_is_held_to_what_the_model_says(
    portrait: dict[str, Any], refusal: tuple[type[Exception], str] | None
) -> None:
    limits = PortraitLimits(
        max_bytes=5_000_000, min_side_px=300, max_side_px=2_000, formats=("jpg", "png")
    )
    take(portrait, PortraitLimits())
    if refusal is None:
        take(portrait, limits)
        return
    with pytest.raises(refusal[0], match=refusal[1]):
        take(portrait, limits)


@pytest.mark.parametrize(
    ("speech", "refusal"),
    [
        ({}, None),
        ({"duration_s": 60.01}, (SpeechTooLong, "60 s of speech at most; this is 60.0 s")),
        ({"duration_s": 1.99}, (SpeechTooShort, "2 s of speech at least; this is 2.0 s")),
        ({"suffix": "flac"}, (SpeechUnsupported, "takes MP3, WAV; this is FLAC")),
        ({"suffix": "bin"}, (SpeechUnsupported, "this is of another kind")),
        ({"size_bytes": 7_200_000}, (SpeechTooLarge, "5 MB at most; this has 7.2 MB")),
    ],
)
def test_a_speech_is_held_to_what_the_model_says(
    speech: dict[str, Any], refusal: tuple[type[Exception], str] | None
) -> None:
    limits = SpeechLimits(min_s=2, max_bytes=5_000_000, formats=("mp3", "wav"))
    recording = {"suffix": "mp3", "size_bytes": 1_000, "duration_s": 10.0, "max_s": 60, **speech}
    if refusal is None:
        limits.check("a/model", **recording)
        return
    with pytest.raises(refusal[0], match=refusal[1]):
        limits.check("a/model", **recording)


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


def test_an_operator_sets_prices_costs_and_limits(tmp_path: Path) -> None:
    own = tmp_path / "models.toml"
    own.write_text(
        f"""
        ["{WAN}"]
        rate_micros = 30_000
        cost_rate_micros = 20_000
        speech = {{ max_bytes = 1_000, formats = ["wav"] }}
        ["{KLING}"]
        portrait = {{ min_side_px = 400 }}
        ["{SADTALKER}"]
        cost_per_run_s_micros = 1_400
        ["me/wan-with-a-margin"]
        provider = "replicate"
        upstream = "{WAN}"
        description = "The same for more."
        rate_micros = 90_000
        cost_rate_micros = 20_000
        price_read_on = 2026-11-22
        fixed = {{ num_frames_per_chunk = 41 }}
        is_official = false
        """
    )

    catalogue = read_catalogue(own, providers=["replicate"])

    wan, mine = catalogue.find(WAN), catalogue.find("me/wan-with-a-margin")
    assert (wan.rate_micros, wan.cost_micros(video_s=1, run_s=None)) == (30_000, 20_000)
    assert wan.speech == SpeechLimits(max_bytes=1_000, formats=("wav",))
    assert catalogue.find(KLING).portrait == PortraitLimits(min_side_px=400)
    assert catalogue.find(SADTALKER).cost_micros(video_s=None, run_s=10) == 14_000
    assert (mine.upstream_name, mine.is_official) == (WAN, False)
    assert mine.cost_micros(video_s=2, run_s=None) == 40_000


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("this is no toml", "not TOML"),
        ('["a/b"]\nprovider = "embedded"', "description"),
        (f'["{OUR_MODEL}"]\nrate_micros = -1', "rate_micros"),
        (f'["{OUR_MODEL}"]\nprise = 1', "prise"),
        ('["nonsense name"]\nprovider = "embedded"', "name"),
        ("number = 1", "must be a table"),
        (f'["{WAN}"]\ncost_per_run_s_micros = 1\ncost_rate_micros = 1', "not by both"),
        (f'["{WAN}"]\nfixed = {{ seed = 5 }}', "seed is sent twice"),
        (f'["{WAN}"]\ninputs = {{ portrait = "audio" }}', "audio is sent twice"),
        (f'["{WAN}"]\nspeech = {{ formats = ["midi"] }}', "speech.formats"),
        (f'["{WAN}"]\nportrait = {{ min_side_px = 0 }}', "portrait.min_side_px"),
        (f'["{WAN}"]\nspeech = {{ longest_s = 1 }}', "longest_s"),
        (f'["{WAN}"]\nupstream = "no name"', "upstream"),
        (
            f"""
            [["{WAN}".options]]
            name = "a"
            kind = "integer"
            description = "."
            default = 1
            minimum = 2
            """,
            "a must be at least 2",
        ),
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
