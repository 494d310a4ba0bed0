"""One frozen configuration: every default allowed, every nonsense refused by its name."""

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from clusterkit.config import Config
from clusterkit.core.channel import Health
from clusterkit.core.session import Outbox
from clusterkit.errors import ConfigError

NAMES = [field.name for field in fields(Config) if field.name not in ("timers", "tracebacks")]
MAY_BE_NONE = {"auto_remove_after", "watchdog"}


def test_the_defaults_are_a_configuration() -> None:
    assert Config.default() == Config()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, -1, True, None, "5", float("nan")])
def test_what_is_no_positive_number_is_refused_by_name(name: str, value: Any) -> None:
    if value is None and name in MAY_BE_NONE:
        assert getattr(Config.default(), name) is None
        return
    with pytest.raises(ConfigError, match=f"^{name} is {value!r}: it must be a positive number"):
        Config(**{name: value})


@pytest.mark.parametrize("value", [0, 1, None, "yes"])
def test_what_is_no_yes_or_no_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^tracebacks is {value!r}: it must be True or False"):
        Config(tracebacks=value)


@pytest.mark.parametrize("limit", [1 << 16, 1 << 24])
def test_a_message_limit_of_the_wire_is_accepted(limit: int) -> None:
    assert Config(message_limit=limit).message_limit == limit


@pytest.mark.parametrize("limit", [(1 << 16) - 1, (1 << 26) + 1])
def test_a_message_limit_outside_the_wire_is_refused(limit: int) -> None:
    with pytest.raises(ConfigError, match="65,536 to 67,108,864"):
        Config(message_limit=limit)


def test_a_configuration_is_frozen_and_its_fields_are_named() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().mailbox = 5  # type: ignore[misc]
    positional: Any = Config
    with pytest.raises(TypeError):
        positional(5.0)


def test_the_defaults_of_the_core_are_the_same() -> None:
    config, health, outbox = Config(), Health(), Outbox()
    assert (config.ping_after, config.cut_after, config.write_stall) == (
        health.ping_after,
        health.cut_after,
        health.write_stall,
    )
    assert (config.outbox_messages, config.outbox_size) == (outbox.messages, outbox.size)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"call_timeout": float("inf")}, id="a timeout without end"),
        pytest.param({"mailbox": 1.5}, id="half a message"),
        pytest.param({"message_limit": 70_000.5}, id="half a byte"),
        pytest.param({"message_limit": 1 << 26}, id="messages that no outbox can hold"),
        pytest.param({"ping_after": 20.0}, id="a ping after the cut"),
        pytest.param({"redial_first": 6.0}, id="a first delay over the most"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Config(**options)
