"""`/v1/models`: the catalogue as Replicate's models, each with one version.

    GET  /v1/models, /v1/models/{owner}/{name}
    GET  /v1/models/{owner}/{name}/versions[/{id}]

A version's id changes when anything about the entry does. Its `openapi_schema` says what the model
takes and gives, in the form that clients and other tools read from Cog.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from sayso.catalogue.catalogue import Catalogue, Model, Option
from sayso.clock import from_datetime, iso
from sayso.errors import ModelUnknown
from sayso.http.auth import Caller
from sayso.http.doors import Shared, base_of
from sayso.http.replicate_errors import Refused, ReplicateRoute, operation_id
from sayso.http.replicate_schema import MODEL, VERSION, answers, page_of
from sayso.http.wire import encode

_COG_VERSION: Final = "0.23.1"
_TYPES: Final = {"integer": "integer", "number": "number", "text": "string", "boolean": "boolean"}

router: Final = APIRouter(
    tags=["replicate"], route_class=ReplicateRoute, generate_unique_id_function=operation_id
)


@router.get("/v1/models", response_class=Response, responses=answers(page_of(MODEL)))
async def list_models(request: Request, caller: Caller, doors: Shared) -> Response:
    """List the models of the catalogue that can be used here."""
    services = doors.services
    counts = await services.generations.counts(caller)
    base = base_of(request.scope, doors.settings)
    catalogue = services.catalogue
    results = [
        _model_of(model, counts, base)
        for model in catalogue.models
        if catalogue.is_available(model)
    ]
    return _json({"previous": None, "next": None, "results": results})


@router.get("/v1/models/{owner}/{name}", response_class=Response, responses=answers(MODEL, 404))
async def get_model(
    owner: str, name: str, request: Request, caller: Caller, doors: Shared
) -> Response:
    """Describe a model."""
    model = named_model(doors.services.catalogue, owner, name)
    counts = await doors.services.generations.counts(caller)
    return _json(_model_of(model, counts, base_of(request.scope, doors.settings)))


@router.get(
    "/v1/models/{owner}/{name}/versions",
    response_class=Response,
    responses=answers(page_of(VERSION), 404),
)
async def list_versions(owner: str, name: str, _caller: Caller, doors: Shared) -> Response:
    """List a model's versions: the one that there is."""
    model = named_model(doors.services.catalogue, owner, name)
    return _json({"previous": None, "next": None, "results": [_version_of(model)]})


@router.get(
    "/v1/models/{owner}/{name}/versions/{id}",
    response_class=Response,
    responses=answers(VERSION, 404),
)
async def get_version(owner: str, name: str, id: str, _caller: Caller, doors: Shared) -> Response:  # noqa: A002 (the path's own word)
    """Describe a model's version."""
    model = named_model(doors.services.catalogue, owner, name)
    if id != model.version:
        raise Refused(404, f"{model.name} has no such version.", code=ModelUnknown.code)
    return _json(_version_of(model))


def named_model(catalogue: Catalogue, owner: str, name: str) -> Model:
    """Return a model by the two parts of its name; 404 when there is none."""
    try:
        return catalogue.find(f"{owner}/{name}")
    except ModelUnknown as error:
        raise Refused(404, str(error), code=error.code) from None


def schema_of(model: Model) -> dict[str, Any]:
    """Return the model's inputs and output as an OpenAPI document, as Cog writes them."""
    names = model.inputs
    properties = {
        names.portrait: _file("The portrait: a picture with a face.", 0),
        names.speech: _file("The recording that it says.", 1),
    }
    required = [names.portrait, names.speech]
    if names.prompt is not None:
        properties[names.prompt] = {
            "type": "string",
            "title": _titled(names.prompt),
            "description": "What the scene is like.",
            "x-order": len(properties),
            **({} if model.prompt_default is None else {"default": model.prompt_default}),
        }
    for option in model.options:
        properties[option.name] = _option(option, len(properties))
    output = {"type": "string", "title": "Output", "format": "uri"}
    inputs = {
        "type": "object",
        "title": "Input",
        "required": required,
        "properties": properties,
    }
    return {
        "openapi": "3.0.2",
        "info": {"title": model.name, "version": model.version},
        "paths": {},
        "components": {"schemas": {"Input": inputs, "Output": output}},
    }


def _model_of(model: Model, counts: Mapping[str, int], base: str) -> dict[str, Any]:
    owner, _, name = model.name.partition("/")
    return {
        "url": f"{base}/v1/models/{model.name}",
        "owner": owner,
        "name": name,
        "description": model.description,
        "visibility": "public",
        "is_official": True,
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": counts.get(model.name, 0),
        "cover_image_url": None,
        "default_example": None,
        "latest_version": _version_of(model),
    }


def _version_of(model: Model) -> dict[str, Any]:
    read_on = model.price_read_on
    begun = datetime(read_on.year, read_on.month, read_on.day, tzinfo=UTC)
    return {
        "id": model.version,
        "created_at": iso(from_datetime(begun)),
        # What made the schema; clients read from it only that it is newer than 0.3.9.
        "cog_version": _COG_VERSION,
        "openapi_schema": schema_of(model),
    }


def _file(description: str, order: int) -> dict[str, Any]:
    title = "Portrait" if order == 0 else "Speech"
    return {
        "type": "string",
        "title": title,
        "format": "uri",
        "description": description,
        "x-order": order,
    }


def _option(option: Option, order: int) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": _TYPES[option.kind],
        "title": _titled(option.name),
        "description": option.description,
        "x-order": order,
    }
    if option.default is not None:
        schema["default"] = option.default
    if option.choices:
        schema["enum"] = list(option.choices)
    is_text = option.kind == "text"
    if option.minimum is not None:
        schema["minLength" if is_text else "minimum"] = option.minimum
    if option.maximum is not None:
        schema["maxLength" if is_text else "maximum"] = option.maximum
    return schema


def _titled(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _json(body: object) -> Response:
    return Response(encode(body), media_type="application/json")
