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
    │   ├── InputTooHard           decoding it takes more time or memory than we give
    │   ├── UploadTooLarge         more bytes than the limit, found while they arrive
    │   └── OptionInvalid          an option's value makes no sense
    ├── UrlUnusable                a URL that we were given did not yield a file
    │   ├── UrlRefused             we do not fetch from such an address
    │   ├── DownloadTooLarge       more bytes than the limit
    │   └── DownloadFailed         its server did not give it; `may_retry` says if it may later
    ├── ChildFailed                a child process ended without a result
    │   ├── ChildTimedOut          it took more time than its limit
    │   └── ChildCrashed           it died: memory, a fault in a decoder, a signal
    ├── StoreUnavailable           the file store does not answer, or is full
    ├── ArtifactMissing            no such file is stored
    ├── LinkRefused                a link to a file is not one of ours
    │   └── LinkExpired            it was; ask for a new one
    ├── SignatureRefused           a webhook that was not signed by its sender, or is too old
    ├── SettingsInvalid            the environment holds a setting that cannot be used
    └── Canceled                   the caller asked to stop

Every class has a stable `code` (the API's and the CLI's word for it) and carries a sentence a user
understands as its text. Its HTTP status lies in `http/errors.py`, its exit code in `cli.py`.
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


class InputTooHard(InputRejected):
    """Decoding the file takes more time or memory than we give."""

    code = "input_too_hard"


class UploadTooLarge(InputRejected):
    """What arrives has more bytes than the limit."""

    code = "upload_too_large"


class UrlUnusable(SaysoError):
    """A URL that we were given did not yield a file."""

    code = "url_unusable"


class UrlRefused(UrlUnusable):
    """We do not fetch from such an address; nothing was sent to it."""

    code = "url_refused"


class DownloadTooLarge(UrlUnusable):
    """The file behind the URL has more bytes than the limit."""

    code = "download_too_large"


class DownloadFailed(UrlUnusable):
    """The URL's server did not give the file.

    `status` is its HTTP status, None when there was no answer; `may_retry` is True where the same
    request may succeed later.
    """

    code = "download_failed"

    def __init__(self, text: str, *, status: int | None = None, may_retry: bool = True) -> None:
        super().__init__(text)
        self.status = status
        self.may_retry = may_retry


class ChildFailed(SaysoError):
    """A child process ended without a result."""

    code = "child_failed"


class ChildTimedOut(ChildFailed):
    """A child process took more processor or wall time than its limit."""

    code = "child_timed_out"


class ChildCrashed(ChildFailed):
    """A child process died: out of memory, a fault in a decoder, a signal."""

    code = "child_crashed"


class StoreUnavailable(SaysoError):
    """The file store does not answer, refuses us or is full."""

    code = "store_unavailable"


class ArtifactMissing(SaysoError):
    """No such file is stored."""

    code = "artifact_missing"


class LinkRefused(SaysoError):
    """A link to a file is not one of ours, or was changed."""

    code = "link_refused"


class LinkExpired(LinkRefused):
    """A link to a file was ours and has expired."""

    code = "link_expired"


class SignatureRefused(SaysoError):
    """A webhook was not signed by its sender, was changed on the way or is too old."""

    code = "signature_refused"


class SettingsInvalid(SaysoError):
    """The environment holds settings that cannot be used; the text has a line for each."""

    code = "settings_invalid"


class Canceled(SaysoError):
    """The caller asked to stop; nothing is left behind."""

    code = "canceled"


@dataclass(frozen=True)
class Notice:
    """Something the user should know that does not stop the work: a stable code and a sentence."""

    code: str
    text: str
