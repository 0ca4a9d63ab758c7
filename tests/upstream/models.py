"""The models that the upstream has, and what a create's body must be like.

MODELS             by name: official ones and some of the community, with their schemas
UpstreamModel      a model
faults_of_body()   what is wrong with a create's body, as `invalid_fields`
faults_of_input()  what is wrong with its input
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from tests.upstream import shapes
from tests.upstream.calls import Refused
from tests.upstream.shapes import fault_of

Schema = Mapping[str, Any]
Fault = dict[str, str]

_VERSION: Final = re.compile(r"(?:([\w.-]+/[\w.-]+):)?([0-9a-f]{64})|([\w.-]+/[\w.-]+)")
EVENTS: Final = ("start", "output", "logs", "completed")

_BODY: Final = frozenset({"input", "webhook", "webhook_events_filter", "stream"})
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_NAMES: Final[Mapping[type, str]] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}


@dataclass(frozen=True, kw_only=True)
class UpstreamModel:
    """A model; only an official one can be run by its name."""

    name: str
    is_official: bool
    inputs: Mapping[str, Schema]
    required: tuple[str, ...]

    @property
    def version(self) -> str:
        """The id of its latest version."""
        return sha256(self.name.encode()).hexdigest()

    @property
    def shown_version(self) -> str:
        """What its predictions say of the version."""
        return "hidden" if self.is_official else self.version


def model(name: str, *, is_official: bool, **inputs: Schema) -> UpstreamModel:
    """Return a model; an input without a default is required."""
    required = tuple(name for name, schema in inputs.items() if "default" not in schema)
    return UpstreamModel(name=name, is_official=is_official, inputs=inputs, required=required)


_TEXT: Final = {"type": "string"}
_FILE: Final = {"type": "string", "format": "uri"}

MODELS: Final[Mapping[str, UpstreamModel]] = {
    made.name: made
    for made in (
        model(
            "wan-video/wan-2.2-s2v",
            is_official=True,
            prompt=_TEXT,
            image=_FILE,
            audio=_FILE,
            num_frames_per_chunk={"type": "integer", "minimum": 1, "maximum": 121, "default": 81},
            seed={"type": "integer", "default": None},
        ),
        model("bytedance/omni-human", is_official=True, image=_FILE, audio=_FILE),
        model(
            "cjwbw/sadtalker",
            is_official=False,
            source_image=_FILE,
            driven_audio=_FILE,
            preprocess={
                "type": "string",
                "enum": ["crop", "resize", "full", "extcrop", "extfull"],
                "default": "crop",
            },
        ),
        model("lucataco/sadtalker", is_official=False, source_image=_FILE, driven_audio=_FILE),
    )
}


def official(models: Mapping[str, UpstreamModel], name: str) -> UpstreamModel:
    """Return the model that may be run by this name."""
    found = models.get(name)
    if found is None or not found.is_official:
        raise Refused(404, shapes.NOT_FOUND)
    return found


def model_of_version(models: Mapping[str, UpstreamModel], version: str) -> UpstreamModel:
    """Return the model that `version` names; only an official one goes by its name alone."""
    match = _VERSION.fullmatch(version)
    for one in models.values() if match else ():
        if match and match[3] is not None:
            if match[3] == one.name and one.is_official:
                return one
        elif match and match[2] == one.version and match[1] in {None, one.name}:
            return one
    raise Refused(422, shapes.UNKNOWN_VERSION)


def shown_model(found: UpstreamModel | None, rest: Sequence[str]) -> dict[str, Any]:
    """Return what is said of a model, or of its versions."""
    if found is None:
        raise Refused(404, shapes.NOT_FOUND)
    version = _shown_version(found)
    match rest:
        case []:
            owner, _, name = found.name.partition("/")
            return {
                "url": f"https://replicate.com/{found.name}",
                "owner": owner,
                "name": name,
                "description": "A model of the upstream.",
                "visibility": "public",
                "is_official": found.is_official,
                "run_count": 12_345,
                "cover_image_url": None,
                "default_example": None,
                "latest_version": version,
            }
        case ["versions"]:
            return {"next": None, "previous": None, "results": [version]}
        case ["versions", found.version]:
            return version
    raise Refused(404, shapes.NOT_FOUND)


def _shown_version(found: UpstreamModel) -> dict[str, Any]:
    given = {
        "type": "object",
        "required": list(found.required),
        "properties": {name: dict(schema) for name, schema in found.inputs.items()},
    }
    schemas = {"Input": given, "Output": {"type": "string", "format": "uri"}}
    return {
        "id": found.version,
        "created_at": "2025-08-27T11:13:02.501736Z",
        "cog_version": "0.16.2",
        "openapi_schema": {"openapi": "3.0.2", "components": {"schemas": schemas}},
    }


def faults_of_body(body: Mapping[str, Any], *, with_version: bool) -> list[Fault]:
    """Return what is wrong with the body around the input."""
    known = _BODY | {"version"} if with_version else _BODY
    faults = [
        fault_of("required", "", f"{name} is required")
        for name in ("version", "input")
        if name in known and name not in body
    ]
    faults += [
        fault_of(
            "additional_property_not_allowed", "", f"Additional property {name} is not allowed"
        )
        for name in body
        if name not in known
    ]
    for name, kind in (("version", "string"), ("input", "object"), ("webhook", "string")):
        if name in body and not isinstance(body[name], _TYPES[kind]):
            faults.append(_wrong_type(name, kind, body[name]))
    events = body.get("webhook_events_filter")
    if events is not None:
        faults += _faults_of_events(events, has_webhook="webhook" in body)
    return faults


def faults_of_input(model: UpstreamModel, given: Mapping[str, Any]) -> list[Fault]:
    """Return what is wrong with the input; what the model does not know is nobody's business."""
    faults = [
        fault_of("required", "input", f"{name} is required")
        for name in model.required
        if name not in given
    ]
    for name, schema in model.inputs.items():
        if given.get(name) is not None:
            faults += _faults_of_value(name, schema, given[name])
    return faults


def _faults_of_value(name: str, schema: Schema, value: object) -> list[Fault]:
    field, kind = f"input.{name}", schema["type"]
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return [_wrong_type(field, kind, value)]
    choices: Collection[str] = schema.get("enum", ())
    if choices and value not in choices:
        listed = ", ".join(f'"{choice}"' for choice in choices)
        return [fault_of("enum", field, f"{name} must be one of the following: {listed}")]
    if isinstance(value, int | float):
        if value > schema.get("maximum", value):
            said = f"Must be less than or equal to {schema['maximum']}"
            return [fault_of("number_lte", field, said)]
        if value < schema.get("minimum", value):
            said = f"Must be greater than or equal to {schema['minimum']}"
            return [fault_of("number_gte", field, said)]
    if schema.get("format") == "uri" and isinstance(value, str) and ":" not in value:
        return [fault_of("format", field, "Does not match format 'uri'")]
    return []


def _faults_of_events(events: object, *, has_webhook: bool) -> list[Fault]:
    field = "webhook_events_filter"
    if not has_webhook:
        return [fault_of("custom", "", f"{field} cannot be provided without webhook")]
    if not isinstance(events, list):
        return [_wrong_type(field, "array", events)]
    listed = ", ".join(f'"{name}"' for name in EVENTS)
    return [
        fault_of("enum", f"{field}.{n}", f"{field}.{n} must be one of the following: {listed}")
        for n, event in enumerate(events)
        if event not in EVENTS
    ]


def _wrong_type(field: str, kind: str, value: object) -> Fault:
    given = _NAMES.get(type(value), "unknown")
    return fault_of("invalid_type", field, f"Invalid type. Expected: {kind}, given: {given}")
