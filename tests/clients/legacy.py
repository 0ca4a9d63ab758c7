"""The documents' example with the official Python client 1.x; its result goes out as JSON.

legacy.py run      create and wait, by file handles, by version, with a webhook; look around
legacy.py check    is the webhook on standard input signed by the service?
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import replicate  # type: ignore[import-not-found]  # Only in the folder that the test installs.
from replicate.webhook import (  # type: ignore[import-not-found]  # The same.
    Webhooks,
    WebhookSigningSecret,
)

MODEL = os.environ["MODEL"]


def run() -> dict[str, Any]:
    portrait, speech = Path(os.environ["PORTRAIT"]), Path(os.environ["SPEECH"])
    with portrait.open("rb") as image, speech.open("rb") as audio:
        output = replicate.run(MODEL, input={"image": image, "audio": audio})
    video = output.read()

    model = replicate.models.get(MODEL)
    image, audio = (replicate.files.create(path) for path in (portrait, speech))
    prediction = replicate.predictions.create(
        version=model.latest_version.id,
        input={"image": image.urls["get"], "audio": audio.urls["get"]},
        webhook=os.environ["WEBHOOK"],
        webhook_events_filter=["completed"],
    )
    first_status = prediction.status
    prediction.wait()

    stopped = replicate.models.predictions.create(
        MODEL, input={"image": image.urls["get"], "audio": audio.urls["get"]}
    )
    stopped.cancel()
    stopped.wait()
    refused = ""
    try:
        replicate.models.predictions.create(MODEL, input={"image": image.urls["get"]})
    except replicate.exceptions.ReplicateError as error:
        refused = f"{error.status} {error.title}"
    page = replicate.predictions.list()
    return {
        "kind": type(output).__name__,
        "ftyp": video[4:8].decode(),
        "first_status": first_status,
        "status": prediction.status,
        "output": prediction.output,
        "id": prediction.id,
        "stopped": stopped.status,
        "refused": refused,
        "listed": [one.id for one in page.results],
        "files": len(replicate.files.list()),
        "deleted": replicate.files.delete(image.id),
        "account": replicate.Client().accounts.current().username,
        "secret": replicate.webhooks.default.secret().key,
    }


def check(webhook: dict[str, Any]) -> dict[str, Any]:
    secret = WebhookSigningSecret(key=webhook["secret"])
    Webhooks.validate(headers=webhook["headers"], body=webhook["body"], secret=secret, tolerance=60)
    try:
        Webhooks.validate(headers=webhook["headers"], body=webhook["body"] + " ", secret=secret)
    except ValueError:
        return {"valid": True, "changed": False}
    return {"valid": True, "changed": True}


if __name__ == "__main__":
    result = run() if sys.argv[1] == "run" else check(json.load(sys.stdin))
    sys.stdout.write(json.dumps(result))
