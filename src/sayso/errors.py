"""The error tree: one class for each thing a caller would do differently.

    SaysoError
    ├── InputRejected              the caller's input cannot be used; nothing was started
    │   ├── ImageRejected
    │   │   ├── ImageUnsupported   not a picture of a kind we read
    │   │   ├── ImageTooLarge      too many bytes or pixels
    │   │   ├── ImageTooSmall      too few pixels for the model
    │   │   ├── ImageUnreadable    damaged
    │   │   ├── NoFace             no face was found
    │   │   ├── NoSuchFace         --face N names a face that is not there
    │   │   ├── FaceTooSmall       too few pixels to animate
    │   │   ├── FaceTurned         turned too far away
    │   │   └── FaceCut            mouth or chin lie outside the picture
    │   ├── SpeechRejected
    │   │   ├── SpeechTooLarge     too many bytes
    │   │   ├── SpeechUnsupported  a recording of a kind that the model does not take
    │   │   ├── SpeechUnreadable   not a recording, or damaged
    │   │   ├── NoAudioTrack       a video without sound
    │   │   ├── SpeechEmpty        no samples in it
    │   │   ├── SpeechTooShort
    │   │   └── SpeechTooLong
    │   ├── VideoUnreadable        `inspect` and the probe: not a video we can read
    │   ├── InputTooHard           decoding it takes more time or memory than we give
    │   ├── UploadTooLarge         more bytes than the limit, found while they arrive
    │   ├── OptionInvalid          an option's value makes no sense
    │   ├── ModelUnknown           no entry of the catalogue has this name
    │   └── ModelUnavailable       its provider is not set up here
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
    ├── DatabaseUnavailable        the database does not answer; nothing was half done
    │   ├── DatabaseBusy           too much waits for it: try again in a moment
    │   └── DatabaseFull           its disk has no room: reads go on, writes are refused
    ├── DatabaseUnsupported        a kind or an age of database that we cannot use
    ├── SchemaTooNew               a newer Sayso has migrated this database
    ├── InsufficientCredits        the account has less available than the price
    ├── LedgerRefused              a request that the ledger can never grant
    │   ├── NoSuchAccount
    │   ├── NoSuchHold
    │   ├── AmountInvalid          not an amount of money, or not a positive one
    │   ├── CaptureTooLarge        more than the hold holds
    │   ├── HoldAlreadySettled     it ended otherwise, and final is final
    │   └── IdReused               the id names something else already
    ├── NoSuchGeneration           no generation of this account has this id
    ├── GenerationActive           it has to end before that can be done
    ├── KeyReused                  an Idempotency-Key that stood for another request
    ├── StillCreating              the first request with this key is not answered yet
    ├── QueueFull                  too many wait for this provider; nothing was held
    ├── PreviewsUsedUp             the account has had as many previews as an hour gives
    ├── PreviewNotReady            it takes longer than a request waits: ask again
    ├── ProviderError              what a provider did with a call
    │   ├── ProviderRejected       it will never take this: release, tell the customer
    │   ├── ProviderUnavailable    it refused for now: nothing was created, try later
    │   ├── ProviderTimedOut       no answer: nobody knows whether it was done
    │   └── OutputLost             it made a video and no longer has it
    ├── VideoRefused               a provider's video failed the probe
    ├── RequestRefused             an HTTP request that is not even read
    │   ├── KeyRequired            it needs the service's key
    │   ├── AddressRefused         it came by a host name or from a site that may not come in
    │   ├── TooManyTries           too many wrong keys: wait
    │   ├── BodyTooLarge           more bytes than the limit
    │   ├── BodyTooSlow            it did not arrive in time
    │   ├── BodyUnsupported        not of the media type that is read here
    │   └── BodyInvalid            not what the reference says
    ├── GenerationTimedOut         a request waited for a video that did not come in time
    ├── ShuttingDown               the service is stopping: ask again in a moment
    ├── ServiceUnreachable         the command line's service does not answer
    ├── ServiceRefused             it did, with an error of its own: `service_code`
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


class ImageTooSmall(ImageRejected):
    """The picture has fewer pixels than its model needs."""

    code = "image_too_small"


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


class SpeechUnsupported(SpeechRejected):
    """The recording is of a kind that its model does not take; another format of it would do."""

    code = "speech_unsupported"


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


class ModelUnknown(InputRejected):
    """No entry of the catalogue has this name."""

    code = "model_unknown"


class ModelUnavailable(InputRejected):
    """The model's provider is not set up here; the text says how to do that."""

    code = "model_unavailable"


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


class DatabaseUnavailable(SaysoError):
    """The database does not answer; nothing was half done, and the same request may be repeated."""

    code = "database_unavailable"


class DatabaseBusy(DatabaseUnavailable):
    """Too much waits for the database, or a lock is held for too long: try again in a moment."""

    code = "database_busy"


class DatabaseFull(DatabaseUnavailable):
    """The database's disk has no room: reads go on, writes are refused until there is some."""

    code = "database_full"


class DatabaseUnsupported(SaysoError):
    """A kind of database that we do not know, or a version that is too old."""

    code = "database_unsupported"


class SchemaTooNew(SaysoError):
    """A newer Sayso has migrated this database; this one would misread it."""

    code = "schema_too_new"

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"The database is at revision {revision}, which this version of Sayso does not know: "
            "a newer version has been here. Start that one, or restore the copy made before it."
        )
        self.revision = revision


class InsufficientCredits(SaysoError):
    """The account has less available than the price; nothing was held."""

    code = "insufficient_credits"


class LedgerRefused(SaysoError):
    """A request that the ledger can never grant, however often it is repeated."""

    code = "ledger_refused"


class NoSuchAccount(LedgerRefused):
    """No account of a customer has this id."""

    code = "no_such_account"


class NoSuchHold(LedgerRefused):
    """No hold has this id."""

    code = "no_such_hold"


class AmountInvalid(LedgerRefused):
    """The text is no amount of money, or the amount is not positive."""

    code = "amount_invalid"


class CaptureTooLarge(LedgerRefused):
    """More was to be captured than the hold holds."""

    code = "capture_too_large"


class HoldAlreadySettled(LedgerRefused):
    """The hold ended otherwise, and final is final."""

    code = "hold_already_settled"


class IdReused(LedgerRefused):
    """The id names something else already."""

    code = "id_reused"


class NoSuchGeneration(SaysoError):
    """No generation of this account has this id."""

    code = "no_such_generation"


class GenerationActive(SaysoError):
    """The generation has to end, or be canceled, before that can be done."""

    code = "generation_active"


class KeyReused(SaysoError):
    """The Idempotency-Key stood for another request."""

    code = "idempotency_key_reused"


class StillCreating(SaysoError):
    """The first request with this Idempotency-Key is not answered yet; ask again in a moment."""

    code = "still_creating"


class QueueFull(SaysoError):
    """Too many generations wait for this provider; nothing was held.

    `retry_after_s` says when it is worth trying again.
    """

    code = "queue_full"

    def __init__(self, text: str, *, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class PreviewsUsedUp(SaysoError):
    """The account has had as many free previews as it gets in an hour.

    `retry_after_s` says when there is another one.
    """

    code = "previews_used_up"

    def __init__(self, text: str, *, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class PreviewNotReady(SaysoError):
    """A preview takes longer than a request waits; the same request finds it later."""

    code = "preview_not_ready"

    def __init__(self, text: str, *, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class ProviderError(SaysoError):
    """A call to a provider did not end as asked.

    The text is for customers; `raw` is the provider's own word, for the operator's eyes only.
    """

    code = "provider_error"

    def __init__(self, text: str, *, raw: str | None = None) -> None:
        super().__init__(text)
        self.raw = raw


class ProviderRejected(ProviderError):
    """The provider will never take this: release the hold and tell the customer."""

    code = "provider_rejected"


class ProviderUnavailable(ProviderError):
    """The provider refused for now and created nothing; try again in `retry_after_s`."""

    code = "provider_unavailable"

    def __init__(self, text: str, *, retry_after_s: float, raw: str | None = None) -> None:
        super().__init__(text, raw=raw)
        self.retry_after_s = retry_after_s


class ProviderTimedOut(ProviderError):
    """No answer came: nobody knows whether the call was carried out."""

    code = "provider_timed_out"


class OutputLost(ProviderError):
    """The provider made a video and no longer has it."""

    code = "output_lost"


class VideoRefused(SaysoError):
    """A provider's video failed the probe: it is not delivered and not paid."""

    code = "video_refused"


class RequestRefused(SaysoError):
    """An HTTP request that is refused before anything is done for it."""

    code = "request_refused"


class KeyRequired(RequestRefused):
    """The request needs the service's key, as a bearer token or by the page."""

    code = "key_required"


class AddressRefused(RequestRefused):
    """The request names a host, or comes from a site, that may not come in here."""

    code = "address_refused"


class TooManyTries(RequestRefused):
    """Too many wrong keys came; `retry_after_s` says when another is looked at."""

    code = "too_many_tries"

    def __init__(self, text: str, *, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class BodyTooLarge(RequestRefused):
    """The request's body has more bytes than the limit."""

    code = "body_too_large"


class BodyTooSlow(RequestRefused):
    """The request's body did not arrive in time."""

    code = "body_too_slow"


class BodyUnsupported(RequestRefused):
    """The request's body is not of the media type that is read here."""

    code = "body_unsupported"


class BodyInvalid(RequestRefused):
    """The request's body or query is not what the reference says."""

    code = "body_invalid"


class GenerationTimedOut(SaysoError):
    """A request waited for a video that did not come in time; `generation_id` says which."""

    code = "generation_timed_out"

    def __init__(self, text: str, *, generation_id: str) -> None:
        super().__init__(text)
        self.generation_id = generation_id


class ShuttingDown(SaysoError):
    """The service is stopping or starting again; the same request may be repeated."""

    code = "shutting_down"


class ServiceUnreachable(SaysoError):
    """The service that the command line is to use does not answer."""

    code = "service_unreachable"


class ServiceRefused(SaysoError):
    """The service answered with an error; `service_code` is its own code for it."""

    code = "service_refused"

    def __init__(self, text: str, *, status: int, service_code: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.service_code = service_code

    @property
    def is_about_input(self) -> bool:
        """Whether the same request would be refused again."""
        return 400 <= self.status < 500  # noqa: PLR2004 (HTTP's client errors)


class Canceled(SaysoError):
    """The caller asked to stop; nothing is left behind."""

    code = "canceled"


@dataclass(frozen=True)
class Notice:
    """Something the user should know that does not stop the work: a stable code and a sentence."""

    code: str
    text: str
