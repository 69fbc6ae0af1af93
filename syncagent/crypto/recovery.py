"""Recovery codes: 160 random bits that open a vault without its passphrase.

36 symbols of Crockford's base32 in nine groups of four, such as
`0123-4567-89AB-CDEF-GHJK-MNPQ-RSTV-WXYZ-…`: 32 symbols of secret, then 4 of
checksum, so that a typing error is told apart from a code of another vault.
See `docs/format.md#recovery-codes`.
"""

import hashlib
import os

from syncagent.errors import WrongPassphrase

RECOVERY_BYTES = 20

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_SECRET_SYMBOLS = 32
_CHECK_SYMBOLS = 4
_GROUP = 4
_DASHES = "-\u2010\u2011\u2012\u2013\u2014"  # what a word processor or PDF makes of a hyphen
_VALUES = {symbol: value for value, symbol in enumerate(_ALPHABET)}
_VALUES |= {symbol.lower(): value for symbol, value in _VALUES.items()}
_VALUES |= {"O": 0, "o": 0, "I": 1, "i": 1, "L": 1, "l": 1}


def new_recovery_code() -> str:
    """A fresh code. It is shown to the user once and stored nowhere."""
    secret = os.urandom(RECOVERY_BYTES)
    number = int.from_bytes(secret) << (5 * _CHECK_SYMBOLS) | _checksum(secret)
    total = _SECRET_SYMBOLS + _CHECK_SYMBOLS
    symbols = "".join(_ALPHABET[number >> (5 * place) & 31] for place in reversed(range(total)))
    return "-".join(symbols[start : start + _GROUP] for start in range(0, total, _GROUP))


def recovery_bytes(code: str) -> bytes:
    """The 20 secret bytes of a code, however it was typed: case, spaces, dashes, O for 0, I or L for 1.

    Raises:
        WrongPassphrase: it is no recovery code, or has a typing error.
    """
    number = 0
    count = 0
    for symbol in code:
        if symbol.isspace() or symbol in _DASHES:
            continue
        value = _VALUES.get(symbol)
        if value is None:
            raise _typo("a character that recovery codes do not use")
        number = number << 5 | value
        count += 1
        if count > _SECRET_SYMBOLS + _CHECK_SYMBOLS:
            break
    if count != _SECRET_SYMBOLS + _CHECK_SYMBOLS:
        raise _typo("the wrong length")
    secret = (number >> 5 * _CHECK_SYMBOLS).to_bytes(RECOVERY_BYTES)
    if _checksum(secret) != number & ((1 << 5 * _CHECK_SYMBOLS) - 1):
        raise _typo("a checksum that does not fit")
    return secret


def is_recovery_code(text: str) -> bool:
    """Whether this is a recovery code without typing errors, of whichever vault."""
    try:
        recovery_bytes(text)
    except WrongPassphrase:
        return False
    return True


def _checksum(secret: bytes) -> int:
    """20 bits, so a typing error passes once in a million. It is no defence against malice."""
    return int.from_bytes(hashlib.sha256(b"syncagent/1/recovery" + secret).digest()[:3]) >> 4


def _typo(problem: str) -> WrongPassphrase:
    return WrongPassphrase(
        f"the recovery code has a typo: it has {problem}", todo="compare it with your copy, symbol by symbol"
    )
