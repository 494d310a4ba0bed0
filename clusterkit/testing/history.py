"""What clients asked of a cluster, and what they were told: the evidence of a workload.

A `History` records operations as they are made. How one ended follows the product's
own promise: an error whose ``executed`` is ``"no"`` had no effect, any other error may
have had one. So a checker that finds a lost or doubled effect convicts the promise.
"""

import itertools
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from clusterkit import runtime
from clusterkit.errors import CallError

T = TypeVar("T")
Outcome = Literal["ok", "failed", "unknown"]
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client; times in seconds.

    >>> Operation("ada", "add", 3, called=1.0, returned=1.5).ok
    True
    """

    client: str
    name: str
    argument: Any
    called: float
    returned: float = NEVER
    result: Any = None
    outcome: Outcome = "ok"
    error: str = ""

    @property
    def ok(self) -> bool:
        """It was acknowledged."""
        return self.outcome == "ok"

    @property
    def failed(self) -> bool:
        """It is promised to have had no effect."""
        return self.outcome == "failed"

    @property
    def unknown(self) -> bool:
        """It may have had its effect, may have it later, or never."""
        return self.outcome == "unknown"


class History:
    """Operations in the order in which they ended."""

    def __init__(self) -> None:
        self._operations: list[Operation] = []
        self._pending: dict[int, Operation] = {}
        self._numbers = itertools.count()

    async def record(self, client: str, name: str, argument: Any, work: Awaitable[T]) -> T | None:
        """Await ``work``, note how it ended, and return its result; None for an error, which is not raised.

        Cancelled, it is noted as unknown.
        """
        number, called = next(self._numbers), runtime.now()
        self._pending[number] = Operation(client, name, argument, called, outcome="unknown", error="pending")
        outcome: Outcome = "unknown"
        error, result = "cancelled", None
        try:
            result = await work
            outcome, error = "ok", ""
        except Exception as caught:  # noqa: BLE001 - every error is evidence
            outcome = "failed" if isinstance(caught, CallError) and caught.executed == "no" else "unknown"
            error = f"{type(caught).__name__}: {caught}"
        finally:
            del self._pending[number]
            self.add(Operation(client, name, argument, called, runtime.now(), result, outcome, error))
        return result

    def add(self, operation: Operation) -> None:
        """Append an operation that was observed elsewhere."""
        self._operations.append(operation)

    def named(self, *names: str) -> list[Operation]:
        """The operations of these names."""
        return [each for each in self if each.name in names]

    def __iter__(self) -> Iterator[Operation]:
        """All operations; those that have not ended are unknown."""
        yield from self._operations
        yield from self._pending.values()

    def __len__(self) -> int:
        return len(self._operations) + len(self._pending)
