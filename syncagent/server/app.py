"""The calls of the API and what they answer. What a request says is read in `requests.py`."""

import contextlib
import email.utils
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncagent.errors import ObjectExists, SyncAgentError
from syncagent.remote.directory import file_limiter
from syncagent.server import openapi, requests
from syncagent.server.accounts import Accounts, Grant
from syncagent.server.limits import Limits, Turnstile
from syncagent.server.observe import Observer, Seen
from syncagent.server.problem import Problem, problem_of
from syncagent.server.spool import SMALL_SIZE
from syncagent.server.usage import Usage
from syncagent.server.vaults import Vaults, changed_at, digest_of, size_of
from syncagent.server.watch import Watch

SEND_SIZE = 256 << 10
"""Bytes of an object read and handed over at a time: what a slow reader keeps in memory here."""

_log = logging.getLogger(__name__)
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True)
class Service:
    """All that the calls work on."""

    accounts: Accounts
    vaults: Vaults
    usage: Usage
    watch: Watch
    turnstile: Turnstile
    limits: Limits
    observer: Observer


Call = Callable[[Service, Request, Grant], Awaitable[Response]]


def create_app(service: Service) -> ASGIApp:
    """The whole API as an ASGI application."""
    vault = "/v1/vaults/{vault}"
    paths: dict[str, dict[str, Call]] = {
        "/v1/vaults": {"GET": _list_vaults},
        vault: {"PUT": _create_vault},
        f"{vault}/objects": {"GET": _list},
        f"{vault}/changes": {"GET": _changes},
        f"{vault}/objects/{{name:path}}": {"PUT": _put, "GET": _get, "HEAD": _get, "DELETE": _delete},
    }
    routes = [Route(path, _Resource(service, calls)) for path, calls in paths.items()]
    routes.append(Route("/v1/health", _Open(service, "health", _health)))
    routes.append(Route("/v1/openapi.json", _Open(service, "openapi", _openapi)))
    routes.append(Route("/metrics", _Open(service, "metrics", _metrics)))
    return _Front(service, Router(routes, redirect_slashes=False, default=_no_such_path))


async def _list_vaults(service: Service, request: Request, grant: Grant) -> Response:
    return _json({"vaults": await service.vaults.names(grant.user)})


async def _create_vault(service: Service, request: Request, grant: Grant) -> Response:
    name = requests.vault_name(request)
    there = await service.vaults.names(grant.user)
    if name not in there and len(there) >= service.limits.vaults:
        raise Problem(507, "too-many-vaults", f"a user has at most {service.limits.vaults} vaults here")
    is_new = await service.vaults.create(grant.user, name)
    return _json({"vault": name}, 201 if is_new else 200)


async def _list(service: Service, request: Request, grant: Grant) -> Response:
    vault = await service.vaults.find(grant.user, requests.vault_name(request))
    asked = requests.asked_page(request)
    page = await vault.list(asked.prefix, asked.after, asked.limit)
    objects = [{"name": one.name, "size": one.size, "created": one.created} for one in page.objects]
    return _json({"objects": objects, "more": page.more})


async def _changes(service: Service, request: Request, grant: Grant) -> Response:
    vault = await service.vaults.find(grant.user, requests.vault_name(request))
    cursor = requests.asked_cursor(request)
    timeout_s = requests.asked_wait(request, service.limits)
    async with anyio.create_task_group() as tasks:

        async def leave_with_the_client() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

        tasks.start_soon(leave_with_the_client)
        cursor = await service.watch.wait(vault.key, cursor, timeout_s)
        tasks.cancel_scope.cancel()
    return _json({"cursor": cursor})


async def _put(service: Service, request: Request, grant: Grant) -> Response:
    vault = await service.vaults.find(grant.user, requests.vault_name(request))
    name = requests.object_name(request)
    size = requests.body_length(request, name)
    promised = requests.promised_digest(request)
    overwrite = not requests.is_create_only(request)
    may_replace = overwrite and not grant.is_append_only
    if not may_replace and size > SMALL_SIZE:
        with _append_only(overwrite):
            await vault.check_absent(name)  # before the body comes in vain
    body = requests.IncomingBody(request, size, service.limits)
    async with (
        service.usage.writing(grant.user, size, quota_bytes=grant.quota_bytes, vault=vault.name) as change,
        vault.receiving(body, lambda found: requests.check_digest(name, promised, found)) as received,
    ):
        with anyio.CancelScope(shield=True), _append_only(overwrite):
            change.grown_bytes = await vault.store(name, received, overwrite=may_replace)
    service.watch.changes(vault.key).tell()
    return Response(status_code=201, headers=_HEADERS)


async def _get(service: Service, request: Request, grant: Grant) -> Response:
    vault = await service.vaults.find(grant.user, requests.vault_name(request))
    name = requests.object_name(request)
    file = await vault.open(name)
    try:
        size = size_of(file)
        digest = await anyio.to_thread.run_sync(digest_of, name, file, limiter=file_limiter())
        part = requests.asked_range(request, size)
    except BaseException:
        file.close()
        raise
    headers = {
        **_HEADERS,
        "ETag": f'"{digest}"',
        "Last-Modified": email.utils.formatdate(changed_at(file), usegmt=True),
        "Accept-Ranges": "bytes",
    }
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    return _ObjectResponse(file, part or range(size), 200 if part is None else 206, headers)


async def _delete(service: Service, request: Request, grant: Grant) -> Response:
    vault = await service.vaults.find(grant.user, requests.vault_name(request))
    name = requests.object_name(request)
    if grant.is_append_only:
        raise _refused_to_append_only()
    async with service.usage.writing(
        grant.user, 0, quota_bytes=grant.quota_bytes, vault=vault.name
    ) as change:
        with anyio.CancelScope(shield=True):
            change.grown_bytes = -await vault.delete(name)
    return Response(status_code=204, headers=_HEADERS)


async def _health(service: Service) -> Response:
    await anyio.to_thread.run_sync(service.vaults.check)
    return _json({"status": "ok"})


async def _openapi(service: Service) -> Response:
    return _json(openapi.document())


async def _metrics(service: Service) -> Response:
    return Response(service.observer.metrics(), headers=_HEADERS, media_type=service.observer.media_type)


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    raise Problem(404, "no-such-path", "this server has nothing at this path")


@contextlib.contextmanager
def _append_only(would_replace: bool) -> Iterator[None]:
    """A name that is taken is a refusal, not a lost race, where the token may not replace what has it."""
    try:
        yield
    except ObjectExists as error:
        if would_replace:
            raise _refused_to_append_only() from error
        raise


def _refused_to_append_only() -> Problem:
    return Problem(403, "append-only", "this token may add objects, not replace or delete any")


def _json(document: dict[str, object], status: int = 200) -> Response:
    return JSONResponse(document, status, _HEADERS)


class _ObjectResponse(Response):
    """Part of an object's file, read as the client takes it. Closes the file, whatever happens."""

    def __init__(self, file: BufferedReader, part: range, status: int, headers: dict[str, str]) -> None:
        headers["Content-Length"] = str(len(part))
        super().__init__(None, status, headers, "application/octet-stream")
        self._file = file
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._file:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            if scope["method"] != "HEAD":
                for start in range(self._part.start, self._part.stop, SEND_SIZE):
                    wanted = min(SEND_SIZE, self._part.stop - start)
                    piece = await anyio.to_thread.run_sync(self._read, start, wanted, limiter=file_limiter())
                    if len(piece) < wanted:
                        raise OSError("an object became shorter while it was read")
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _read(self, start: int, wanted: int) -> bytes:
        self._file.seek(start)
        return self._file.read(wanted)


class _Resource:
    """What lies at one path, for those who show a token."""

    def __init__(self, service: Service, calls: dict[str, Call]) -> None:
        self._service = service
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        call = self._calls.get(request.method)
        if call is None:
            raise _no_such_method(self._calls)
        seen: Seen = scope["seen"]
        seen.call = call.__name__.strip("_").replace("_", "-")
        token = requests.token_of(request)
        grant = self._service.accounts.authenticate(token) if token is not None else None
        if grant is None:
            raise Problem(
                401,
                "unauthorized",
                "a valid token is needed" if token is None else "this token is not valid (any more)",
                headers={"WWW-Authenticate": "Bearer"},
            )
        seen.user, seen.token_id = grant.user, grant.token_id
        with self._service.turnstile.admitted(grant.token_id, is_waiting=call is _changes):
            response = await call(self._service, request, grant)
            await response(scope, receive, send)


class _Open:
    """What lies at one path, for everybody."""

    def __init__(self, service: Service, name: str, call: Callable[[Service], Awaitable[Response]]) -> None:
        self._service = service
        self._name = name
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise _no_such_method(("GET", "HEAD"))
        seen: Seen = scope["seen"]
        seen.call = self._name
        response = await self._call(self._service)
        await response(scope, receive, send)


def _no_such_method(methods: "dict[str, Call] | tuple[str, ...]") -> Problem:
    return Problem(
        405, "no-such-method", "this path knows other methods", headers={"Allow": ", ".join(methods)}
    )


class _Front:
    """What every request passes: its shape is checked, problems become answers, and it is noted."""

    def __init__(self, service: Service, inner: ASGIApp) -> None:
        self._service = service
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "the server is told to speak nothing else"
        seen = scope["seen"] = Seen()

        async def noted_receive() -> Message:
            seen.is_body_asked_for = True
            message = await receive()
            seen.received_bytes += len(message.get("body", b""))
            return message

        async def noted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
            seen.sent_bytes += len(message.get("body", b""))
            await send(message)

        with self._service.observer.watching(scope, seen):
            try:
                requests.check_shape(scope, self._service.limits)
                await self._inner(scope, noted_receive, noted_send)
            except ClientDisconnect:
                return
            except Exception as error:
                problem = _as_problem(error)
                if seen.status:  # half an answer: only cutting it off tells the client
                    raise
                seen.problem = problem.kind
                if requests.expects_to_be_asked(scope) and not seen.is_body_asked_for:
                    # It may never send the body now, and its next request is not to be taken for that.
                    problem.headers["Connection"] = "close"
                await problem.response()(scope, noted_receive, noted_send)


def _as_problem(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case SyncAgentError() | OSError():
            problem = problem_of(error)
            if problem.status >= 500:
                _log.error("storage failed: %s", error)
            return problem
        case _:
            _log.error("a bug in the server", exc_info=error)
            return Problem(500, "bug", "the server failed at this request")
