"""What callers ask with: a value of another type than is meant is refused, where it might pass for one."""

from syncagent.errors import ConfigError


def checked_bool(value: bool, name: str) -> bool:
    """The value itself, or `ConfigError`: any text would count as True, also "false"."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is True or False, not {value!r}")
    return value


def checked_limit(limit: int, most: int, what: str) -> int:
    """How many of something a page may have, or `ConfigError`."""
    if type(limit) is not int or not 1 <= limit <= most:
        raise ConfigError(f"a page has 1 to {most} {what}, not {limit!r}")
    return limit
