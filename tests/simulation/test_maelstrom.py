"""Echo, unique ids, broadcast and counter on a cluster that is cut and healed; and with a fault in each."""

from collections.abc import Callable
from typing import Any

import pytest

from clusterkit.testing import simulate
from clusterkit.testing.history import History
from clusterkit.testing.workloads import check_broadcast, check_counter, check_echo, check_unique_ids
from tests.simulation import maelstrom
from tests.simulation.maelstrom import Service

Check = Callable[[History], list[str]]
CHECKS: dict[str, Check] = {
    "echo": check_echo,
    "generate": check_unique_ids,
    "broadcast": check_broadcast,
    "add": check_counter,
}


@pytest.mark.simulation(seeds=5)
@pytest.mark.parametrize("workload", CHECKS)
async def test_the_workload_is_served_right(workload: str) -> None:
    history = await maelstrom.run(workload)
    assert len(history) >= maelstrom.CLIENTS * maelstrom.OPERATIONS
    assert any(each.ok for each in history)
    assert CHECKS[workload](history) == []


async def echoes_the_last(self: Any, value: int) -> int:
    """Fault: answers one caller with another's value."""
    self.last, last = value, getattr(self, "last", value)
    return int(last)


async def forgets_its_name(self: Service) -> str:
    """Fault: ids are unique on one node alone."""
    self.given += 1
    return str(self.given)


async def forgets(self: Service, value: int) -> None:
    """Fault: acknowledges what it drops, now and then."""
    if value % 20:
        self.values[value] = None


async def adds_twice(self: Service, number: int) -> None:
    """Fault: counts a request again, now and then."""
    me = f"{self.node.id.name}/{self.node.id.incarnation}"
    self.counts[me] = self.counts.get(me, 0) + number * (1 if number % 20 else 2)


@pytest.mark.parametrize(
    ("workload", "fault"),
    [("echo", echoes_the_last), ("generate", forgets_its_name), ("broadcast", forgets), ("add", adds_twice)],
    ids=["echo", "generate", "broadcast", "add"],
)
def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch, workload: str, fault: Callable[..., Any]) -> None:
    monkeypatch.setattr(Service, workload, with_the_mark_of(workload, fault))
    assert any(CHECKS[workload](simulate(maelstrom.run, workload, seed=seed)) for seed in range(5))


def with_the_mark_of(workload: str, fault: Callable[..., Any]) -> Callable[..., Any]:
    """Export the fault as the handler that it takes the place of."""
    fault.__dict__.update(vars(getattr(Service, workload)))
    return fault
