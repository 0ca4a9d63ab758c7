"""Replicate's prediction, read as ours: nothing but its id and its status is taken for granted.

    to_prediction()   the object of create, get and list -> Prediction
    is_id()           whether a text can be a prediction's id, and so may stand in a path
    video_url_of()    where the video lies in an output that is a text, a list or an object
    words_of()        what stands in its addresses, by which an attempt is recognised
    model_of()        the entry of the catalogue that a prediction runs
    instant_of()      a time, however many digits it has

Fields come and go between two looks, times have 0 to 9 digits after the point, and the same one may
differ by milliseconds; a word that we do not know means "wait". After an hour Replicate removes
inputs, outputs and logs, and a success is then one without a video.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard
from urllib.parse import urlsplit

from sayso.catalogue.catalogue import Model
from sayso.clock import Instant, from_datetime
from sayso.ids import ProviderId
from sayso.providers.base import Failure, Prediction, PredictionStatus
from sayso.providers.replicate_errors import aborted, failure_of
from sayso.providers.replicate_progress import percent_of, shown_logs

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_STATUSES: Final[Mapping[str, PredictionStatus]] = {
    "starting": PredictionStatus.STARTING,
    "processing": PredictionStatus.PROCESSING,
    "succeeded": PredictionStatus.SUCCEEDED,
    "failed": PredictionStatus.FAILED,
    "canceled": PredictionStatus.CANCELED,
    # Its time was over before it began: nothing was made, and nothing is charged.
    "aborted": PredictionStatus.FAILED,
}
_VIDEO_SUFFIXES: Final = (".mp4", ".mov", ".webm", ".mkv", ".m4v")
_WORD: Final = re.compile(r"[A-Za-z0-9_-]+")
_MAX_URL: Final = 8_192
_MAX_TEXTS: Final = 1_000
_MAX_DEPTH: Final = 8
# A measure above this, a hundred days and more, is a mistake, and what it costs no amount.
_LONGEST_S: Final = 10_000_000


def is_id(text: object) -> TypeGuard[str]:
    """Whether this can be a prediction's id."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def to_prediction(body: Mapping[str, Any], model: Model | None) -> Prediction:
    """Return a prediction in our words; `model` says what it costs, None where it is not known.

    `body` has an `id` that passes `is_id`.
    """
    word = str(body.get("status"))
    status = _STATUSES.get(word, PredictionStatus.UNKNOWN)
    logs = _text(body.get("logs"))
    is_removed = body.get("data_removed") is True
    succeeded = status is PredictionStatus.SUCCEEDED
    return Prediction(
        provider_id=ProviderId(body["id"]),
        status=status,
        output=video_url_of(body.get("output")) if succeeded and not is_removed else None,
        failure=_failure_of(word, _text(body.get("error"))),
        percent=percent_of(logs) if status is PredictionStatus.PROCESSING else None,
        stage=_STAGES.get(status),
        logs=shown_logs(logs),
        cost_micros=_cost_of(body, model, word),
        started_at=instant_of(body.get("started_at")),
        finished_at=instant_of(body.get("completed_at")),
    )


def video_url_of(output: object) -> str | None:
    """Return the address of the video: the first that ends like one, else the first at all."""
    urls = [text for text in _texts(output) if _is_address(text)]
    return next(filter(_ends_like_a_video, urls), urls[0] if urls else None)


def _ends_like_a_video(url: str) -> bool:
    try:
        return urlsplit(url).path.lower().endswith(_VIDEO_SUFFIXES)
    except ValueError:  # A model may write what it likes; this is no address.
        return False


def words_of(body: Mapping[str, Any]) -> frozenset[str]:
    """Return the words in the addresses of a prediction's inputs and of its callback.

    Nonces and the ids of files are among them whole, so one is not found in another.
    """
    texts = [*_texts(body.get("input")), *_texts(body.get("webhook"))]
    return frozenset(word for text in texts if _is_address(text) for word in _WORD.findall(text))


def model_of(body: Mapping[str, Any], models: tuple[Model, ...]) -> Model | None:
    """Return the entry of the catalogue that a prediction runs, None where there is none.

    Of several entries for the same model, which differ in what they always send, it is the one that
    fits the most of the prediction's input.
    """
    given = body.get("input")
    given = given if isinstance(given, Mapping) else {}
    fitting = [
        model
        for model in models
        if model.upstream_name == body.get("model")
        and all(given.get(name) == value for name, value in model.fixed.items())
    ]
    return max(fitting, key=lambda model: len(model.fixed), default=None)


_STAGES: Final[Mapping[PredictionStatus, str]] = {
    PredictionStatus.STARTING: "queued",
    PredictionStatus.PROCESSING: "rendering",
}


def _failure_of(word: str, error: str | None) -> Failure | None:
    match word:
        case "failed":
            return failure_of(error)
        case "aborted":
            return aborted(error)
    return None


def _cost_of(body: Mapping[str, Any], model: Model | None, word: str) -> int | None:
    """Return what it costs us in micros by Replicate's own measures; None where it does not say.

    What never began costs nothing; nor does a failure at a model that is billed by the second of
    video, unless it says how long its video is.
    """
    status = _STATUSES.get(word)
    if word == "aborted":
        return 0
    if model is None or status is None or not status.is_final:
        return None
    metrics = body.get("metrics")
    measured = metrics if isinstance(metrics, Mapping) else {}
    video_s = _number(measured.get("video_output_duration_seconds"))
    if video_s is None and status is not PredictionStatus.SUCCEEDED:
        video_s = 0.0
    return model.cost_micros(video_s=video_s, run_s=_number(measured.get("predict_time")))


def instant_of(value: object) -> Instant | None:
    """Read a time with 0 to 9 digits after the point, and with or without a zone."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return from_datetime(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def _number(value: object) -> float | None:
    match value:
        case bool():
            return None
        case int() | float() if 0 <= value <= _LONGEST_S:
            return float(value)
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _is_address(text: str) -> bool:
    return len(text) <= _MAX_URL and text.lower().startswith(("http://", "https://"))


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in a JSON value, in order; not those that lie very deep or far."""
    stack: list[tuple[object, int]] = [(value, 0)]
    for _ in range(_MAX_TEXTS):
        if not stack:
            return
        item, depth = stack.pop()
        match item:
            case str():
                yield item
            case list() if depth < _MAX_DEPTH:
                stack.extend((part, depth + 1) for part in reversed(item))
            case dict() if depth < _MAX_DEPTH:
                stack.extend((part, depth + 1) for part in reversed(item.values()))
