"""The OpenAPI 3.1 document, made from the table of routes and tracker.schemas."""

from typing import Any

from pydantic import TypeAdapter

from tracker import VERSION, schemas
from tracker.errors import TrackerError, all_errors
from tracker.routes import ROUTES, Access, Route

_REF = "#/components/schemas/{model}"
_PARAMETERS: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "minLength": 1},
    "id": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    "match": {"type": "string", "maxLength": 1000},
    "after": {"type": "string"},
    "limit": {"type": "integer", "minimum": 1, "maximum": schemas.MAX_PAGE_SIZE},
}


def openapi_document() -> dict[str, Any]:
    """Make the document, as JSON values."""
    responses = dict.fromkeys([route.response for route in ROUTES if route.response] + [schemas.ErrorResponse])
    _, shared = TypeAdapter.json_schemas(
        [(response, "serialization", TypeAdapter(response)) for response in responses], ref_template=_REF
    )
    components: dict[str, Any] = dict(shared["$defs"])
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tracker", "version": VERSION, "description": _codes()},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.summary, "responses": _responses(route)}
    operation["security"] = [] if route.access is Access.PUBLIC else [{"token": []}]
    if route.access is Access.OWN_MACHINE:
        operation["security"].append({})
    if route.parameters:
        operation["parameters"] = [{"name": p, "in": "query", "schema": _PARAMETERS[p]} for p in route.parameters]
    if route.body is not None:
        schema = TypeAdapter(route.body).json_schema(ref_template=_REF)
        components.update(schema.pop("$defs", {}))
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
    errors: dict[int, list[str]] = {}
    for error in route.all_errors():
        errors.setdefault(error.status, []).append(error.code)
    for status, codes in sorted(errors.items()):
        # The shape is the same for all errors; only the codes differ.
        schema = {
            "allOf": [{"$ref": _REF.format(model="ErrorResponse")}, {"properties": {"code": {"enum": sorted(codes)}}}]
        }
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
