"""What was asked for can be asked for again."""

from __future__ import annotations

from pathlib import Path

from sayso.providers.base import Failure, FailureKind
from sayso.providers.scripted import Script
from tests.services import MODEL, Service


def test_an_order_is_a_body_that_asks_for_the_same_again(service: Service) -> None:
    first = service.start(prompt="somebody sings")
    service.until_final(first)

    order = service.http.get(f"/api/generations/{first}/order").json()
    again = service.http.post("/api/generate-lipsync", json=order)

    assert again.status_code == 202, again.text
    service.until_final(again.json()["prediction_id"])
    repeated = service.http.get(f"/api/generations/{again.json()['prediction_id']}/order").json()
    assert repeated == order
    assert (order["model"], order["prompt"]) == (MODEL, "somebody sings")
    assert order["audioDuration"] == 1.25
    assert max(order["width"], order["height"]) == 480
    for name in ("imageUrl", "audioUrl"):
        assert service.http.get(order[name]).status_code == 200


def test_an_order_that_is_deleted_or_unknown_is_not_there(service: Service, tmp_path: Path) -> None:
    gone = service.start(**service.own_inputs(tmp_path, seconds=0.8))
    service.until_final(gone)
    assert service.http.delete(f"/api/generations/{gone}").status_code == 204

    answers = [
        service.http.get(f"/api/generations/{name}/order") for name in (gone, "0" * 26, "nothing")
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 404]


def test_a_receipt_says_what_kind_of_error_it_was(service: Service) -> None:
    failure = Failure(FailureKind.PERMANENT, "bad_audio", "The speech is not understood.")
    service.provider.will(Script(start_s=0, run_s=0, end="failed", failure=failure))
    generation_id = service.start()
    service.until_final(generation_id)

    receipt = service.http.get(f"/api/generations/{generation_id}/receipt").json()

    assert (receipt["error_code"], receipt["error"]) == ("bad_audio", failure.text)
