"""The catalogue: which models there are, read from `models.toml` and an operator's own file.

read_catalogue()     the models of both files, for the providers that are set up
Catalogue            finds a model by its name, and the default one
Model                where a model runs, what it costs, takes and needs
Option               one of a model's own settings; checks a given value

What a model says of the files that it takes is in `limits.py`.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from dataclasses import field as dataclass_field
from datetime import date
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from sayso.catalogue.limits import PortraitLimits, SpeechLimits
from sayso.errors import ModelUnavailable, ModelUnknown, OptionInvalid, SettingsInvalid

ProviderName = Literal["embedded", "replicate", "scripted"]
OptionValue = bool | int | float | str

OUR_MODEL: Final = "sayso/portrait"
# The default, where its provider is set up; else our own engine, which always is.
PREFERRED_MODELS: Final = ("wan-video/wan-2.2-s2v", OUR_MODEL)

_NAME: Final = r"^[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._-]*$"
_MAX_PROMPT: Final = 5_000  # characters
_MAX_TEXT: Final = 1_000

# What an operator can do about a model whose provider is not set up.
_SET_UP: Final[Mapping[str, str]] = {
    "replicate": "It runs at Replicate: set REPLICATE_API_TOKEN, or choose {ours}.",
    "scripted": "It is for tests: start the service with the scripted provider.",
    "embedded": "No render worker is set up here.",
}


@dataclass(frozen=True, kw_only=True)
class InputNames:
    """What the model itself calls its inputs; `prompt` is None where it takes none."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    portrait: str = "image"
    speech: str = "audio"
    prompt: str | None = None


@dataclass(frozen=True, kw_only=True)
class Option:
    """One of a model's own settings.

    `minimum` and `maximum` bound a number, or the length of a text in characters. An option
    without `default` is left out where it is not given, so the model decides.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    kind: Literal["integer", "number", "text", "boolean"]
    description: str
    default: OptionValue | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    def require_default(self) -> None:
        """Raise `ValueError` when its own default would be refused."""
        try:
            if self.default is not None:
                self.check(self.default)
        except OptionInvalid as error:
            raise ValueError(str(error)) from None

    def check(self, value: object) -> OptionValue:
        """Return the value; raise `OptionInvalid` when it is of another kind or out of range."""
        match self.kind, value:
            case "boolean", bool():
                return value
            case "integer", int() if not isinstance(value, bool):
                return self._in_range(value, value)
            case "integer", float() if value.is_integer():
                return self._in_range(int(value), value)
            case "number", (int() | float()) if not isinstance(value, bool):
                return self._in_range(value, value)
            case "text", str():
                return self._text(value)
        kind = {"integer": "a whole number", "text": "a text", "boolean": "true or false"}
        raise OptionInvalid(f"{self.name} must be {kind.get(self.kind, 'a number')}.")

    def _in_range(self, value: float, measure: float) -> int | float:
        # `not (a <= b)` also refuses NaN.
        if self.minimum is not None and not self.minimum <= measure:
            raise OptionInvalid(f"{self.name} must be at least {self.minimum:g}.")
        if self.maximum is not None and not measure <= self.maximum:
            raise OptionInvalid(f"{self.name} must be at most {self.maximum:g}.")
        return value

    def _text(self, value: str) -> str:
        longest = _MAX_TEXT if self.maximum is None else int(self.maximum)
        if self.choices and value not in self.choices:
            raise OptionInvalid(f"{self.name} must be one of {', '.join(self.choices)}.")
        if len(value) > longest:
            raise OptionInvalid(f"{self.name} must have at most {longest} characters.")
        return value


@dataclass(frozen=True, kw_only=True)
class Model:
    """An entry of the catalogue.

    `deadline_s` is None where the operator's general deadline counts. `prompt_default` is what is
    sent when a model insists on a prompt and the customer gave none; `fixed` is sent with every
    prediction. The typical time of a prediction is `typical_start_s` plus `typical_s_per_speech_s`
    for each second of speech.

    `rate_micros` is what a customer pays for a second of speech. What the provider charges us is
    `cost_rate_micros` for a second of video, the same where it says nothing; or, for a model that
    is billed by the time it runs, `cost_per_run_s_micros`. A model that costs the provider
    different prices is an entry for each, with an own name, `upstream`, and what is `fixed`.
    `is_official` is False for a model that its provider wants asked for by version.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=_NAME)]
    provider: ProviderName
    description: str
    rate_micros: Annotated[int, Field(ge=0)]
    price_read_on: date
    cost_rate_micros: Annotated[int, Field(ge=0)] | None = None
    cost_per_run_s_micros: Annotated[int, Field(ge=0)] | None = None
    needs_face: bool = True
    max_speech_s: Annotated[float, Field(gt=0)] = 600
    portrait: PortraitLimits = dataclass_field(default_factory=PortraitLimits)
    speech: SpeechLimits = dataclass_field(default_factory=SpeechLimits)
    deadline_s: Annotated[float, Field(gt=0)] | None = None
    typical_start_s: Annotated[float, Field(ge=0)] = 10
    typical_s_per_speech_s: Annotated[float, Field(gt=0)] = 10
    prompt_default: str | None = None
    inputs: InputNames = dataclass_field(default_factory=InputNames)
    fixed: Mapping[str, OptionValue] = dataclass_field(default_factory=dict)
    options: tuple[Option, ...] = ()
    # What the provider calls it, where that differs.
    upstream: Annotated[str, Field(pattern=_NAME)] | None = None
    is_official: bool = True

    def __post_init__(self) -> None:
        """Raise `ValueError` for an entry that contradicts itself."""
        if self.cost_rate_micros is not None and self.cost_per_run_s_micros is not None:
            raise ValueError("its cost is by the second of video or of the run, not by both")
        names = [self.inputs.portrait, self.inputs.speech, self.inputs.prompt, *self.fixed]
        names += [option.name for option in self.options]
        twice = sorted({name for name in names if name is not None and names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is sent twice")
        for option in self.options:
            option.require_default()

    @property
    def upstream_name(self) -> str:
        """The model's name at its provider."""
        return self.upstream or self.name

    @cached_property
    def version(self) -> str:
        """64 hex digits that change when anything about the entry does, as Replicate's do."""
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def costs_us(self) -> bool:
        """Whether its provider charges for it."""
        return self.cost_micros(video_s=1, run_s=1) != 0

    def cost_micros(self, *, video_s: float | None, run_s: float | None) -> int | None:
        """Return what the provider charges for a prediction; None where it does not say enough.

        `video_s` and `run_s` are the provider's own measures: the length of the video that it made,
        and the time that it took to.
        """
        if self.cost_per_run_s_micros is not None:
            return None if run_s is None else round(run_s * self.cost_per_run_s_micros)
        rate = self.rate_micros if self.cost_rate_micros is None else self.cost_rate_micros
        if rate == 0:
            return 0
        return None if video_s is None else round(video_s * rate)

    def typical_s(self, speech_s: float) -> float:
        """Return how long a prediction takes, by the catalogue's own word."""
        return self.typical_start_s + self.typical_s_per_speech_s * speech_s

    def check_options(self, given: Mapping[str, object]) -> dict[str, OptionValue]:
        """Return the options to send: those given, checked, and the defaults of the others.

        Raises `OptionInvalid` for a value that does not fit or a name that the model does not have.
        None counts as not given.
        """
        known = {option.name: option for option in self.options}
        for name in given:
            if name not in known:
                raise OptionInvalid(f"{self.name} has no option called {name[:40]}.")
        chosen: dict[str, OptionValue] = {}
        for option in self.options:
            value = given.get(option.name)
            if value is not None:
                chosen[option.name] = option.check(value)
            elif option.default is not None:
                chosen[option.name] = option.default
        return chosen

    def check_prompt(self, given: str | None) -> str | None:
        """Return the prompt to send: the given one, else the default; None where none is taken."""
        if given is not None and len(given) > _MAX_PROMPT:
            raise OptionInvalid(f"prompt must have at most {_MAX_PROMPT} characters.")
        text = (given or "").strip() or self.prompt_default
        return text if self.inputs.prompt is not None else None


class Catalogue:
    """The models of an installation, in the order of the files."""

    def __init__(self, models: Collection[Model], *, providers: Collection[str]) -> None:
        self._models = {model.name: model for model in models}
        self._providers = frozenset(providers)

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model, also those whose provider is not set up."""
        return tuple(self._models.values())

    @property
    def default(self) -> Model:
        """The model that is used when none is named."""
        for name in PREFERRED_MODELS:
            model = self._models.get(name)
            if model is not None and self.is_available(model):
                return model
        available = (model for model in self.models if self.is_available(model))
        model = next(available, None)
        if model is None:
            raise ModelUnavailable("No model can be used: no provider is set up.")
        return model

    def is_available(self, model: Model) -> bool:
        """Whether the model's provider is set up here."""
        return model.provider in self._providers

    def find(self, name: str) -> Model:
        """Return a model by its name, whether it can be used or not; raise `ModelUnknown`."""
        model = self._models.get(name)
        if model is None:
            known = ", ".join(self._models)
            raise ModelUnknown(f"There is no model called {name[:80]!r}. There are: {known}.")
        return model

    def version_of(self, name: str) -> str:
        """Return a model's version; `hidden`, Replicate's own word, for one that is gone."""
        model = self._models.get(name)
        return "hidden" if model is None else model.version

    def choose(self, name: str | None) -> Model:
        """Return the model to use, the default for None.

        Raises `ModelUnknown`, or `ModelUnavailable` with a text that says how to set it up.
        """
        if name is None:
            return self.default
        model = self.find(name)
        if not self.is_available(model):
            how = _SET_UP[model.provider].format(ours=OUR_MODEL)
            raise ModelUnavailable(f"{model.name} is not set up here. {how}")
        return model


def read_catalogue(
    operators_file: Path | None = None,
    *,
    providers: Collection[str],
    our_rate_micros: int | None = None,
) -> Catalogue:
    """Read the models that come with Sayso, then the operator's file over them, key by key.

    `our_rate_micros` is the price of our own model unless the operator's file names one. Raises
    `SettingsInvalid` when the operator's file cannot be read or an entry is not whole.
    """
    shipped = tomllib.loads(files(__package__).joinpath("models.toml").read_text("utf-8"))
    if our_rate_micros is not None:
        shipped[OUR_MODEL]["rate_micros"] = our_rate_micros
    entries = _merged(shipped, _read(operators_file)) if operators_file else shipped
    models = [_to_model(name, entry) for name, entry in entries.items()]
    return Catalogue(models, providers=providers)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"The catalogue file {path} cannot be read.") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsInvalid(f"The catalogue file {path} is not TOML: {error}.") from error


def _merged(shipped: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    for name, entry in own.items():
        if not isinstance(entry, dict):
            raise SettingsInvalid(f"In the catalogue file, {name} must be a table.")
    return {
        name: {**shipped.get(name, {}), **own.get(name, {})}
        for name in dict.fromkeys((*shipped, *own))
    }


def _to_model(name: str, entry: Mapping[str, Any]) -> Model:
    try:
        return _MODEL.validate_python({**entry, "name": name})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'entry'}: {e['msg']}" for e in error.errors()
        )
        raise SettingsInvalid(f"The catalogue's entry {name} cannot be used: {problems}.") from None


_MODEL: Final = TypeAdapter(Model)
