"""``/openapi.json``: the API's operations and models as an OpenAPI 3.1 document."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import sidecar
from sidecar.core.problems import MEDIA_TYPE, PROBLEM_TYPES
from sidecar.portal.api import EVERY_OPERATION_CODES, OPERATIONS, Operation
from sidecar.portal.problem_responses import Problem
from sidecar.portal.token_models import MadeToken, NewToken, Rotation, Token

_REF: Final = "#/components/schemas/{model}"
_MODELS: Final[tuple[type[BaseModel], ...]] = (Token, MadeToken, NewToken, Rotation, Problem)
_TOKEN_ID: Final = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The token's id, as the list shows it.",
    "schema": {"type": "string", "pattern": "^[0-9a-z]{14}$"},
}
_RETRY_AFTER: Final = {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}
_CHALLENGE: Final = {"required": True, "schema": {"type": "string"}}
_LOCATION: Final = {"required": True, "schema": {"type": "string", "format": "uri-reference"}}
_HEADERS_OF_STATUS: Final = {
    401: {"WWW-Authenticate": _CHALLENGE},
    429: {"Retry-After": {"required": True, **_RETRY_AFTER}},
    503: {"Retry-After": {"required": True, **_RETRY_AFTER}},
}


def describe() -> dict[str, Any]:
    """Return the document, ready for JSON."""
    paths: dict[str, Any] = defaultdict(dict)
    for operation in OPERATIONS:
        paths[operation.path][operation.method.lower()] = _describe(operation)
    modes = [
        (model, "serialization" if model in (Token, MadeToken) else "validation")
        for model in _MODELS
    ]
    _, schemas = models_json_schema(modes, ref_template=_REF)  # type: ignore[arg-type]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "API keys",
            "version": sidecar.__version__,
            "description": "Lets an account holder create, list, rotate and revoke its tokens.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"password": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "password": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The account's name and password, on each request.",
                }
            },
        },
    }


def _describe(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.view.__name__.strip("_") + "_token",
        "summary": operation.summary,
        "responses": {
            str(operation.status): _success(operation),
            **_refusals((*EVERY_OPERATION_CODES, *operation.codes)),
            "417": _refusal(417, ["bad_request"]),
        },
    }
    if "{id}" in operation.path:
        described["parameters"] = [_TOKEN_ID]
    if operation.request_model is not None:
        described["requestBody"] = {
            "required": operation.is_body_required,
            "content": {"application/json": {"schema": _ref(operation.request_model)}},
        }
    return described


def _success(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"description": operation.summary}
    if operation.response_model is not None:
        one = _ref(operation.response_model)
        schema = {"type": "array", "items": one} if operation.returns_list else one
        described["content"] = {"application/json": {"schema": schema}}
    if operation.status == 201:
        described["headers"] = {"Location": _LOCATION}
    return described


def _refusals(codes: Iterable[str]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in codes:
        by_status[PROBLEM_TYPES[code].status].append(code)
    return {str(status): _refusal(status, by_status[status]) for status in sorted(by_status)}


def _refusal(status: int, codes: list[str]) -> dict[str, Any]:
    meanings = "; ".join(f"`{code}`: {PROBLEM_TYPES[code].title}" for code in codes)
    described: dict[str, Any] = {
        "description": meanings,
        "content": {MEDIA_TYPE: {"schema": _ref(Problem)}},
    }
    if status in _HEADERS_OF_STATUS:
        described["headers"] = _HEADERS_OF_STATUS[status]
    return described


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
