"""What a type checker must see: read by mypy --strict and pyright, never run.

Each ignored line is a mistake that both must find, named behind it; an ignore that nothing
needs is an error itself, and test_typing.py looks without the ignores.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedFunction=false, reportUnusedClass=false
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, assert_type

from clusterkit import (
    ActorInfo,
    Child,
    Down,
    From,
    GenServer,
    Mailbox,
    Node,
    NoReply,
    Ref,
    Replies,
    Stop,
    Supervisor,
    TimerFired,
    call,
    cast,
    deadline,
    message,
    on,
)
from clusterkit.testing import isolated

T = TypeVar("T")


class Account(GenServer):
    mailbox = Mailbox(10, overflow="block")
    crash_on = (KeyError, OSError)
    trap_exit = True

    def __init__(self, balance: int) -> None:
        self.balance = balance

    @call
    async def withdraw(self, amount: int, *, note: str = "") -> int:
        self.balance -= amount + len(note)
        return self.balance

    @call(timeout=1.0)
    async def owner(self) -> str:
        return "ada"

    @call(concurrent=True, cancellable=True)
    async def audit(self) -> int:
        return self.defer(self.caller, self.counted())

    @call
    async def later(self) -> int:
        raise NoReply

    @call
    async def last(self) -> int:
        raise Stop("shutdown", reply=self.balance)

    @cast
    async def paid(self, text: str) -> None: ...

    @on("hello")
    def hello(self, data: str, frm: From) -> str:
        return f"{data} from {frm.peer}"

    @on("bye")
    async def bye(self, data: str) -> None: ...

    async def counted(self) -> int:
        return 1

    async def init(self) -> None:
        mine: Ref[Account] = self.ref
        self.link(mine)
        self.timer = self.every(60.0, "sweep")

    async def handle_info(self, info: object) -> None:
        match info:
            case TimerFired(tag="sweep"):
                self.cancel_timer(self.timer)
            case Down(ref=ref, reason=why):
                print(ref.name, why)
            case _:
                await super().handle_info(info)


class Savings(Account): ...


class Other(GenServer):
    @call
    async def foreign(self) -> int:
        return 1


class Plain(GenServer):
    """The callbacks may be plain functions."""

    def handle_call(self, request: Any, frm: From) -> int:
        return 1

    def handle_cast(self, request: str) -> None: ...

    def handle_info(self, info: object) -> None: ...

    def handle_continue(self, arg: object) -> None: ...


class Shelf(GenServer, Generic[T]):
    @call
    async def get(self, key: str) -> T:
        raise KeyError(key)


@message
@dataclass
class Price:
    sku: str
    cents: int


@message(name="shop.Offer")
@dataclass(frozen=True)
class Offer:
    price: Price


class App(Supervisor):
    strategy = "rest_for_one"
    intensity, period = 3, 5.0
    auto_shutdown = "any_significant"

    def children(self) -> Sequence[Child[GenServer]]:
        return [Child(partial(Account, 1), name="ada", restart="transient"), Child(Other)]


async def good(node: Node) -> None:
    ref = await node.start(Account(1), name="ada")
    assert_type(ref, Ref[Account])
    assert_type(await ref.call(Account.withdraw, 3), int)
    assert_type(await ref.call(Account.withdraw, 3, note="x"), int)
    assert_type(await node.ref(Account, "ada", on="bar").call(Account.owner), str)
    assert_type(await ref.call(Account.audit), int)
    assert_type(ref.proxy, Account)
    assert_type(await ref.proxy.withdraw(5), int)
    assert_type(await ref.cast(Account.paid, "x"), None)
    assert_type(await ref.call(Account.bye, "x"), None)
    await ref.call("hello", "x")
    assert_type(await ref.with_(timeout=1.0, retry=2).call(Account.owner), str)
    assert_type(Offer(Price("apple", 120)).price.cents, int)


async def refs(node: Node, savings: Ref[Savings]) -> None:
    wider: Ref[Account] = savings
    several: list[Ref[GenServer]] = [wider, savings]
    assert_type(await savings.call(Account.withdraw, 3), int)
    assert_type(node.whereis("ada"), Ref[GenServer] | None)
    assert_type(node.whereis("ada", Account), Ref[Account] | None)
    await node.stop(several[0], "shutdown", drain=False)
    async with isolated(Account(1)) as ref:
        assert_type(ref, Ref[Account])


async def generic(node: Node) -> None:
    ref = node.ref(Shelf[int], "shelf")
    assert_type(ref, Ref[Shelf[int]])
    assert_type(await ref.call(Shelf[int].get, "x"), int)
    assert_type(await ref.proxy.get("x"), int)


async def many(node: Node) -> None:
    assert_type(await node.multicall(node.ring.nodes, "ada", Account.withdraw, 3), Replies[int])
    assert_type(await node.multicall(["bar"], "ada", Account.owner), Replies[str])
    assert_type(await node.multicall(["bar"], "ada", "hello", "x"), Replies[Any])
    assert_type(await node.abcast(node.ring.nodes, "ada", Account.paid, "x"), Replies[None])
    assert_type(await node.abcast(["bar"], "ada", "bye", "x"), Replies[None])


async def bounded(node: Node, ref: Ref[Account]) -> int:
    async with node.monitor(ref) as down:
        assert_type(await down, Down)
    assert_type(node.inspect(), list[ActorInfo])
    node.telemetry.attach(
        "clusterkit.call.stop", lambda event, took, about: print(event, took["seconds"], about["server"])
    )
    with deadline(2.0):
        return await ref.call(Account.withdraw, 1)


async def children(app: App, ref: Ref[App]) -> None:
    assert_type(await app.start_child(Child(partial(Account, 1))), Ref[Account])
    assert_type(await ref.proxy.start_child(Child(Other, name="other")), Ref[Other])
    assert_type(await ref.call(App.start_child, Child(lambda: Account(1))), Ref[Account])


async def mistakes(ref: Ref[Account]) -> None:
    await ref.call(Account.withdraw, "3")  # type: ignore[call-overload]  # pyright: ignore  # wrong argument type
    await ref.call(Account.withdraw)  # type: ignore[call-overload]  # pyright: ignore  # missing argument
    _wrong: str = await ref.call(Account.withdraw, 3)  # type: ignore[call-overload]  # pyright: ignore  # wrong result type
    await ref.call(Other.foreign)  # type: ignore[call-overload]  # pyright: ignore  # another server's method
    await ref.proxy.withdraw("3")  # type: ignore[arg-type]  # pyright: ignore  # wrong argument on the proxy
    await ref.cast(Account.withdraw, 3)  # type: ignore[call-overload]  # pyright: ignore  # casting a method that returns
    await ref.proxy.unknown()  # type: ignore[attr-defined]  # pyright: ignore  # unknown method


async def mistakes_with_many(node: Node, ref: Ref[Account]) -> None:
    await node.multicall(["bar"], "ada", Account.withdraw, "3")  # type: ignore[call-overload]  # pyright: ignore  # wrong argument to many
    await node.abcast(["bar"], "ada", Account.withdraw, 3)  # type: ignore[call-overload]  # pyright: ignore  # casting to many what returns
    _narrower: Ref[Savings] = ref  # type: ignore[assignment]  # pyright: ignore  # a reference to less than is asked for


class Mistaken(GenServer):
    @call  # type: ignore[type-var]  # pyright: ignore  # a call that is no coroutine
    def plain(self) -> int:
        return 1

    @cast  # type: ignore[type-var]  # pyright: ignore  # a cast that returns
    async def answers(self) -> int:
        return 1

    @on("x")  # type: ignore[type-var]  # pyright: ignore  # an event without data
    async def nothing(self) -> None: ...

    @call
    async def deferred(self) -> str:
        return self.defer(self.caller, self.number())  # type: ignore[return-value]  # pyright: ignore  # deferred work of another type

    async def number(self) -> int:
        return 1


class Unheard(Supervisor):
    strategy = "one_for_none"  # type: ignore[assignment]  # pyright: ignore  # an unknown strategy

    def children(self) -> Sequence[Child[GenServer]]:
        return [Child(Account)]  # type: ignore[arg-type]  # pyright: ignore  # a child that lacks an argument
