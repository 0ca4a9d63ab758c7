"""The error tree: one class for each thing a caller would do differently.

    SaysoError
    ├── InputRejected              the caller's input cannot be used; nothing was started
    │   ├── ImageRejected
    │   │   ├── ImageUnsupported   not a picture of a kind we read
    │   │   ├── ImageTooLarge      too many bytes or pixels
    │   │   ├── ImageUnreadable    damaged
    │   │   ├── NoFace             no face was found
    │   │   ├── NoSuchFace         --face N names a face that is not there
    │   │   ├── FaceTooSmall       too few pixels to animate
    │   │   ├── FaceTurned         turned too far away
    │   │   └── FaceCut            mouth or chin lie outside the picture
    │   ├── SpeechRejected
    │   │   ├── SpeechTooLarge     too many bytes
    │   │   ├── SpeechUnreadable   not a recording, or damaged
    │   │   ├── NoAudioTrack       a video without sound
    │   │   ├── SpeechEmpty        no samples in it
    │   │   ├── SpeechTooShort
    │   │   └── SpeechTooLong
    │   ├── VideoUnreadable        `inspect` and the probe: not a video we can read
    │   └── OptionInvalid          an option's value makes no sense
    └── Canceled                   the caller asked to stop

Every class has a stable `code` (the API's and the CLI's word for it) and carries a sentence a user
understands as its text. The HTTP status of each lies in `http/errors.py`, its exit code in `cli.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class SaysoError(Exception):
    """The root: anything Sayso raises on purpose.

    `str(error)` is a sentence for the user; `code` never changes.
    """

    code: ClassVar[str] = "error"


class InputRejected(SaysoError):
    """The caller's input cannot be used; nothing was started and nothing is left behind."""

    code = "input_rejected"


class ImageRejected(InputRejected):
    """The portrait cannot be used."""

    code = "image_rejected"


class ImageUnsupported(ImageRejected):
    """The file is not a picture of a kind we read."""

    code = "image_unsupported"


class ImageTooLarge(ImageRejected):
    """The picture has more bytes or pixels than the limit."""

    code = "image_too_large"


class ImageUnreadable(ImageRejected):
    """The picture is damaged."""

    code = "image_unreadable"


class NoFace(ImageRejected):
    """No face was found in the picture."""

    code = "no_face"


class NoSuchFace(ImageRejected):
    """The face asked for by number is not in the picture."""

    code = "no_such_face"


class FaceTooSmall(ImageRejected):
    """The face has too few pixels to be animated."""

    code = "face_too_small"


class FaceTurned(ImageRejected):
    """The face is turned too far away from the camera."""

    code = "face_turned"


class FaceCut(ImageRejected):
    """The mouth or the chin lies outside the picture."""

    code = "face_cut"


class SpeechRejected(InputRejected):
    """The recording cannot be used."""

    code = "speech_rejected"


class SpeechTooLarge(SpeechRejected):
    """The recording has more bytes than the limit."""

    code = "speech_too_large"


class SpeechUnreadable(SpeechRejected):
    """The file is not a recording, or it is damaged."""

    code = "speech_unreadable"


class NoAudioTrack(SpeechRejected):
    """The file is a video without sound."""

    code = "no_audio_track"


class SpeechEmpty(SpeechRejected):
    """The recording holds no samples."""

    code = "speech_empty"


class SpeechTooShort(SpeechRejected):
    """The recording is shorter than the limit."""

    code = "speech_too_short"


class SpeechTooLong(SpeechRejected):
    """The recording is longer than the limit."""

    code = "speech_too_long"


class VideoUnreadable(InputRejected):
    """The file is not a video that can be read."""

    code = "video_unreadable"


class OptionInvalid(InputRejected):
    """An option has a value that makes no sense."""

    code = "option_invalid"


class Canceled(SaysoError):
    """The caller asked to stop; nothing is left behind."""

    code = "canceled"


@dataclass(frozen=True)
class Notice:
    """Something the user should know that does not stop the work: a stable code and a sentence."""

    code: str
    text: str
