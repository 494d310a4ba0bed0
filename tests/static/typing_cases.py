"""What a type checker must see: read by mypy --strict and pyright, never run.

Each ignored line is a mistake that both must find; an ignore that nothing needs is
an error itself.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedFunction=false
from typing import assert_type

from clusterkit import From, GenServer, Node, Ref, call, cast, on


class Account(GenServer):
    def __init__(self, balance: int) -> None:
        self.balance = balance

    @call
    async def withdraw(self, amount: int, *, note: str = "") -> int:
        self.balance -= amount + len(note)
        return self.balance

    @call(timeout=1.0)
    async def owner(self) -> str:
        return "ada"

    @cast
    async def paid(self, text: str) -> None: ...

    @on("hello")
    def hello(self, data: str, frm: From) -> str:
        return f"{data} from {frm.peer}"


class Other(GenServer):
    @call
    async def foreign(self) -> int:
        return 1


async def good(node: Node) -> None:
    ref = await node.start(Account(1), name="ada")
    assert_type(ref, Ref[Account])
    assert_type(await ref.call(Account.withdraw, 3), int)
    assert_type(await ref.call(Account.withdraw, 3, note="x"), int)
    assert_type(await node.ref(Account, "ada", on="bar").call(Account.owner), str)
    assert_type(ref.proxy, Account)
    assert_type(await ref.proxy.withdraw(5), int)
    assert_type(await ref.cast(Account.paid, "x"), None)
    await ref.call("hello", "x")
    await ref.with_(timeout=1.0).cast("hello")


async def mistakes(ref: Ref[Account]) -> None:
    await ref.call(Account.withdraw, "3")  # type: ignore[call-overload]  # pyright: ignore
    await ref.call(Account.withdraw)  # type: ignore[call-overload]  # pyright: ignore
    _wrong: str = await ref.call(Account.withdraw, 3)  # type: ignore[call-overload]  # pyright: ignore
    await ref.call(Other.foreign)  # type: ignore[call-overload]  # pyright: ignore
    await ref.proxy.withdraw("3")  # type: ignore[arg-type]  # pyright: ignore
    await ref.cast(Account.withdraw, 3)  # type: ignore[call-overload]  # pyright: ignore
    await ref.proxy.unknown()  # type: ignore[attr-defined]  # pyright: ignore
