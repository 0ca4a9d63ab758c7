"""Why Replicate failed, in our words: every text that people have met has a class of its own."""

from __future__ import annotations

from datetime import date

import pytest

from sayso.catalogue.catalogue import InputNames, Model, Option
from sayso.providers.base import FailureKind
from sayso.providers.replicate_errors import aborted, failure_of, rejection_of
from tests.upstream import FAILURES

PERMANENT, TRANSIENT = FailureKind.PERMANENT, FailureKind.TRANSIENT
PROVIDER, TIMEOUT = FailureKind.PROVIDER, FailureKind.TIMEOUT

MODEL = Model(
    name="test/model",
    provider="replicate",
    description="for tests",
    rate_micros=1,
    price_read_on=date(2026, 11, 22),
    inputs=InputNames(portrait="source_image", speech="driven_audio", prompt="prompt"),
    options=(Option(name="seed", kind="integer", description="x"),),
)

KINDS: dict[str, tuple[FailureKind, str]] = {
    "interrupted": (TRANSIENT, "provider_interrupted"),
    "director": (TRANSIENT, "provider_interrupted"),
    "health_check": (TRANSIENT, "provider_interrupted"),
    "start_error": (TRANSIENT, "provider_interrupted"),
    "director_other": (TRANSIENT, "provider_interrupted"),
    "stopped_early": (TRANSIENT, "provider_interrupted"),
    "upload_failed": (TRANSIENT, "provider_interrupted"),
    "unavailable": (TRANSIENT, "provider_interrupted"),
    "high_demand": (TRANSIENT, "provider_interrupted"),
    "unknown_code": (TRANSIENT, "provider_interrupted"),
    "prompt_newlines": (TRANSIENT, "provider_interrupted"),
    "sensitive": (PERMANENT, "input_flagged"),
    "sensitive_traced": (PERMANENT, "input_flagged"),
    "nsfw": (PERMANENT, "input_flagged"),
    "vendor_credits": (PROVIDER, "provider_fault"),
    "vendor_key": (PROVIDER, "provider_fault"),
    "out_of_memory": (PERMANENT, "too_much_for_model"),
    "killed": (PERMANENT, "too_much_for_model"),
    "memory_code": (PERMANENT, "too_much_for_model"),
    "timed_out": (TIMEOUT, "timed_out"),
    "input_forbidden": (TRANSIENT, "input_not_fetched"),
    "empty": (PERMANENT, "provider_failed"),
}


def test_every_known_text_is_judged() -> None:
    assert set(KINDS) == set(FAILURES)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_known_text_becomes_our_own_code_and_sentence(name: str) -> None:
    failure = failure_of(FAILURES[name])

    assert (failure.kind, failure.code) == KINDS[name]
    assert failure.raw == (FAILURES[name] or None)
    assert failure.text.endswith(".")
    assert failure.text[0].isupper()


@pytest.mark.parametrize(
    ("text", "kind", "code"),
    [
        ("ValueError: cannot identify image file <_io.BytesIO>", PERMANENT, "input_refused"),
        ("Input validation error: audio duration must be at most 35 s", PERMANENT, "input_refused"),
        ("No face detected in the source image", PERMANENT, "no_face"),
        ("could not detect a face", PERMANENT, "no_face"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory.", PERMANENT, "too_much_for_model"),
        ("HTTPError: 404 Client Error: Not Found for url: x", TRANSIENT, "input_not_fetched"),
        ("queue reached limit", TRANSIENT, "provider_interrupted"),
        ("Insufficient balance at the vendor", PROVIDER, "provider_fault"),
        ("KeyError: 'frames'", PERMANENT, "provider_failed"),
        # A code is a word: these have other meanings.
        ("Failed at step E0050 of the pipeline", PERMANENT, "provider_failed"),
        ("ROOM temperature exceeded", PERMANENT, "provider_failed"),
    ],
)
def test_other_texts_are_judged_by_what_they_say(text: str, kind: FailureKind, code: str) -> None:
    failure = failure_of(text)

    assert (failure.kind, failure.code) == (kind, code)


def test_no_sentence_repeats_what_replicate_said() -> None:
    text = "E001 https://replicate.com/account/billing has no money, call r8_abcdefghijklmnopqrstuv"
    failure = failure_of(text)

    for word in ("billing", "http", "r8_", "money", "E001"):
        assert word not in failure.text
    assert failure.raw == text


def test_a_failure_may_be_without_a_text() -> None:
    assert failure_of(None).code == "provider_failed"
    assert failure_of(None).raw is None


def test_a_very_long_text_is_cut() -> None:
    assert len(failure_of("x" * 100_000).raw or "") == 2_000


def test_aborted_is_a_time_out() -> None:
    assert aborted(None).kind is TIMEOUT


def fields(*faults: tuple[str, str, str]) -> dict[str, object]:
    return {
        "invalid_fields": [
            {"type": kind, "field": field, "description": text} for kind, field, text in faults
        ]
    }


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (("enum", "input.seed", "must be one of"), "the option seed, which is not one of"),
        (("number_lte", "input.seed", "x"), "the option seed, which is too large"),
        (("required", "input", "driven_audio is required"), "the recording, which is missing"),
        (("invalid_type", "input.source_image", "x"), "the portrait, which is of the wrong kind"),
        (("no such type", "input.prompt", "x"), "Replicate cannot use the prompt."),
        (
            ("additional_property_not_allowed", "input", "Additional property seed is not allowed"),
            "the option seed, which this model does not have",
        ),
    ],
)
def test_fields_are_named_in_our_words(fault: tuple[str, str, str], said: str) -> None:
    text = str(rejection_of(422, fields(fault), MODEL, raw="x"))

    assert said in text
    assert text.endswith(".")


def test_several_fields_are_listed_once_each() -> None:
    body = fields(
        ("number_lte", "input.seed", "x"),
        ("number_lte", "input.seed", "x"),
        ("required", "input", "prompt is required"),
    )

    assert str(rejection_of(422, body, MODEL, raw="x")) == (
        "Replicate cannot use the option seed, which is too large;"
        " and the prompt, which is missing."
    )


def test_an_account_without_a_way_to_pay_is_not_the_customers_business() -> None:
    body = {"title": "Invalid version or not permitted", "detail": "... permission to use it?"}

    text = str(rejection_of(422, body, MODEL, raw="x"))

    assert text == "Replicate does not run test/model for us just now."


def test_the_raw_text_has_no_signatures_of_links() -> None:
    url = "https://s.example.com/files/a.png?expires=1&signature=a.SECRET_x-y&nonce=z"
    text = f'403 Client Error: Forbidden for url: {url} {{"image":"{url}"}}'

    raw = failure_of(text).raw or ""

    assert "SECRET" not in raw
    assert raw.count("signature=...") == 2
    assert "nonce=z" in raw


@pytest.mark.parametrize(
    "body",
    [None, {}, {"invalid_fields": None}, {"invalid_fields": "x"}, {"invalid_fields": [1, None]}],
)
def test_a_body_that_says_nothing_has_a_sentence_all_the_same(
    body: dict[str, object] | None,
) -> None:
    assert str(rejection_of(422, body, MODEL, raw="x")) == "Replicate cannot use these inputs."
