"""The service as its operator meets it: real processes, the real engine, SIGKILL and SIGTERM."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import av
import httpx
import pytest

from tests.services import write_speech
from tests.tls_front import opened_front

SAYSO: Final = [sys.executable, "-m", "sayso"]
SECONDS: Final = 240


def environment() -> dict[str, str]:
    """The test's own environment without settings."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("SAYSO_", "REPLICATE_"))}
    return {**kept, "OPENBLAS_NUM_THREADS": "1"}


def sayso(*words: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SAYSO, *map(str, words)],
        cwd=cwd,
        env={**environment(), **more},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@dataclass
class Running:
    """A service in a process of its own."""

    process: subprocess.Popen[str]
    url: str

    def check(self, generation_id: str) -> dict[str, Any]:
        query = {"prediction_id": generation_id}
        url = f"{self.url}/api/check-lipsync"
        answer = httpx.get(url, params=query, trust_env=False, timeout=60)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def until(self, generation_id: str, words: str, *, timeout_s: float = 200) -> dict[str, Any]:
        """Look until `words` is true of the body's percent and status."""
        end = time.monotonic() + timeout_s
        while True:
            body = self.check(generation_id)
            if (words == "final" and body["completed_at"]) or (
                words == "rendering" and body["progress"]["percent"] > 12
            ):
                return body
            assert time.monotonic() < end, body
            time.sleep(0.1)

    def start(self, portrait: Path, speech: Path) -> str:
        with httpx.Client(base_url=self.url, trust_env=False, timeout=60) as http:
            urls = {}
            for field, path in (("imageUrl", portrait), ("audioUrl", speech)):
                with path.open("rb") as file:
                    answer = http.post("/api/uploads", files={"file": file})
                assert answer.status_code == 201, answer.text
                urls[field] = answer.json()["url"]
            answer = http.post("/api/generate-lipsync", json={**urls, "options": {"size": 256}})
            assert answer.status_code == 202, answer.text
            return str(answer.json()["prediction_id"])


@contextmanager
def serving(folder: Path, **more: str) -> Iterator[Running]:
    """Run `sayso serve` on a free port; kill it, and its children, if it is left running."""
    words = ("serve", "--port", "0", "--data", str(folder / "data"))
    with (folder / "serve.log").open("a") as log, process_of(*words, log=log, **more) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://[^ ]+", line)
        assert found, (line, (folder / "serve.log").read_text())
        yield Running(process, found[0])


@contextmanager
def process_of(*words: str, log: IO[str], **more: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*SAYSO, *words],
        env={**environment(), **more},
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def seconds_of(video: Path) -> float:
    with av.open(str(video)) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
        assert container.duration is not None
        return float(container.duration / 1e6)


@pytest.fixture(scope="session")
def speech_of_3_s(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speech(tmp_path_factory.mktemp("speech") / "3s.wav", speech, seconds=3)


def test_a_service_that_is_killed_in_a_render_delivers_after_a_restart(
    tmp_path: Path, portrait: Path, speech: Path
) -> None:
    """SIGKILL of the whole process while the engine works; the video arrives, paid once."""
    with serving(tmp_path) as before:
        generation_id = before.start(portrait, speech)
        before.until(generation_id, "rendering")
        before.process.kill()
        before.process.wait()

    with serving(tmp_path) as after:
        assert after.check(generation_id)["credits"]["state"] == "held"
        body = after.until(generation_id, "final")
        assert body["status"] == "succeeded", body
        (tmp_path / "video.mp4").write_bytes(
            httpx.get(body["output"], trust_env=False, timeout=60).content
        )
        balance = httpx.get(f"{after.url}/api/credits", trust_env=False, timeout=60).json()
        captures = [entry for entry in balance["entries"] if entry["kind"] == "capture"]

    assert seconds_of(tmp_path / "video.mp4") == pytest.approx(10, abs=0.2)
    assert [entry["prediction_id"] for entry in captures] == [generation_id]
    assert (balance["balance"], balance["held"]) == ("4.90", "0.00")
    verified = sayso("verify-ledger", "--data", tmp_path / "data", cwd=tmp_path)
    assert (verified.returncode, verified.stdout.strip()) == (0, "the ledger is in order")
    reported = sayso("report", "spend", "--data", tmp_path / "data", "--json", cwd=tmp_path)
    (line,) = json.loads(reported.stdout)["lines"]
    assert (line["model"], line["succeeded"]) == ("sayso/portrait", 1)
    assert (line["captured"], line["cost_micros"], line["margin"]) == ("0.10", 0, "0.10")


def test_a_service_that_is_asked_to_stop_hands_its_render_back(
    tmp_path: Path, portrait: Path, speech: Path
) -> None:
    with serving(tmp_path) as before:
        generation_id = before.start(portrait, speech)
        before.until(generation_id, "rendering")
        before.process.send_signal(signal.SIGTERM)
        assert before.process.wait(60) == 0

    with serving(tmp_path) as after:
        assert after.until(generation_id, "final")["status"] == "succeeded"


def test_generate_uses_a_service_and_says_what_it_cost(
    tmp_path: Path, portrait: Path, speech_of_3_s: Path
) -> None:
    with serving(tmp_path) as service:
        ended = sayso(
            *("generate", portrait, speech_of_3_s, "-o", "out.mp4", "--size", "256"),
            *("--server", service.url),
            cwd=tmp_path,
        )
        quoted = sayso("quote", speech_of_3_s, "--server", service.url, "--json", cwd=tmp_path)
        shown = sayso("credits", "show", cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    assert "held $0.03 -> captured $0.03, balance $4.97" in ended.stdout
    assert seconds_of(tmp_path / "out.mp4") == pytest.approx(3, abs=0.2)
    assert json.loads(quoted.stdout)["cost"]["amount"] == "0.03"
    assert re.search(r"Z +-\$0\.03  capture [0-9a-z]{26}\n", shown.stdout)


def test_a_refusal_of_the_service_is_a_refusal_of_the_command(
    tmp_path: Path, speech_of_3_s: Path
) -> None:
    (tmp_path / "no.jpg").write_bytes(b"no picture")
    with serving(tmp_path) as service:
        ended = sayso(
            "generate", "no.jpg", speech_of_3_s, "--server", service.url, "--json", cwd=tmp_path
        )

    assert ended.returncode == 3
    assert json.loads(ended.stdout)["code"] == "image_unsupported"


def test_a_service_that_is_not_there_is_said_so(
    tmp_path: Path, portrait: Path, speech_of_3_s: Path
) -> None:
    ended = sayso(
        "generate", portrait, speech_of_3_s, "--server", "http://127.0.0.1:9", cwd=tmp_path
    )

    assert ended.returncode == 1
    assert "No service answers at http://127.0.0.1:9" in ended.stderr


def test_a_key_that_is_missing_is_asked_for_by_its_name(
    tmp_path: Path, speech_of_3_s: Path
) -> None:
    with serving(tmp_path, SAYSO_API_KEY="a key for this test") as service:
        words = ("quote", speech_of_3_s, "--server", service.url)

        locked_out = sayso(*words, cwd=tmp_path)
        let_in = sayso(*words, cwd=tmp_path, SAYSO_API_KEY="a key for this test")

    assert locked_out.returncode == 3
    assert "SAYSO_API_KEY" in locked_out.stderr
    assert let_in.returncode == 0, let_in.stderr


def test_a_service_behind_tls_is_used_or_its_certificate_named(
    tmp_path: Path, speech_of_3_s: Path
) -> None:
    with opened_front(tmp_path) as front, serving(tmp_path, SAYSO_PUBLIC_URL=front.url) as service:
        front.pass_on_to(service.url)
        words = ("quote", speech_of_3_s, "--server", front.url)

        trusting = sayso(*words, cwd=tmp_path, SSL_CERT_FILE=str(front.authority))
        doubting = sayso(*words, cwd=tmp_path)

    assert "= $0.03" in trusting.stdout, trusting.stderr
    assert doubting.returncode == 1
    assert f"The certificate of {front.url} is not trusted here" in doubting.stderr


def test_the_demo_shows_what_became_of_the_credits(tmp_path: Path, portrait: Path) -> None:
    name = "d" * 250 + ".mp4"  # As long as names can be.

    ended = sayso("demo", "--examples", portrait.parent, "-o", name, cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    assert "held $0.10 -> captured $0.10, balance $4.90" in ended.stdout
    assert seconds_of(tmp_path / name) == pytest.approx(10, abs=0.2)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_others_reach_needs_a_key(tmp_path: Path, host: str) -> None:
    ended = sayso("serve", "--host", host, "--port", "0", "--data", tmp_path, cwd=tmp_path)

    assert ended.returncode == 2
    assert "SAYSO_API_KEY" in ended.stderr


def test_a_port_that_is_taken_is_said_so(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        port = service.url.rpartition(":")[2]
        ended = sayso("serve", "--port", port, "--data", tmp_path / "other", cwd=tmp_path)

    assert ended.returncode == 2
    assert "cannot be bound" in ended.stderr


def test_the_operator_grants_and_sees_credits(tmp_path: Path) -> None:
    data = ("--data", tmp_path / "data")

    granted = sayso("credits", "grant", "2.50", "--reason", "a gift", *data, cwd=tmp_path)
    shown = sayso("credits", "show", *data, cwd=tmp_path)
    refused = sayso("credits", "grant", "nonsense", *data, cwd=tmp_path)
    verified = sayso("verify-ledger", *data, "--json", cwd=tmp_path)

    assert granted.stdout.strip() == "granted $2.50, available $7.50"
    assert "balance $7.50, held $0.00, available $7.50" in shown.stdout
    assert "a gift" in shown.stdout
    assert refused.returncode == 3
    assert json.loads(verified.stdout) == {"violations": []}


def test_a_worker_renders_what_a_service_without_renders_took(
    tmp_path: Path, portrait: Path, speech_of_3_s: Path
) -> None:
    words = ("worker", "--data", str(tmp_path / "data"))
    with (
        serving(tmp_path, SAYSO_RENDER_CHILDREN="0") as service,
        (tmp_path / "worker.log").open("w") as log,
        process_of(*words, log=log) as worker,
    ):
        assert worker.stdout is not None
        assert "ready" in worker.stdout.readline()
        generation_id = service.start(portrait, speech_of_3_s)
        assert service.until(generation_id, "final")["status"] == "succeeded"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
