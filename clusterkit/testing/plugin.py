"""The pytest plugin: simulations as tests, seeds that replay, a check for leaks.

Load it in the ``conftest.py`` at the root of your tests::

    pytest_plugins = ["clusterkit.testing.plugin"]

Then ``@pytest.mark.simulation(seed=7)`` on an ``async def`` test (or its class or
module) gives it, and its async fixtures, a `SimulationLoop`. It works in the strict
and in the auto mode of pytest-asyncio (>= 1.5), through its hook for loop factories.

================  ============================================================
``seed=7``        the seed; 0 when it is not given
``seeds=50``      run the test under so many seeds, from ``seed`` upwards
``limit=3600``    seconds of virtual time after which `OutOfTime` is raised
``--seed 7``      run every simulation under this seed: how a failure is replayed
``--seeds 1000``  run every simulation under so many seeds
================  ============================================================

When a test and its fixtures are done, nothing may be left on its loop, else the test
has an error: always for simulations, and for all async tests with the ini option
``clusterkit_leaks = all``.
"""

import asyncio
import inspect
import re
import shlex
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from clusterkit.testing.leaks import check_leaks
from clusterkit.testing.loop import HOUR, SimulationLoop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
_SEED_IN_ID = re.compile(r"seed=(\d+)")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--seed``, ``--seeds`` and ``clusterkit_leaks``."""
    group = parser.getgroup("clusterkit", "simulations of clusterkit")
    group.addoption("--seed", type=int, default=None, help="run every simulation under this seed")
    group.addoption("--seeds", type=int, default=None, help="run every simulation under so many seeds")
    parser.addini(
        "clusterkit_leaks", "where to check for leaks: simulations, or all async tests", default="simulations"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker."""
    config.addinivalue_line(
        "markers",
        "simulation(seed=0, seeds=1, limit=3600): run this async test on a seeded loop with virtual time",
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """Under which seeds a test runs, and how far."""

    seed: int = 0
    seeds: int = 1
    limit: float = HOUR

    @classmethod
    def of(cls, item: pytest.Item) -> "_Plan | None":
        """Read the marker and the options; None for a test that is no simulation."""
        marker = item.get_closest_marker("simulation")
        if marker is None:
            return None
        if marker.args or not marker.kwargs.keys() <= {"seed", "seeds", "limit"}:
            raise pytest.UsageError(f"{item.nodeid}: mark.simulation takes seed=, seeds= and limit=")
        plan = cls(**marker.kwargs)
        seed, seeds = item.config.getoption("seed"), item.config.getoption("seeds")
        if seed is not None:
            plan = cls(seed, 1, plan.limit)
        return plan if seeds is None else cls(plan.seed, seeds, plan.limit)

    def factories(self) -> dict[str, LoopFactory]:
        """A loop for each seed, by the name that it has in the test's id."""
        seeds = range(self.seed, self.seed + self.seeds)
        return {f"seed={seed}": partial(SimulationLoop, seed, limit=self.limit) for seed in seeds}


# -- which loop a test runs on ----------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, obj: object) -> None:
    """Mark simulations for pytest-asyncio, whose strict mode takes marked tests alone."""
    if _is_async(obj) and _marked(collector, obj, "simulation") and not _marked(collector, obj, "asyncio"):
        pytest.mark.asyncio(loop_scope="function")(obj)


def _is_async(obj: object) -> bool:
    return inspect.iscoroutinefunction(getattr(getattr(obj, "hypothesis", None), "inner_test", obj))


def _marked(collector: Any, obj: object, name: str) -> bool:
    marks = getattr(obj, "pytestmark", [])
    return any(mark.name == name for mark in marks) or collector.get_closest_marker(name) is not None


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> Generator[None, Any, Mapping[str, LoopFactory]]:
    """Give simulations their loops, and leave other tests what others, or asyncio, give them."""
    others = yield
    plan = _Plan.of(item)
    return plan.factories() if plan else others or {"asyncio": asyncio.new_event_loop}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse the mark where it would have no effect."""
    if _Plan.of(item) and not _is_async(getattr(item, "obj", None)):
        pytest.fail(f"{item.nodeid}: mark.simulation is for async def tests", pytrace=False)


# -- what a test leaves behind ------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Check for leaks as the last thing before pytest-asyncio closes a test's loop."""
    runner = yield
    if fixturedef.argname == "_function_scoped_runner":
        # Finalizers run last in, first out: after the async fixtures' own, before the runner's.
        loop = request.node.stash[_LOOP] = runner.get_loop()
        if isinstance(loop, SimulationLoop):
            fixturedef.addfinalizer(loop.wind_up)
        fixturedef.addfinalizer(partial(_check, request.node, runner))
    return runner


_LOOP = pytest.StashKey[asyncio.AbstractEventLoop]()
_PASSED = pytest.StashKey[bool]()


def _check(item: pytest.Item, runner: asyncio.Runner) -> None:
    """Look for leaks, but not behind a test that failed: it had no chance to clean up."""
    wanted = _Plan.of(item) is not None or item.config.getini("clusterkit_leaks") == "all"
    if wanted and item.stash.get(_PASSED, False):
        check_leaks(runner)


# -- what a failure says ------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the seed and the command that replays it to a simulation's failure."""
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    loop = item.stash.get(_LOOP, None)
    if report.failed and isinstance(loop, SimulationLoop):
        report.sections.append(("simulation", _account(item, loop)))
    return report


def _account(item: pytest.Item, loop: SimulationLoop) -> str:
    return (
        f"seed {loop.seed}, {loop.time():.6f} s of virtual time, {len(loop.trace)} events, trace {loop.trace.digest()}\n"
        f"replay: pytest {shlex.quote(_without_seed(item.nodeid))} --seed {loop.seed}"
    )


def _without_seed(nodeid: str) -> str:
    """The id that the test has when it runs under one seed alone.

    >>> _without_seed("test_a.py::test_b[seed=7-x]"), _without_seed("test_a.py::test_b[seed=7]")
    ('test_a.py::test_b[x]', 'test_a.py::test_b')
    """
    path, bracket, values = nodeid.partition("[")
    kept = [value for value in values.removesuffix("]").split("-") if not _SEED_IN_ID.fullmatch(value)]
    return f"{path}[{'-'.join(kept)}]" if bracket and kept else path
