"""Exceptions across nodes: what arrives, and what never does."""

from dataclasses import dataclass
from typing import Any

import pytest

from clusterkit import NodeDown, RemoteError, message
from clusterkit.core import message_types
from clusterkit.core.payload import decode, encode
from clusterkit.kernel.faults import RemoteTraceback, pack_exception, unpack_exception


class KeywordOnlyError(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class MuteError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def crossed(error: BaseException) -> Exception:
    return unpack_exception(pack_exception(error))


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("k", 1), OSError(2, "none"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")]
)
def test_a_builtin_is_rebuilt_by_its_constructor(error: Exception) -> None:
    again = crossed(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert isinstance(again.__cause__, RemoteTraceback)


def test_another_one_is_rebuilt_without_calling_init() -> None:
    again = crossed(KeywordOnlyError(code=7))
    assert isinstance(again, KeywordOnlyError)
    assert (again.code, again.args) == (7, ("code 7",))


def test_an_error_of_ours_keeps_what_is_known() -> None:
    again = crossed(NodeDown("gone", node=object(), target="a.b", executed="maybe", reason="left"))
    assert isinstance(again, NodeDown)
    assert (again.node, again.target, again.executed, again.reason) == (None, "a.b", "maybe", "left")


@pytest.mark.parametrize(
    "error", [StopIteration(1), StopAsyncIteration(), KeyboardInterrupt(), SystemExit(3), GeneratorExit()]
)
def test_what_would_harm_its_caller_arrives_as_a_remote_error(error: BaseException) -> None:
    assert type(crossed(error)) is RemoteError


def test_an_error_without_a_text_arrives_all_the_same() -> None:
    packed = pack_exception(MuteError())
    assert "ZeroDivisionError" in decode(packed)["text"]
    assert isinstance(unpack_exception(packed), MuteError)


def test_arguments_that_cannot_cross_make_a_remote_error_with_the_text() -> None:
    again = crossed(ValueError(object, "x"))
    assert isinstance(again, RemoteError)
    assert again.type_name == "ValueError"


def test_a_type_of_a_module_that_is_not_imported_is_never_imported() -> None:
    told = {"type": "antigravity:X", "text": "t", "traceback": "", "args": [], "attrs": {}}
    assert isinstance(unpack_exception(encode(told)), RemoteError)


@pytest.mark.parametrize(
    "type_name", ["builtins:eval", "os:system", "builtins:BaseException", "x", "", ":", "builtins:"]
)
def test_what_is_no_exception_type_is_not_called(type_name: str) -> None:
    told = {"type": type_name, "text": "t", "traceback": "", "args": ["1/0"], "attrs": {}}
    assert isinstance(unpack_exception(encode(told)), RemoteError)


@pytest.mark.parametrize("name", ["__class__", "__dict__", "__cause__", "with_traceback", "args", "add_note"])
def test_the_machinery_of_an_exception_cannot_be_set(name: str) -> None:
    told: dict[str, Any] = {
        "type": "builtins:ValueError",
        "text": "t",
        "traceback": "",
        "args": ["a"],
        "attrs": {name: 1},
    }
    again = unpack_exception(encode(told))
    assert type(again) is ValueError
    assert again.args == ("a",)
    assert callable(again.with_traceback)


def test_a_long_traceback_keeps_its_end() -> None:
    again = crossed(ValueError("x" * 100_000 + "end"))
    assert isinstance(again.__cause__, RemoteTraceback)
    assert str(again.__cause__).rstrip().endswith("end")
    assert len(again.__cause__.text) <= 16 << 10


def test_an_error_that_holds_a_message_of_no_class_here_still_arrives() -> None:
    @message(name="test.faults.Lost")
    @dataclass
    class Lost:
        key: str

    payload = pack_exception(LookupError("gone", Lost("k")))
    del message_types._types["test.faults.Lost"]
    error = unpack_exception(payload)
    assert isinstance(error, RemoteError)
    assert "gone" in str(error)
    assert "LookupError" in str(error)


def test_a_traceback_that_is_not_wanted_does_not_cross() -> None:
    payload = pack_exception(ValueError("no"), trace=False)
    assert b"Traceback" not in payload
    error = unpack_exception(payload)
    assert (type(error), str(error), error.__cause__) == (ValueError, "no", None)


def test_a_group_arrives_as_a_group_of_what_it_held() -> None:
    inner = ExceptionGroup("inner", [KeyError("k"), KeywordOnlyError(code=3)])
    error = unpack_exception(pack_exception(ExceptionGroup("several (of them)", [ValueError("no"), inner])))
    assert isinstance(error, ExceptionGroup)
    assert error.message == "several (of them)"
    first, second = error.exceptions
    assert (type(first), str(first)) == (ValueError, "no")
    assert isinstance(second, ExceptionGroup)
    assert [type(each) for each in second.exceptions] == [KeyError, KeywordOnlyError]
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "KeywordOnlyError" in error.__cause__.text


def test_a_group_without_end_is_cut() -> None:
    group: ExceptionGroup[Exception] = ExceptionGroup("0", [ValueError("v")] * 100)
    for level in range(20):
        group = ExceptionGroup(str(level), [group, *[ValueError("w")] * 100])
    error = unpack_exception(pack_exception(group))
    assert isinstance(error, ExceptionGroup)
    assert 0 < len(error.exceptions) <= 64


def test_a_group_whose_members_are_no_errors_is_no_group() -> None:
    told = {"type": "builtins:ExceptionGroup", "text": "t (1 sub-exception)", "traceback": "", "attrs": {}}
    assert isinstance(unpack_exception(encode({**told, "exceptions": []})), RemoteError)
    assert isinstance(unpack_exception(encode({**told, "exceptions": [1]})), RemoteError)
