"""What a stranger's file is, found out in a child.

    Inspector.image()    an `ImageFacts`, or the `ImageRejected` that says why not
    Inspector.speech()   a `SpeechFacts`, or a `SpeechRejected`
    Inspector.video()    a `Probe`, or `VideoUnreadable`

A file that takes more time or memory than we give is refused with `InputTooHard`. Only so many
children run at a time; the others wait their turn. What the children do is in `media/tasks.py` and
`engine/tasks.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Protocol, Self, TypeVar

from pydantic import AfterValidator, Base64Bytes, TypeAdapter, ValidationError

from sayso.errors import ChildCrashed, ChildFailed, InputTooHard, Notice
from sayso.media.child import DECODE_LIMITS, ChildLimits, Json, run_child
from sayso.media.limits import decode_limits
from sayso.media.probe import Probe
from sayso.media.thumbnail import LARGEST_BYTES, is_webp
from sayso.settings import Settings

Facts = TypeVar("Facts", "ImageFacts", "SpeechFacts", Probe)


def _require_thumbnail(content: bytes) -> bytes:
    if len(content) > LARGEST_BYTES or not is_webp(content):
        raise ValueError("this is no thumbnail")
    return content


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class ImageFacts:
    """A picture that can be used.

    `width` and `height` are in pixels, as it is used: upright, and reduced if it was huge; the box
    of the `face` that would speak is in the same. `face_problem` says why none could. `suffix` is
    the ending that a file of this content should have. `thumbnail` is a WebP file.
    """

    suffix: str
    width: int
    height: int
    face: Box | None
    n_faces: int
    face_problem: Notice | None
    notices: tuple[Notice, ...]
    thumbnail: Annotated[Base64Bytes, AfterValidator(_require_thumbnail)]


@dataclass(frozen=True)
class SpeechFacts:
    """A recording that can be used; its length was counted from its samples."""

    suffix: str
    duration_s: float
    codec: str
    notices: tuple[Notice, ...]


# What a child says is checked like any input.
_IMAGE: Final = TypeAdapter(ImageFacts)
_SPEECH: Final = TypeAdapter(SpeechFacts)
_VIDEO: Final = TypeAdapter(Probe)


class RunChild(Protocol):
    """What `run_child` does for us."""

    async def __call__(
        self, task: str, arguments: Mapping[str, Json], *, limits: ChildLimits
    ) -> Json:
        """Run a task in a child and return its result."""
        ...


class Inspector:
    """Looks at files in children, a few at a time."""

    def __init__(
        self,
        *,
        image_limits: Mapping[str, Json] | None = None,
        speech_limits: Mapping[str, Json] | None = None,
        limits: ChildLimits = DECODE_LIMITS,
        at_once: int = 2,
        run: RunChild = run_child,
    ) -> None:
        """Take the fields of `ImageLimits` and `SpeechLimits` that differ from their defaults."""
        self._image_limits = dict(image_limits or {})
        self._speech_limits = dict(speech_limits or {})
        self._limits = limits
        self._run = run
        self._turn = asyncio.Semaphore(at_once)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return an inspector with the operator's limits."""
        return cls(
            image_limits={
                "size_bytes": settings.image_max_bytes,
                "pixels": settings.image_max_pixels,
            },
            speech_limits={
                "size_bytes": settings.speech_max_bytes,
                "shortest_s": settings.speech_min_s,
                "longest_s": settings.speech_max_s,
            },
            limits=decode_limits(settings),
            at_once=settings.decode_children,
        )

    async def image(self, path: Path) -> ImageFacts:
        """Read a picture and look for its face."""
        return await self._ask("inspect_image", path, self._image_limits, _IMAGE)

    async def speech(self, path: Path) -> SpeechFacts:
        """Decode a recording to its end."""
        return await self._ask("inspect_speech", path, self._speech_limits, _SPEECH)

    async def video(self, path: Path) -> Probe:
        """Measure a video."""
        return await self._ask("probe_video", path, {}, _VIDEO)

    async def _ask(
        self, task: str, path: Path, limits: dict[str, Json], shape: TypeAdapter[Facts]
    ) -> Facts:
        arguments: dict[str, Json] = {"path": str(path), "limits": limits}
        try:
            async with self._turn:
                result = await self._run(task, arguments, limits=self._limits)
        except ChildFailed as error:
            raise InputTooHard(
                "The file takes too much time or memory to decode, or it is damaged."
            ) from error
        try:
            return shape.validate_python(result)
        except ValidationError as error:
            raise ChildCrashed("The work ended with an answer that makes no sense.") from error
