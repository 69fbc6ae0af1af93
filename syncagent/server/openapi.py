"""The API in the words of OpenAPI 3.1, as `/v1/openapi.json` gives it. `docs/protocol.md` says the rest."""

from typing import Any

from syncagent import __version__
from syncagent.remote.base import MAX_LIST_LIMIT

_Document = dict[str, Any]

_VAULT = "^[a-z0-9][a-z0-9._-]{0,63}$"
_OBJECT = "^(vault|(keys|devices|snapshots)/[0-9a-f]{32}|journal/[0-9a-f]{32}/[0-9]{12}|packs/[0-9a-f]{64})$"
_AFTER = f"{_OBJECT.removesuffix('$')}?$"
_PREFIX = "^((keys|devices|snapshots|packs|journal)/|journal/[0-9a-f]{32}/)?$"


def document() -> _Document:
    """The whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "syncagent blob API",
            "version": "1",
            "description": f"Objects under names, create-if-absent. Reference server {__version__}.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/vaults": {"get": _call("list-vaults", {"200": _json("The token's vaults", _VAULTS)})},
            "/v1/vaults/{vault}": {
                "parameters": [_VAULT_PARAMETER],
                "put": _call(
                    "create-vault",
                    {"200": _json("It is there already", _NAME), "201": _json("It was made", _NAME)},
                    [400, 507],
                ),
            },
            "/v1/vaults/{vault}/objects": {
                "parameters": [_VAULT_PARAMETER],
                "get": _call("list", {"200": _json("A page, ascending by name", _PAGE)}, [400, 403, 404])
                | {"parameters": [_query("prefix", _PREFIX), _query("after", _AFTER), _LIMIT]},
            },
            "/v1/vaults/{vault}/changes": {
                "parameters": [_VAULT_PARAMETER],
                "get": _call("changes", {"200": _json("The present cursor", _CURSOR)}, [400, 403, 404])
                | {"parameters": [_query("cursor", None), _TIMEOUT]},
            },
            "/v1/vaults/{vault}/objects/{name}": {
                "parameters": [_VAULT_PARAMETER, _path("name", _OBJECT)],
                "put": _call(
                    "put",
                    {"201": {"description": "It is stored, and durable"}},
                    [400, 403, 404, 408, 411, 412, 413, 422, 507],
                )
                | {"parameters": [_IF_NONE_MATCH, _CONTENT_DIGEST], "requestBody": _BODY},
                "get": _call(
                    "get",
                    {"200": _object("The object", {}), "206": _object("A part of it", _CONTENT_RANGE)},
                    [400, 403, 404, 416],
                )
                | {"parameters": [_RANGE]},
                "head": _call("head", {"200": _without_body("Its size")}, [400, 403, 404], has_body=False),
                "delete": _call(
                    "delete", {"204": {"description": "It is not there any more"}}, [400, 403, 404]
                ),
            },
            "/v1/health": {"get": _open("health", "It is alive", "application/json", _HEALTH)},
            "/v1/openapi.json": {
                "get": _open("openapi", "This document", "application/json", {"type": "object"})
            },
            "/metrics": {"get": _open("metrics", "Numbers for Prometheus", "text/plain", {"type": "string"})},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Problem": _PROBLEM},
        },
        "security": [{"token": []}],
    }


def _strict(**properties: _Document) -> _Document:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_NAME = _strict(vault={"type": "string", "pattern": _VAULT})
_VAULTS = _strict(vaults={"type": "array", "items": {"type": "string", "pattern": _VAULT}})
_CURSOR = _strict(cursor={"type": "string", "minLength": 1, "maxLength": 200})
_HEALTH = _strict(status={"const": "ok"})
_PAGE = _strict(
    objects={
        "type": "array",
        "maxItems": MAX_LIST_LIMIT,
        "items": _strict(
            name={"type": "string", "pattern": _OBJECT},
            size={"type": "integer", "minimum": 1},
            created={"type": "number", "description": "Unix time in seconds"},
        ),
    },
    more={"type": "boolean"},
)
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457; `type` is one of the words in docs/protocol.md",
    "properties": {
        "type": {"type": "string", "pattern": "^[a-z-]+$"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["type", "status", "detail"],
}


def _path(name: str, pattern: str) -> _Document:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}


def _query(name: str, pattern: str | None) -> _Document:
    schema = {"type": "string"} | ({} if pattern is None else {"pattern": pattern})
    return {"name": name, "in": "query", "schema": schema}


def _header(name: str, text: str, schema: _Document) -> _Document:
    return {"name": name, "in": "header", "description": text, "schema": schema}


_VAULT_PARAMETER = _path("vault", _VAULT)
_LIMIT = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}}
_TIMEOUT = {"name": "timeout", "in": "query", "schema": {"type": "number", "minimum": 0}}
_IF_NONE_MATCH = _header("If-None-Match", "Create only; without it an object is replaced", {"const": "*"})
_CONTENT_DIGEST = _header("Content-Digest", "RFC 9530: sha-256=:<base64>:", {"type": "string"})
_RANGE = _header("Range", "RFC 9110; passed over where it is not one range of bytes", {"type": "string"})
_BODY = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}}
    },
}
_ETAG = {"ETag": {"schema": {"type": "string", "pattern": '^"[0-9a-f]{64}"$'}, "required": True}}
_CONTENT_RANGE = {"Content-Range": {"schema": {"type": "string"}, "required": True}}


def _call(
    name: str, answers: _Document, problems: list[int] | None = None, *, has_body: bool = True
) -> _Document:
    every = [401, *(problems or []), 429, 503]
    refusals = {str(status): _refusal(has_body) for status in every}
    return {"operationId": name, "responses": answers | refusals}


def _open(name: str, text: str, media_type: str, schema: _Document) -> _Document:
    answer = {"description": text, "content": {media_type: {"schema": schema}}}
    return {"operationId": name, "security": [], "responses": {"200": answer}}


def _json(text: str, schema: _Document) -> _Document:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _object(text: str, headers: _Document) -> _Document:
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {"description": text, "headers": _ETAG | headers, "content": content}


def _without_body(text: str) -> _Document:
    return {"description": text, "headers": _ETAG}


def _refusal(has_body: bool) -> _Document:
    if not has_body:
        return {"description": "A problem, of which HEAD tells the status alone"}
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": "A problem", "content": {"application/problem+json": {"schema": schema}}}
