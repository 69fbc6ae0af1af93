"""Which certificates count on a connection, and what it means when one does not."""

import errno
import ssl
from pathlib import Path

from syncagent.errors import CertificateRejected, ConfigError
from syncagent.remote.access import Access
from syncagent.remote.http.answers import quoted

_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "BAD_CERT")


def tls_context(access: Access) -> ssl.SSLContext:
    """The system's certificates, or only those of a file; never those that httpx brings. Blocks.

    Raises:
        ConfigError: a file is not there, or holds no certificate or key that can be used.
    """
    try:
        context = ssl.create_default_context(cafile=access.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(access.ca_file, "certificates to trust", error) from error
    if access.client_cert is not None:
        try:
            # A key under a passphrase would make OpenSSL ask on the terminal.
            context.load_cert_chain(access.client_cert, password=_no_passphrase)
        except (OSError, ssl.SSLError) as error:
            raise _unusable(access.client_cert, "a certificate and its key", error) from error
    return context


def certificate_trouble(error: BaseException, origin: str) -> CertificateRejected | None:
    """The rejected certificate at the bottom of a broken connection, if that is what broke it."""
    trouble = _tls_trouble(error)
    reason = "" if trouble is None else _reason(trouble)
    if isinstance(trouble, ssl.SSLCertVerificationError):
        return CertificateRejected(
            f"the certificate of {origin} does not verify: {quoted(reason)}",
            todo="check the address and the clock, or name the certificates to trust in a file",
        )
    if any(word in reason for word in _ALERTS):
        return CertificateRejected(
            f"{origin} does not accept this device's certificate, or asks for one: {quoted(reason)}",
            todo="check the client certificate",
        )
    return None


def _tls_trouble(error: BaseException | None) -> ssl.SSLError | None:
    """The TLS error at the bottom of another one, if there is any; each backend buries it elsewhere."""
    for _ in range(16):
        if error is None or isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _no_passphrase() -> str:
    raise PermissionError(errno.EACCES, "its key is under a passphrase")


def _unusable(path: Path | None, wanted: str, error: OSError) -> ConfigError:
    reason = _reason(error) or error.strerror or "it holds none in PEM form"
    return ConfigError(f"{path} cannot be read as a file of {wanted}: {reason}")


def _reason(error: OSError) -> str:
    """What OpenSSL calls it; empty for errors that are not from there."""
    return getattr(error, "verify_message", None) or getattr(error, "reason", None) or ""
