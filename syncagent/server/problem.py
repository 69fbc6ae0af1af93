"""Answers that are not what was asked for: problem details (RFC 9457), with a stable `type` each."""

import errno
import json
from collections.abc import Mapping

from starlette.responses import Response

from syncagent.errors import (
    BadResponse,
    Forbidden,
    ObjectExists,
    ObjectNotFound,
    ObjectRefused,
    QuotaExceeded,
    SyncAgentError,
)


class Problem(Exception):
    """A request is refused, or cannot be done.

    Args:
        status: the HTTP status.
        kind: the `type` of the problem: a word that stays the same for clients to act upon.
        detail: one sentence for people. Nothing of the request is repeated in it but checked names.
        headers: further headers of the answer.
        members: further members of the document.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, str | int | None] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = dict(members or {})

    def document(self) -> bytes:
        """The body of the answer."""
        return json.dumps(
            {"type": self.kind, "status": self.status, "detail": self.detail, **self.members}
        ).encode()

    def response(self) -> Response:
        """The answer."""
        return Response(
            self.document(), self.status, {"Cache-Control": "no-store", **self.headers}, MEDIA_TYPE
        )


MEDIA_TYPE = "application/problem+json"


def malformed(detail: str) -> Problem:
    """400 for a request that says something impossible, other than by a name."""
    return Problem(400, "malformed-request", detail)


def malformed_name(detail: str) -> Problem:
    """400 for a name outside the grammar."""
    return Problem(400, "malformed-name", detail)


def busy(kind: str, detail: str, *, status: int = 429, retry_after_s: int = 1) -> Problem:
    """Too much at once: to be asked again."""
    return Problem(status, kind, detail, headers={"Retry-After": str(retry_after_s)})


def problem_of(error: SyncAgentError | OSError) -> Problem:
    """What the storage says, as an answer. Paths of this machine stay here."""
    match error:
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return problem_of(QuotaExceeded("the disk is full"))
        case ObjectNotFound():
            return Problem(404, "no-such-object", "there is no object of this name in the vault")
        case ObjectExists():
            return Problem(
                412, "object-exists", "there is an object of this name already; it was not touched"
            )
        case QuotaExceeded():
            return Problem(507, "storage-full", "the server's disk is full; nothing was stored")
        case ObjectRefused() | BadResponse():
            return Problem(
                409, "in-the-way", "what lies in the place of this object is not one of this server's"
            )
        case Forbidden():
            return Problem(500, "storage-failed", "the server may not write to its own storage")
        case _:
            return busy(
                "storage-failed", "the server's storage does not answer", status=503, retry_after_s=10
            )
