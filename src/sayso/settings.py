"""Everything an operator can set: one frozen class, and the only reader of the environment.

    read_settings()   Settings from the environment, or `SettingsInvalid` with one sentence a line
    Settings          the fields: unit in the name, default, bounds, one sentence
    Peer              a `host:port` pair that the operator trusts
    variable_of()     a field's name in the environment

Each field is read from `SAYSO_` + its name in capitals; an empty variable counts as not set.
`docs/reference/settings.md` lists them, and a test compares that page with this class.
There is no host and port among them: those are options of `sayso serve`, and an orchestrator that
finds a service called `sayso` sets `SAYSO_PORT` to something of its own.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sayso.errors import SettingsInvalid

PREFIX: Final = "SAYSO_"

# Only the scripts beside the package read these.
_NOT_SETTINGS: Final = frozenset({"SAYSO_VENV"})

_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_HOUR_S: Final = 3600
_DAY_S: Final = 24 * _HOUR_S
_API_KEY_MIN_LENGTH: Final = 16

# A host name or an IPv4 address, or an IPv6 address in brackets, then a port.
_PEER: Final = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[0-9a-z._-]+):(?P<port>[0-9]{1,5})")
_MAX_PORT: Final = 65_535
_USUAL_PORTS: Final = {"http": ":80", "https": ":443"}


class Peer(NamedTuple):
    """A pair that outgoing requests may reach although it is private or plain http.

    `host` is in lower case, an IPv6 address without its brackets.
    """

    host: str
    port: int


def _to_peers(value: object) -> object:
    """Read `host:port,host:port`; anything but text is left to pydantic."""
    if not isinstance(value, str):
        return value
    return tuple(_to_peer(part.strip()) for part in value.split(",") if part.strip())


def _to_peer(text: str) -> Peer:
    match = _PEER.fullmatch(text.lower())
    if match is None or not 0 < int(match["port"]) <= _MAX_PORT:
        raise ValueError("must be host:port pairs, separated by commas")
    return Peer(match["host"].strip("[]"), int(match["port"]))


def _is_base_url(value: str) -> str:
    """Return an absolute http(s) URL as browsers write it: host in lower case, no usual port.

    It has no trailing slash, as links are built by appending.
    """
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an http or https URL without query and fragment")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or password")
    place = parts.netloc.lower().removesuffix(_USUAL_PORTS[parts.scheme]).removesuffix(":")
    return f"{parts.scheme}://{place}{parts.path}".rstrip("/")


def _is_storage(value: str) -> str:
    """Pass on a folder, or `s3://bucket` with an optional prefix."""
    scheme, separator, rest = value.partition("://")
    if separator and (scheme != "s3" or not rest.strip("/")):
        raise ValueError("must be a folder or s3://bucket/prefix")
    return value


def _is_hard_to_guess(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < _API_KEY_MIN_LENGTH:
        raise ValueError(f"must have at least {_API_KEY_MIN_LENGTH} characters")
    return value


BaseUrl = Annotated[str, AfterValidator(_is_base_url)]
Peers = Annotated[tuple[Peer, ...], NoDecode, BeforeValidator(_to_peers)]
Storage = Annotated[str, AfterValidator(_is_storage)]
ApiKey = Annotated[SecretStr, AfterValidator(_is_hard_to_guess)]


class Settings(BaseSettings):
    """What an operator decided; read once at the start and passed down.

    Tests and the command line give fields by name, which win over the environment.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        # A refused value may be a secret, and the error is printed.
        hide_input_in_errors=True,
    )

    # Where things are kept.
    data: Path = Field(
        default=Path("data"),
        description="Folder of the SQLite database, the stored files and unfinished uploads.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="Database to use instead of SQLite in the data folder: postgresql://...",
    )
    storage: Storage | None = Field(
        default=None,
        description="Where files are stored: a folder or s3://bucket/prefix;"
        " by default `artifacts` in the data folder.",
    )
    s3_endpoint: BaseUrl | None = Field(
        default=None, description="Address of an S3-compatible server; AWS itself when not set."
    )
    s3_region: str | None = Field(default=None, description="Region of the bucket.")
    s3_access_key_id: str | None = Field(
        default=None,
        description="Access key of the bucket; without one the AWS_* variables"
        " and the machine's role count.",
    )
    s3_secret_access_key: SecretStr | None = Field(
        default=None, description="Secret of that access key."
    )

    # Who may come in, and where we are found.
    api_key: ApiKey | None = Field(
        default=None,
        description="Key that both doors ask for; needed to bind anything but loopback.",
    )
    public_url: BaseUrl | None = Field(
        default=None,
        description="Address under which the outside world reaches this service;"
        " callbacks and signed links are built from it.",
    )

    # Providers.
    replicate_api_token: SecretStr | None = Field(
        default=None,
        validation_alias="REPLICATE_API_TOKEN",
        description="Token for Replicate; without one only models of our own engine run.",
    )
    replicate_url: BaseUrl = Field(
        default="https://api.replicate.com/v1",
        description="Where Replicate's API is spoken, by Replicate or by another Sayso; over plain"
        " http, or at a private address, only if it is among the trusted peers.",
    )
    models: Path | None = Field(
        default=None,
        description="TOML file whose models are added to the catalogue, or override its entries.",
    )
    trusted_peers: Peers = Field(
        default=(),
        description="Exact host:port pairs, separated by commas, that outgoing requests"
        " may reach although they are private or plain http.",
    )

    # What people may hand in.
    image_max_bytes: int = Field(
        default=20 * _MIB,
        ge=1_000,
        le=1_000 * _MIB,
        description="Largest portrait taken, in bytes.",
    )
    image_max_pixels: int = Field(
        default=50_000_000,
        ge=10_000,
        le=1_000_000_000,
        description="Largest portrait taken, in pixels.",
    )
    speech_max_bytes: int = Field(
        default=128 * _MIB,
        ge=1_000,
        le=10_000 * _MIB,
        description="Largest recording taken, in bytes.",
    )
    speech_min_s: float = Field(
        default=0.2, gt=0, le=10, description="Shortest recording taken, in seconds."
    )
    speech_max_s: float = Field(
        default=600,
        ge=1,
        le=36_000,
        description="Longest recording taken, in seconds; a model may say less.",
    )
    json_body_max_bytes: int = Field(
        default=32 * _MIB,
        ge=1_000,
        le=1_000 * _MIB,
        description="Largest JSON body taken, in bytes.",
    )
    video_max_bytes: int = Field(
        default=1_000 * _MIB,
        ge=1_000,
        le=100_000 * _MIB,
        description="Largest finished video fetched from a provider, in bytes.",
    )
    upload_max_s: float = Field(
        default=_HOUR_S, ge=1, le=_DAY_S, description="Longest time an upload may take, in seconds."
    )
    upload_keep_s: float = Field(
        default=_DAY_S,
        ge=60,
        le=365 * _DAY_S,
        description="How long an unfinished upload may lie in the data folder, in seconds.",
    )

    # Fetching URLs that people give us.
    fetch_connect_s: float = Field(
        default=5,
        gt=0,
        le=60,
        description="Longest wait for a connection to an input URL, in seconds.",
    )
    fetch_idle_s: float = Field(
        default=10,
        gt=0,
        le=300,
        description="Longest silence of a server we fetch from, in seconds.",
    )
    fetch_total_s: float = Field(
        default=60, gt=0, le=3600, description="Longest time to fetch one input URL, in seconds."
    )
    fetch_redirects: int = Field(
        default=3, ge=0, le=10, description="Redirects followed for one input URL; each is checked."
    )

    # Children that decode and render.
    decode_cpu_s: int = Field(
        default=10,
        ge=1,
        le=600,
        description="Processor time of a child that decodes an input, in seconds.",
    )
    decode_memory_bytes: int = Field(
        default=_GIB,
        ge=_GIB // 4,
        le=64 * _GIB,
        description="Address space of a decoding child, in bytes.",
    )
    decode_children: int = Field(
        default=2, ge=1, le=64, description="Inputs decoded at the same time."
    )
    render_cpu_s: int = Field(
        default=30, ge=1, le=3600, description="Processor time any render may take, in seconds."
    )
    render_cpu_per_speech_s: float = Field(
        default=2,
        ge=0,
        le=100,
        description="Further processor seconds a render may take for each second of speech.",
    )
    render_memory_bytes: int = Field(
        default=2 * _GIB,
        ge=_GIB // 2,
        le=64 * _GIB,
        description="Address space of a render, in bytes.",
    )
    render_file_bytes: int = Field(
        default=_GIB,
        ge=_MIB,
        le=64 * _GIB,
        description="Largest file a render may write, in bytes.",
    )
    render_children: int = Field(
        default=1,
        ge=0,
        le=64,
        description="Renders at the same time in one process; 0 leaves them to others.",
    )
    measure_max_s: float = Field(
        default=600,
        ge=0,
        le=36_000,
        description="Longest speech whose video is measured before it is delivered, in seconds,"
        " by a sample of its frames; 0 measures none.",
    )
    render_queue: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Renders that may wait; further ones are refused with 429.",
    )

    # Free previews.
    previews_per_hour: int = Field(
        default=30,
        ge=1,
        le=100_000,
        description="Free previews that an account gets in an hour; further ones are refused"
        " with 429.",
    )
    preview_wait_s: float = Field(
        default=45,
        ge=1,
        le=600,
        description="Longest time that a request waits for its preview, in seconds.",
    )

    # A generation's life.
    deadline_s: float = Field(
        default=600,
        ge=10,
        le=86_400,
        description="Time a generation may take, in seconds, unless its model says otherwise.",
    )
    poll_s: float = Field(
        default=5,
        ge=0.05,
        le=300,
        description="Shortest time between two looks at a provider, in seconds.",
    )
    provider_calls_per_s: float = Field(
        default=50,
        gt=0,
        le=10_000,
        description="Rate limit of the provider, in calls per second; polling uses at most half.",
    )
    wait_max_s: float = Field(
        default=50,
        ge=1,
        le=60,
        description="Longest time that `Prefer: wait` holds a request of /v1, in seconds.",
    )
    link_s: int = Field(
        default=3600,
        ge=600,
        le=604_800,
        description="Shortest life of a signed link to a file, in seconds;"
        " it ends on a full hour after that.",
    )

    # Money, in millionths of a US dollar.
    opening_balance_micros: int = Field(
        default=5_000_000,
        ge=0,
        le=1_000_000_000_000,
        description="Credit of a new local account, in millionths of a dollar.",
    )
    portrait_rate_micros: int = Field(
        default=10_000,
        ge=0,
        le=1_000_000_000,
        description="Price of a second of `sayso/portrait`, in millionths of a dollar; 0 is free.",
    )

    # What the operator sees.
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least urgent events that are logged."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="How a log line is written."
    )

    @property
    def database(self) -> str:
        """The database's URL: the one set, else SQLite in the data folder."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.database_file}"

    @property
    def database_file(self) -> Path:
        """Where SQLite's database lies when no other is set."""
        return self.data / "sayso.db"

    @property
    def artifacts(self) -> str:
        """Where files are stored: the place set, else a folder in the data folder."""
        return self.storage or str(self.data / "artifacts")


def read_settings(**overrides: object) -> Settings:
    """Read the environment; an override that is None counts as not given.

    Raises `SettingsInvalid` with a line for each variable that cannot be used, among them a
    variable that is almost, but not quite, the name of a setting.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    problems = _misspelt(os.environ.keys())
    try:
        settings = Settings(**given)  # type: ignore[arg-type]  # pydantic checks them.
    except ValidationError as error:
        problems += [_sentence(str(e["loc"][0]), e["msg"]) for e in error.errors()]
        raise SettingsInvalid("\n".join(problems)) from None
    if problems:
        raise SettingsInvalid("\n".join(problems))
    return settings


def variable_of(field_name: str) -> str:
    """Return the environment variable of a field of `Settings`."""
    alias = Settings.model_fields[field_name].validation_alias
    return alias if isinstance(alias, str) else PREFIX + field_name.upper()


def _sentence(location: str, message: str) -> str:
    name = variable_of(location) if location in Settings.model_fields else location
    return f"{name}: {message.removeprefix('Value error, ')}."


def _misspelt(names: Iterable[str]) -> list[str]:
    """Say which variables look like a setting but are none; unlike ones are somebody else's."""
    known = {variable_of(field) for field in Settings.model_fields}
    ours = {n.upper() for n in names if n.upper().startswith(PREFIX)}
    problems = []
    for name in sorted(ours - known - _NOT_SETTINGS):
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if close:
            problems.append(f"{name}: there is no such setting; is {close[0]} meant?")
    return problems
