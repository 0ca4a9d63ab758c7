"""The documents' example with the official Python client 2.0 beta; its result goes out as JSON.

It has no check for webhooks, and takes an upload as bytes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import replicate  # type: ignore[import-not-found]  # Only in the folder that the test installs.

MODEL = os.environ["MODEL"]


def run() -> dict[str, Any]:
    client = replicate.Replicate()
    portrait, speech = Path(os.environ["PORTRAIT"]), Path(os.environ["SPEECH"])
    with portrait.open("rb") as image, speech.open("rb") as audio:
        output = client.run(MODEL, input={"image": image, "audio": audio})
    video = output.read()

    owner, name = MODEL.split("/")
    model = client.models.get(model_owner=owner, model_name=name)
    image, audio = (client.files.create(content=path) for path in (portrait, speech))
    given = {"image": image.urls.get, "audio": audio.urls.get}
    prediction = client.predictions.create(
        version=model.latest_version.id,
        input=given,
        webhook=os.environ["WEBHOOK"],
        webhook_events_filter=["completed"],
    )
    first_status = prediction.status
    prediction = client.predictions.wait(prediction.id)

    stopped = client.models.predictions.create(
        model_owner=owner, model_name=name, input=given, cancel_after="1h"
    )
    client.predictions.cancel(prediction_id=stopped.id)
    stopped = client.predictions.wait(stopped.id)
    refused = ""
    try:
        client.predictions.create(version=MODEL, input={"image": image.urls.get})
    except replicate.UnprocessableEntityError as error:
        refused = f"{error.status_code} {error.body['title']}"
    return {
        "kind": type(output).__name__,
        "ftyp": video[4:8].decode(),
        "first_status": first_status,
        "status": prediction.status,
        "output": prediction.output,
        "id": prediction.id,
        "stopped": stopped.status,
        "refused": refused,
        "listed": [one.id for one in client.predictions.list()],
        "files": len(list(client.files.list())),
        "deleted": client.files.delete(file_id=image.id) is None,
        "account": client.account.get().username,
        "secret": client.webhooks.default.secret.get().key,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run()))
