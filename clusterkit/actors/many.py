"""One message to the actors of many nodes: partial results are results."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from clusterkit.actors.handlers import mark_of
from clusterkit.actors.ref import Ref
from clusterkit.core.identity import NodeId
from clusterkit.errors import UsageError

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Replies(Generic[R_co]):
    """What came of a `Node.multicall` or `Node.abcast`: partial results are results."""

    ok: Mapping[NodeId, R_co] = field(default_factory=dict)
    failed: Mapping[NodeId, Exception] = field(default_factory=dict)


async def to_many(
    targets: Iterable[tuple[NodeId, Callable[[], Ref[Any]]]], send: Callable[[Ref[Any]], Awaitable[Any]]
) -> Replies[Any]:
    """Send to all at once, and gather what came of each."""
    targets = list(targets)  # what cannot be meant is said before anything is sent
    ok: dict[NodeId, Any] = {}
    failed: dict[NodeId, Exception] = {}

    async def one(node: NodeId, ref: Callable[[], Ref[Any]]) -> None:
        try:
            ok[node] = await send(ref())
        except Exception as error:  # noqa: BLE001 - each failure is a result
            failed[node] = error

    async with asyncio.TaskGroup() as group:
        for node, ref in targets:
            group.create_task(one(node, ref))
    asked = [node for node, _ in targets]
    return Replies(_in_order(asked, ok), _in_order(asked, failed))


def _in_order(asked: list[NodeId], came: dict[NodeId, R]) -> dict[NodeId, R]:
    """In the order in which they were asked, not in that of their answers."""
    return {node: came[node] for node in asked if node in came}


def check_handler(method: Any, kind: str) -> None:
    """Raise `UsageError`, before anything is sent, for what is no event and no handler of that kind."""
    mark = mark_of(method)
    if not isinstance(method, str) and (mark is None or mark.kind not in (kind, "on")):
        raise UsageError(f"{method!r} is no handler to {kind}: give an exported method, or the name of an event")
