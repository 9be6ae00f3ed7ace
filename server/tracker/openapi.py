"""The OpenAPI 3.1 document, made from the table of routes and the models that check requests. Decides nothing."""

from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from tracker import VERSION
from tracker import schemas as b
from tracker.errors import TrackerError, all_errors
from tracker.routes import ROUTES, Access, Route

_REF = "#/components/schemas/{model}"
_PARAMETERS: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "minLength": 1},
    "id": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    "match": {"type": "string", "maxLength": 1000},
    "after": {"type": "string"},
    "limit": {"type": "integer", "minimum": 1, "maximum": b.MAX_PAGE_SIZE},
}


def openapi_document() -> dict[str, Any]:
    """The whole document."""
    models = [route.response for route in ROUTES if route.response] + [b.Refusal]
    _, shared = models_json_schema([(m, "serialization") for m in dict.fromkeys(models)], ref_template=_REF)
    schemas: dict[str, Any] = dict(shared["$defs"])
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tracker", "version": VERSION, "description": _codes()},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.summary, "responses": _responses(route)}
    operation["security"] = [] if route.access is Access.PUBLIC else [{"token": []}]
    if route.access is Access.OWN_MACHINE:
        operation["security"].append({})
    if route.parameters:
        operation["parameters"] = [{"name": p, "in": "query", "schema": _PARAMETERS[p]} for p in route.parameters]
    if route.body is not None:
        schema = TypeAdapter(route.body).json_schema(ref_template=_REF)
        schemas.update(schema.pop("$defs", {}))
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _responses(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"type": "object"}}
    if route.media_type != "application/json":
        content = {"schema": {"type": "string"}}
    elif route.response is not None:
        content = {"schema": {"$ref": _REF.format(model=route.response.__name__)}}
    responses: dict[str, Any] = {
        str(status): {"description": "done", "content": {route.media_type: content}}
        for status in route.success_statuses
    }
    refusals: dict[int, list[str]] = {}
    for error in route.all_errors():
        refusals.setdefault(error.status, []).append(error.code)
    for status, codes in sorted(refusals.items()):
        # `code` is one of these; the shape is the same for all.
        schema = {"allOf": [{"$ref": _REF.format(model="Refusal")}, {"properties": {"code": {"enum": sorted(codes)}}}]}
        responses[str(status)] = {
            "description": " or ".join(sorted(codes)),
            "content": {"application/json": {"schema": schema}},
        }
    return responses


def _codes() -> str:
    rows = [f"| {e.status} | `{e.code}` | {_first_line(e)} |" for e in all_errors()]
    return "\n".join(["| status | code | meaning |", "|---|---|---|", *rows])


def _first_line(error: type[TrackerError]) -> str:
    return (error.__doc__ or "").strip().splitlines()[0]
