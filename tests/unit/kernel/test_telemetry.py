"""Named events for those who attach: order, detaching, and functions that fail."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from clusterkit import UsageError
from clusterkit.kernel.telemetry import CALL_START, CALL_STOP, DEAD_LETTER, EVENTS, LINK_UP, Telemetry

Told = list[tuple[str, str, str]]


def listener(name: str, told: Told) -> Any:
    return lambda event, took, meta: told.append((name, event, meta["peer"]))


def link_up(telemetry: Telemetry, peer: str = "b") -> None:
    telemetry.tell(LINK_UP, {}, {"peer": peer})


def failing(event: str, took: Mapping[str, float], meta: Mapping[str, Any]) -> None:
    raise ZeroDivisionError("in the listener")


def test_all_who_attached_are_called_in_the_order_of_attaching() -> None:
    telemetry, told = Telemetry(), Told()
    for name in ("first", "second", "third"):
        telemetry.attach(LINK_UP, listener(name, told))
    link_up(telemetry)
    assert told == [(name, LINK_UP, "b") for name in ("first", "second", "third")]


def test_another_event_is_not_told() -> None:
    telemetry, told = Telemetry(), Told()
    telemetry.attach(DEAD_LETTER, listener("it", told))
    link_up(telemetry)
    assert told == []


def test_an_unknown_event_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(UsageError, match=r"clusterkit\.call\.stops") as refused:
        Telemetry().attach("clusterkit.call.stops", print)
    assert all(event in str(refused.value) for event in EVENTS)


def test_what_cannot_be_called_or_would_have_to_be_awaited_is_refused() -> None:
    async def waits(event: str, took: Mapping[str, float], meta: Mapping[str, Any]) -> None: ...

    for wrong in (waits, "print", None):
        with pytest.raises(UsageError, match="plain function"):
            Telemetry().attach(LINK_UP, wrong)  # type: ignore[arg-type]


def test_detached_it_hears_no_more_and_detaching_twice_is_harmless() -> None:
    telemetry, told = Telemetry(), Told()
    detach = telemetry.attach(LINK_UP, listener("one", told))
    telemetry.attach(LINK_UP, listener("other", told))
    detach()
    detach()
    link_up(telemetry)
    assert [name for name, *_ in told] == ["other"]


def test_one_function_attached_twice_is_detached_once_at_a_time() -> None:
    telemetry, told = Telemetry(), Told()
    fn = listener("it", told)
    detach = telemetry.attach(LINK_UP, fn)
    telemetry.attach(LINK_UP, fn)
    link_up(telemetry)
    detach()
    link_up(telemetry)
    assert len(told) == 3


def test_one_that_fails_is_logged_once_and_detached_and_the_others_hear(caplog: pytest.LogCaptureFixture) -> None:
    telemetry, told = Telemetry(), Told()
    telemetry.attach(LINK_UP, failing)
    telemetry.attach(LINK_UP, listener("other", told))
    with caplog.at_level(logging.ERROR, "clusterkit.telemetry"):
        for _ in range(3):
            link_up(telemetry)
    assert len(told) == 3
    assert ["failing" in record.message and LINK_UP in record.message for record in caplog.records] == [True]
    assert "in the listener" in caplog.text


def test_it_is_detached_only_from_the_event_at_which_it_failed() -> None:
    telemetry = Telemetry()
    telemetry.attach(LINK_UP, failing)
    telemetry.attach(DEAD_LETTER, failing)
    link_up(telemetry)
    assert (telemetry.wants(LINK_UP), telemetry.wants(DEAD_LETTER)) == (False, True)


def test_what_ends_the_program_is_not_swallowed() -> None:
    def leaves(event: str, took: Mapping[str, float], meta: Mapping[str, Any]) -> None:
        raise SystemExit(3)

    telemetry = Telemetry()
    telemetry.attach(LINK_UP, leaves)
    with pytest.raises(SystemExit):
        link_up(telemetry)


def test_a_function_may_detach_itself_and_attach_others_while_it_is_told() -> None:
    telemetry, told = Telemetry(), Told()

    def once(event: str, took: Mapping[str, float], meta: Mapping[str, Any]) -> None:
        detach()
        telemetry.attach(LINK_UP, listener("later", told))

    detach = telemetry.attach(LINK_UP, once)
    link_up(telemetry, "b")
    assert told == []
    link_up(telemetry, "c")
    assert told == [("later", LINK_UP, "c")]


@pytest.mark.parametrize("ends", [(0, 1), (1, 0)])
def test_calls_says_whether_somebody_listens_to_start_or_stop(ends: tuple[int, int]) -> None:
    telemetry = Telemetry()
    assert not telemetry.calls
    telemetry.attach(DEAD_LETTER, print)
    assert not telemetry.calls
    detach = [telemetry.attach(event, print) for event in (CALL_START, CALL_STOP)]
    for end in ends:
        assert telemetry.calls
        detach[end]()
    assert not telemetry.calls


def test_wants_says_whether_somebody_listens_to_an_event() -> None:
    telemetry = Telemetry()
    assert not any(telemetry.wants(event) for event in EVENTS)
    detach = telemetry.attach(LINK_UP, print)
    assert [event for event in EVENTS if telemetry.wants(event)] == [LINK_UP]
    detach()
    assert not telemetry.wants(LINK_UP)


def test_nobody_listening_is_harmless() -> None:
    link_up(Telemetry())


def test_a_repr_names_what_is_listened_to() -> None:
    telemetry = Telemetry()
    assert repr(telemetry) == "<Telemetry nobody listens>"
    telemetry.attach(LINK_UP, print)
    assert repr(telemetry) == f"<Telemetry {LINK_UP}>"
