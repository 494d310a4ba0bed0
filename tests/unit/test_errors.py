"""The tree in the docstring is the tree of the classes, and each can be made and caught as it says."""

import builtins
import inspect
import re

import pytest

from clusterkit import errors
from clusterkit.errors import CallError, ClusterError, NodeDown, OldIncarnation, RemoteError, UnsupportedPayload

LINE = re.compile(r"(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)(?: \((?P<second>\w+)\))?(?:\s{2,}(?P<why>\S.*))?")


def drawn() -> dict[str, tuple[str, ...]]:
    """The names of the bases of each class, as the docstring draws them."""
    tree = (errors.__doc__ or "").split("::\n\n", 1)[1].split("\n\n", 1)[0]
    bases: dict[str, tuple[str, ...]] = {}
    path: list[str] = []
    for line in tree.splitlines():
        found = LINE.fullmatch(line.removeprefix("    "))
        assert found, line
        depth = len(found["indent"]) // 3
        path[depth:] = [found["name"]]
        first = path[depth - 1] if depth else "Exception"
        bases[found["name"]] = (first, found["second"]) if found["second"] else (first,)
    return bases


CLASSES = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}


def test_the_drawn_tree_is_the_real_one() -> None:
    assert drawn() == {name: tuple(base.__name__ for base in kind.__bases__) for name, kind in CLASSES.items()}


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "RemoteError"])
def test_every_error_is_made_from_a_message_and_caught_by_all_its_bases(name: str) -> None:
    error = CLASSES[name]("what is wrong")
    assert isinstance(error, ClusterError)
    assert str(error) == "what is wrong"
    for base in drawn()[name][1:]:
        assert isinstance(error, getattr(builtins, base))


@pytest.mark.parametrize("name", [name for name, kind in CLASSES.items() if issubclass(kind, CallError)])
def test_a_failed_call_says_who_what_and_whether(name: str) -> None:
    error = CLASSES[name]("message")
    assert isinstance(error, CallError)
    assert (error.node, error.target, error.executed) == (None, "", "no")


def test_a_failed_call_keeps_what_it_is_told() -> None:
    error = NodeDown("message", node="b", target="srv.get", executed="maybe", reason="restarted")
    assert (error.node, error.target, error.executed, error.reason) == ("b", "srv.get", "maybe", "restarted")
    assert NodeDown("message").reason == "down"


def test_a_value_that_cannot_be_sent_was_never_executed() -> None:
    error = UnsupportedPayload("message", path="args[0]", node="b", target="srv.get")
    assert (error.path, error.node, error.target, error.executed) == ("args[0]", "b", "srv.get", "no")
    assert UnsupportedPayload("message").path == ""


def test_an_old_incarnation_knows_the_later_one() -> None:
    assert (OldIncarnation("message").known, OldIncarnation("message", 9).known) == (0, 9)


def test_a_broken_protocol_tells_whether_a_holder_of_the_cookie_did_it() -> None:
    assert not errors.InvalidChecksum("message").proven
    assert errors.ProtocolError("message", proven=True).proven


@pytest.mark.parametrize(("text", "shown"), [("no", "app:Oops: no"), ("", "app:Oops")])
def test_a_remote_error_shows_type_and_text(text: str, shown: str) -> None:
    error = RemoteError("app:Oops", text, "Traceback ...")
    assert str(error) == shown
    assert (error.type_name, error.text, error.traceback_text) == ("app:Oops", text, "Traceback ...")
    assert RemoteError("app:Oops", text).traceback_text == ""


RETRYABLE = {"CrossedDials", "JoinTimeout", "NotInRing", "PeerLeaving", "PeerFull"}


@pytest.mark.parametrize("name", [name for name, kind in CLASSES.items() if issubclass(kind, errors.JoinError)])
def test_only_what_passes_by_itself_is_retryable(name: str) -> None:
    error = CLASSES[name]("message")
    assert isinstance(error, errors.JoinError)
    assert error.retryable == (name in RETRYABLE)
