"""Simulated time, simulated networks, real processes: how a cluster is tested.

Three kinds of cluster have one shape, ``async with SomeCluster(3, app=...)``:
`SimCluster` (virtual time, one process, every fault, one seed one run), `LocalCluster`
(real TCP, one process) and `ProcessCluster` (real processes, kill -9). One actor alone is
`isolated`; a hundred core machines and more are a `MessageNet`; real packets are dropped
between `Namespaces`. Names are handed on lazily, so that none costs what it does not need.

Where to read on: `clusterkit.testing.loop`, then `clusterkit.testing.path`,
`clusterkit.testing.stream`, `clusterkit.testing.network`, `clusterkit.testing.sim_cluster`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clusterkit.testing.history import History as History
    from clusterkit.testing.history import Operation as Operation
    from clusterkit.testing.isolation import isolated as isolated
    from clusterkit.testing.leaks import LeakError as LeakError
    from clusterkit.testing.linearizability import Register as Register
    from clusterkit.testing.linearizability import linearizable as linearizable
    from clusterkit.testing.local_cluster import LocalCluster as LocalCluster
    from clusterkit.testing.loop import Deadlock as Deadlock
    from clusterkit.testing.loop import Livelock as Livelock
    from clusterkit.testing.loop import OutOfTime as OutOfTime
    from clusterkit.testing.loop import SimulationLoop as SimulationLoop
    from clusterkit.testing.loop import running_simulation as running_simulation
    from clusterkit.testing.loop import simulate as simulate
    from clusterkit.testing.message_net import Delivery as Delivery
    from clusterkit.testing.message_net import Door as Door
    from clusterkit.testing.message_net import Host as Host
    from clusterkit.testing.message_net import MessageNet as MessageNet
    from clusterkit.testing.namespaces import Namespaces as Namespaces
    from clusterkit.testing.namespaces import why_unavailable as why_unavailable
    from clusterkit.testing.network import World as World
    from clusterkit.testing.path import Conditions as Conditions
    from clusterkit.testing.process_cluster import ProcessCluster as ProcessCluster
    from clusterkit.testing.processes import Child as Child
    from clusterkit.testing.processes import ChildError as ChildError
    from clusterkit.testing.processes import Processes as Processes
    from clusterkit.testing.proxy import ChaosProxy as ChaosProxy
    from clusterkit.testing.proxy import Plan as Plan
    from clusterkit.testing.sim_cluster import Crashed as Crashed
    from clusterkit.testing.sim_cluster import NotSettled as NotSettled
    from clusterkit.testing.sim_cluster import SimCluster as SimCluster
    from clusterkit.testing.workloads import check_broadcast as check_broadcast
    from clusterkit.testing.workloads import check_counter as check_counter
    from clusterkit.testing.workloads import check_echo as check_echo
    from clusterkit.testing.workloads import check_unique_ids as check_unique_ids

_HOMES = {
    "history": ("History", "Operation"),
    "isolation": ("isolated",),
    "leaks": ("LeakError",),
    "linearizability": ("Register", "linearizable"),
    "local_cluster": ("LocalCluster",),
    "loop": ("Deadlock", "Livelock", "OutOfTime", "SimulationLoop", "running_simulation", "simulate"),
    "message_net": ("Delivery", "Door", "Host", "MessageNet"),
    "namespaces": ("Namespaces", "why_unavailable"),
    "network": ("World",),
    "path": ("Conditions",),
    "process_cluster": ("ProcessCluster",),
    "processes": ("Child", "ChildError", "Processes"),
    "proxy": ("ChaosProxy", "Plan"),
    "sim_cluster": ("Crashed", "NotSettled", "SimCluster"),
    "workloads": ("check_broadcast", "check_counter", "check_echo", "check_unique_ids"),
}
_HOME = {name: f"clusterkit.testing.{module}" for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'clusterkit.testing' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - so that a name costs only what it needs

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
