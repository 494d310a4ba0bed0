"""What a client gives to a command, checked: it is told in one line what was wrong.

Whoever has the cookie may send anything. Nothing is taken that is of another type, and
what is told of a wrong value is short, however long the value is.
"""

from typing import Any

from clusterkit.errors import ConfigError

MOST_NAMES = 1_024
"""Nodes that one command may name."""
_SHOWN = 60  # characters of a wrong value


def show(value: object) -> str:
    """Write a value so that it fits into a line.

    >>> show("x" * 100)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'..."
    """
    if isinstance(value, str | bytes):
        return repr(value[:_SHOWN]) + ("..." if len(value) > _SHOWN else "")
    return repr(value) if isinstance(value, int | float | bool | None) else f"a {type(value).__name__}"


def checked_text(value: Any, what: str, most: int = 512) -> str:
    """Return a str of at most ``most`` characters; raises `ConfigError`."""
    if not isinstance(value, str):
        raise ConfigError(f"{what} is {show(value)}: it must be a str")
    if len(value) > most:
        raise ConfigError(f"{what} {show(value)} has {len(value)} characters: {most} are the most")
    return value


def checked_texts(values: Any, what: str, most: int = MOST_NAMES) -> list[str]:
    """Return a list of at most ``most`` strs; raises `ConfigError`."""
    if not isinstance(values, list | tuple):
        raise ConfigError(f"{what} is {show(values)}: it must be a list of strs")
    if len(values) > most:
        raise ConfigError(f"{what} has {len(values)} entries: {most} are the most")
    return [checked_text(each, what) for each in values]


def checked_flag(value: Any, what: str) -> bool:
    """Return True or False; raises `ConfigError`."""
    if not isinstance(value, bool):
        raise ConfigError(f"{what} is {show(value)}: it must be True or False")
    return value


def checked_count(value: Any, what: str, most: int | None = None) -> int:
    """Return a whole number from 1, or ``most`` if it is less; raises `ConfigError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{what} is {show(value)}: it must be a whole number from 1")
    return value if most is None else min(value, most)


def checked_wait(value: Any, what: str, most: float) -> float:
    """Return a duration in seconds, at most ``most``; raises `ConfigError` for what is none, or negative.

    >>> checked_wait(10, "wait", 4.0)
    4.0
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ConfigError(f"{what} is {show(value)}: it must be a number of seconds, not negative")
    return float(min(value, most))
