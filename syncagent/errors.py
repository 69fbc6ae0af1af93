"""Every error that leaves the library, in one tree.

    SyncAgentError
    ├── InvalidName · LimitExceeded · ConfigError          what was asked for cannot be
    ├── VaultExists · VaultNotFound · VaultInUse
    ├── WrongVault · WrongPassphrase · TooNew
    ├── BlobExists · BlobNotHere · BlobNotFound            one blob
    │   ├── VersionNotFound
    ├── VersionConflict · ContentMismatch · SourceChanged
    ├── NotSent
    ├── TokenExpired                                       a list of changes
    ├── CacheDamaged · CacheFull                           this device's disk
    ├── OpenError                                          sealed bytes that do not verify
    │   ├── Tampered
    │   └── Truncated
    ├── RemoteError
    │   ├── TransientRemoteError                           the whole sync backs off, nothing is counted
    │   │   ├── Unreachable · RateLimited · Withheld
    │   ├── RemoteStopped                                  the sync stops until the user acts
    │   │   ├── Unauthorized · QuotaExceeded · CertificateRejected
    │   │   ├── Forbidden
    │   │   │   ├── AppendOnly
    │   ├── ObjectError                                    one object
    │   │   ├── ObjectNotFound · ObjectExists · ObjectRefused · BadResponse
    │   └── UnsupportedByRemote
    ├── RemoteRolledBack · RemoteForked                    the remote went back, or tells two stories
    ├── ClockAhead                                         a device's clock
    └── AgentNotRunning

The class decides what is retried and which exit code a command ends with. An
error carries three short texts: what happened (`str(error)`), what is still
true of the data (`safe`), and what to do next (`todo`).
"""

from typing import ClassVar


class SyncAgentError(Exception):
    """The root of the tree.

    Args:
        what: what happened, without a full stop. Names from elsewhere come in `repr` form.
        safe: what is still true of the data, where the class's own text is not exact.
        todo: what the user can do next, likewise.
    """

    default_safe: ClassVar[str] = "nothing was changed"
    default_todo: ClassVar[str] = ""

    def __init__(self, what: str, *, safe: str | None = None, todo: str | None = None) -> None:
        super().__init__(what)
        self.safe = self.default_safe if safe is None else safe
        self.todo = self.default_todo if todo is None else todo


class InvalidName(SyncAgentError):
    """A namespace, blob id or object name is outside its grammar. Nothing was stored."""


class LimitExceeded(SyncAgentError):
    """A size or count is over a limit of the format. Nothing was stored."""


class ConfigError(SyncAgentError):
    """A setting, URL or file given by the user cannot be used. Nothing was changed."""


class VaultExists(SyncAgentError):
    """There is a vault where a new one was to be made. The existing one is untouched."""

    default_safe = "the existing vault is untouched"


class VaultNotFound(SyncAgentError):
    """There is no vault at this path or remote."""

    default_todo = "run `syncagent init` for a new vault or `syncagent join` for one that another device has"


class VaultInUse(SyncAgentError):
    """Another process is syncing this vault. `pid` names it (0 when unknown); puts and gets still work."""

    default_safe = "puts and gets still work"
    default_todo = "wait for it to finish"

    def __init__(self, what: str, *, pid: int = 0, safe: str | None = None) -> None:
        super().__init__(what, safe=safe)
        self.pid = pid


class WrongVault(SyncAgentError):
    """The remote holds another vault than this device belongs to. Nothing was sent or applied."""

    default_safe = "nothing was sent or applied"
    default_todo = "check the remote's address"


class WrongPassphrase(SyncAgentError):
    """No key slot opens: the passphrase is wrong, or the slot was altered. Nothing was opened or changed."""

    default_todo = "try again with the present one (another device may have replaced it) or the recovery code"


class TooNew(SyncAgentError):
    """Something was made by a newer syncagent, or altered. It was not touched."""

    default_todo = "update syncagent on this device"


class BlobExists(SyncAgentError):
    """The id holds other bytes and replacing was not asked for. The stored blob is untouched."""

    default_safe = "the stored blob is untouched"
    default_todo = "use --replace (replace=True) to store a new version"


class BlobNotFound(SyncAgentError):
    """No live blob has this id on this device."""

    default_todo = "`syncagent sync` fetches what other devices have put"


class VersionNotFound(BlobNotFound):
    """The blob is known, the version asked for is not: never put, folded before it was sent, or pruned."""

    default_safe = "the present version is untouched"
    default_todo = "`syncagent history` lists those that are known"


class BlobNotHere(SyncAgentError):
    """The blob is known but its content is not on this device and cannot be fetched now.

    `available` is the newest version whose content is here, or None.
    """

    default_safe = "the content is safe at the remote or on the device that put it"
    default_todo = "try again when the remote can be reached"

    def __init__(self, what: str, *, available: str | None = None) -> None:
        there = f"its version {available[:8]} is here" if available else None
        super().__init__(what, todo=there and f"{self.default_todo}; {there}")
        self.available = available


class VersionConflict(SyncAgentError):
    """The blob has moved on since the version the caller named. Nothing was stored."""


class NotSent(SyncAgentError):
    """What was to be given up on this device is not at the remote. It was kept."""

    default_safe = "its content was kept on this device"
    default_todo = "run `syncagent sync` first; what never leaves this device can only be deleted"


class ContentMismatch(SyncAgentError):
    """The content has another digest or length than the caller promised. Nothing was stored."""


class SourceChanged(SyncAgentError):
    """A file changed, shrank or vanished while it was read. Nothing was stored; the file is untouched."""

    default_safe = "nothing was stored and the file is untouched"
    default_todo = "put it again when it is at rest"


class TokenExpired(SyncAgentError):
    """The cache cannot tell what has changed since this token. The list can be had anew, without one."""

    default_safe = "every blob is as it was"
    default_todo = "list the changes anew, without a token"


class CacheDamaged(SyncAgentError):
    """Bytes in the local cache do not verify. They are never handed out; other blobs are not affected."""

    default_safe = "no wrong bytes were handed out and other blobs are not affected"
    default_todo = "`syncagent sync` fetches the blob again if the remote has it"


class CacheFull(SyncAgentError):
    """The disk of the local cache is full. What was stored before is intact; this was not stored."""

    default_safe = "everything stored before is intact; this was not stored"
    default_todo = "free some disk space and try again"


class OpenError(SyncAgentError):
    """Sealed bytes do not open. They were not used; the evidence is kept in the message."""

    default_safe = "the bytes were not used"


class Tampered(OpenError):
    """Sealed bytes were altered, moved to another name, or sealed with another key."""


class Truncated(OpenError):
    """Sealed bytes end too early."""


class RemoteError(SyncAgentError):
    """The remote did not do what was asked. Local data is intact and pending work stays pending."""

    default_safe = "everything put on this device is kept and stays pending"


class TransientRemoteError(RemoteError):
    """The remote as a whole fails for now. The sync backs off; no blob's retry counter moves.

    `retry_after_s` is the patience the remote asked for, if it did; `attempts` how often the call was tried.
    """

    default_todo = "run `syncagent sync` again later"

    def __init__(
        self,
        what: str,
        *,
        retry_after_s: float | None = None,
        safe: str | None = None,
        todo: str | None = None,
    ) -> None:
        super().__init__(what, safe=safe, todo=todo)
        self.retry_after_s = retry_after_s
        self.attempts = 1


class Unreachable(TransientRemoteError):
    """No connection, a timeout, or the remote's folder is missing."""


class RateLimited(TransientRemoteError):
    """The remote asks for patience; `retry_after_s` says how much, when it said."""


class Withheld(TransientRemoteError):
    """Something another device is known to have published is not shown. It is asked for again."""


class RemoteStopped(RemoteError):
    """The remote refuses until the user acts."""


class Unauthorized(RemoteStopped):
    """The remote does not accept the token."""

    default_todo = "give this device the new token: `syncagent remote set --token-file FILE`"


class Forbidden(RemoteStopped):
    """The token does not allow this."""


class AppendOnly(Forbidden):
    """The token may add objects but neither delete nor overwrite them. What was to go is still there."""

    default_todo = "nothing has to be done; a token that may delete frees the room"


class QuotaExceeded(RemoteStopped):
    """The remote is out of room for this vault."""

    default_todo = "make room at the remote, then sync again"


class CertificateRejected(RemoteStopped):
    """The server's certificate does not verify. Nothing was sent."""


class ObjectError(RemoteError):
    """One object fails; others are not affected."""


class ObjectNotFound(ObjectError):
    """The remote has no object of this name."""


class ObjectExists(ObjectError):
    """An object of this name is there already; it was not overwritten."""


class ObjectRefused(ObjectError):
    """The remote refuses this object for itself (size, name, digest)."""


class BadResponse(ObjectError):
    """The remote's answer breaks the protocol. It was not used."""


class UnsupportedByRemote(RemoteError):
    """This kind of remote cannot do this at all, such as waiting for a change."""


class RemoteRolledBack(SyncAgentError):
    """The remote lacks something this device has already seen there."""

    default_safe = "everything this device holds is kept"
    default_todo = "check whether the remote was restored, emptied or replaced"


class RemoteForked(SyncAgentError):
    """The remote shows this device another history than it showed a different device, or showed earlier."""

    default_safe = "nothing of the contradicting history was applied"
    default_todo = "do not trust this remote until you know why"


class ClockAhead(SyncAgentError):
    """A change of another device is dated more than a day after this device's clock. It was applied."""

    default_safe = "it was applied as any other; its date settles only what two devices changed at once"
    default_todo = "check the clock of that device, and of this one"


class AgentNotRunning(SyncAgentError):
    """No background agent answers for this vault."""
