"""The doors over real HTTP: files and their parts, caching, headers, keys, health, OpenAPI."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from sayso.http.wire import CheckBody
from sayso.providers.scripted import Script
from tests.services import Service, started

KEY = "a key of twenty chars"


@pytest.fixture
def video(quick: Service) -> str:
    """A link to a video."""
    return str(quick.until_final(quick.start())["output"])


def test_a_check_that_found_nothing_new_has_no_body(service: Service) -> None:
    generation_id = service.start()
    service.until_final(generation_id)
    first = service.check(generation_id)
    etag = first.headers["etag"]

    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = service.check(generation_id, **{"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    other = service.check(generation_id, **{"If-None-Match": '"x"'})
    assert other.json() == first.json()


def test_the_etag_moves_with_the_generation(service: Service) -> None:
    service.provider.will(Script(start_s=0, run_s=600))
    generation_id = service.start()
    service.until(generation_id, lambda body: body["status"] == "processing")
    etag = service.check(generation_id).headers["etag"]

    service.http.post(f"/api/generations/{generation_id}/cancel")
    service.until_final(generation_id)

    assert service.check(generation_id, **{"If-None-Match": etag}).status_code == 200


def test_120_polls_move_little(quick: Service) -> None:
    quick.provider.will(Script(start_s=0, run_s=600))
    generation_id = quick.start()
    quick.until(generation_id, lambda body: body["status"] == "processing")
    etag, moved = "", 0
    for _ in range(120):
        answer = quick.check(generation_id, **{"If-None-Match": etag})
        etag = answer.headers["etag"]
        moved += len(answer.content)

    assert moved < 24_000
    quick.http.post(f"/api/generations/{generation_id}/cancel")
    quick.until_final(generation_id)


def test_the_hot_route_and_its_description_agree(quick: Service) -> None:
    body = quick.check(quick.start()).json()

    assert list(body) == list(CheckBody.model_fields)
    CheckBody.model_validate(body)
    document = quick.http.get("/openapi.json").json()
    operation = document["paths"]["/api/check-lipsync"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/CheckBody"}
    assert "prediction_id" in {parameter["name"] for parameter in operation["parameters"]}


def test_a_check_without_an_id_is_refused(quick: Service) -> None:
    answer = quick.http.get("/api/check-lipsync")

    assert (answer.status_code, answer.json()["code"]) == (422, "body_invalid")


def test_a_file_comes_whole(quick: Service, video: str) -> None:
    answer = quick.http.get(video)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-", 0, None),
        ("bytes=0-99", 0, 99),
        ("bytes=100-199", 100, 199),
        ("bytes=-10", -10, None),
        ("bytes=5-999999999", 5, None),
        ("bytes=-999999999", 0, None),
    ],
)
def test_a_part_of_a_file_comes(
    quick: Service, video: str, asked: str, first: int, last: int | None
) -> None:
    whole = quick.http.get(video).content
    size = len(whole)
    start = first % size if first < 0 else first
    end = size if last is None else last + 1

    answer = quick.http.get(video, headers={"Range": asked})

    assert answer.status_code == 206
    assert answer.content == whole[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=0-1", "bytes=", "bytes=5-1", "x"])
def test_a_range_that_means_nothing_here_is_the_whole_file(
    quick: Service, video: str, asked: str
) -> None:
    assert quick.http.get(video, headers={"Range": asked}).status_code == 200


def test_a_part_behind_the_end_is_refused(quick: Service, video: str) -> None:
    size = len(quick.http.get(video).content)

    for asked in (f"bytes={size}-", "bytes=-0", "bytes=999999999-"):
        answer = quick.http.get(video, headers={"Range": asked})
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{size}"


def test_a_part_of_another_file_is_not_mixed_in(quick: Service, video: str) -> None:
    etag = quick.http.get(video).headers["etag"]

    for known, status in ((etag, 206), ('"other"', 200)):
        headers = {"Range": "bytes=0-9", "If-Range": known}
        assert quick.http.get(video, headers=headers).status_code == status
    assert quick.http.get(video, headers={"If-None-Match": etag}).status_code == 304


def test_head_says_how_large_a_file_is(quick: Service, video: str) -> None:
    answer = quick.http.head(video)

    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(quick.http.get(video).content)


def test_a_link_that_was_changed_is_refused(quick: Service, video: str) -> None:
    path, _, query = video.partition("?")

    for link in (
        path,
        f"{path}?{query}x",
        f"{video}&nonce=x",
        video.replace("expires=1", "expires=2"),
    ):
        assert quick.http.get(link).status_code == 403


def test_a_path_that_leaves_the_store_is_not_found(quick: Service) -> None:
    for path in ("/files/../../etc/passwd", "/files/%2e%2e/sayso.db", "/files/", "/files/local"):
        assert quick.http.get(path).status_code in {403, 404}


def test_the_owners_link_to_a_video_does_not_expire(quick: Service) -> None:
    generation_id = quick.start()
    link = quick.until_final(generation_id)["output"]

    answer = quick.http.get(f"/api/generations/{generation_id}/video")

    assert answer.content == quick.http.get(link).content
    assert answer.headers["content-disposition"] == f'inline; filename="{generation_id}.mp4"'


def test_the_page_runs_only_our_own_scripts(quick: Service) -> None:
    answer = quick.http.get("/")

    policy = answer.headers["content-security-policy"]
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in answer.text


@pytest.mark.parametrize("path", ["/web/page.js", "/web/style.css", "/web/icon.svg", "/docs"])
def test_what_the_page_needs_is_served_by_ourselves(quick: Service, path: str) -> None:
    answer = quick.http.get(path)

    assert answer.status_code == 200
    assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", "")


def test_what_is_not_there_is_a_problem(quick: Service) -> None:
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("GET", "/web/nowhere.js", 404),
        ("PUT", "/api/quote", 405),
        ("POST", "/api/check-lipsync", 405),
    ):
        answer = quick.http.request(method, path)
        assert answer.status_code == status
        assert answer.json()["code"] in {"not_found", "method_not_allowed"}


def test_every_answer_has_the_requests_id(quick: Service) -> None:
    assert len(quick.http.get("/livez").headers["x-request-id"]) == 16
    named = quick.http.get("/livez", headers={"X-Request-Id": "from-a-proxy.1"})
    assert named.headers["x-request-id"] == "from-a-proxy.1"
    odd = quick.http.get("/livez", headers={"X-Request-Id": "a b"})
    assert odd.headers["x-request-id"] != "a b"


def test_health_says_alive_and_ready(service: Service) -> None:
    assert service.http.get("/livez").text == "ok\n"
    assert service.http.get("/readyz").json() == {"ready": True, "problems": []}


def test_metrics_count_requests_by_route(quick: Service) -> None:
    quick.check("0" * 26)

    text = quick.http.get("/metrics").text

    line = 'sayso_http_requests_total{method="GET",route="/api/check-lipsync",status="404"}'
    assert line in text
    assert "0" * 26 not in text


def test_without_a_key_other_hosts_and_sites_are_refused(quick: Service) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        answer = quick.http.get("/api/credits", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "address_refused")
    mine = quick.http.get("/api/credits", headers={"Origin": quick.url})
    assert mine.status_code == 200


def test_with_a_key_both_ways_in_work(
    tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    with started(
        tmp_path, portrait=small_portrait, speech=short_speech, api_key=SecretStr(KEY)
    ) as service:
        with httpx.Client(base_url=service.url, trust_env=False) as stranger:
            refused = stranger.get("/api/credits")
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer")
            assert stranger.get("/").status_code == 200
            assert stranger.get("/livez").status_code == 200
            assert stranger.get("/metrics").status_code == 401
            assert stranger.post("/api/session", json={"key": "wrong"}).status_code == 401
            opened = stranger.post("/api/session", json={"key": KEY})
            assert opened.status_code == 204
            assert "HttpOnly" in opened.headers["set-cookie"]
            assert "SameSite=strict" in opened.headers["set-cookie"]
            assert stranger.get("/api/credits").status_code == 200
            foreign = stranger.get("/api/credits", headers={"Origin": "https://evil.example"})
            assert foreign.status_code == 403
            stranger.delete("/api/session")
            assert stranger.get("/api/credits").status_code == 401
        assert service.http.get("/api/credits").status_code == 200
        token = {"Authorization": f"Token {KEY}"}
        assert httpx.get(f"{service.url}/api/credits", headers=token).status_code == 200


def test_a_public_host_is_given_files_alone(
    tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    with started(
        tmp_path, portrait=small_portrait, speech=short_speech, public_url="https://p.example"
    ) as service:
        public = {"Host": "p.example"}
        url = service.portrait_url

        assert service.http.get(url, headers=public).status_code == 200
        assert service.http.get("/api/credits", headers=public).status_code == 403
        assert service.http.get("/", headers=public).status_code == 403


def test_everything_that_is_served_is_described(quick: Service) -> None:
    document = quick.http.get("/openapi.json").json()

    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in document["components"]["schemas"]
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["responses"]
            assert operation.get("description")
