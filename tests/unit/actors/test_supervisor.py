"""Supervisors as programs use them: names, time limits, nests, requests, and what may go wrong around them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest

from clusterkit import (
    Child,
    ChildInfo,
    ClusterError,
    ConfigError,
    Down,
    GenServer,
    NameInUse,
    Node,
    NoSuchServer,
    Ref,
    ServerDown,
    Stop,
    Supervisor,
    UsageError,
    call,
    cast,
)
from clusterkit.runtime import now
from clusterkit.testing.isolation import _Nowhere

pytestmark = pytest.mark.simulation


class Worker(GenServer):
    """A child with a bad side for each test."""

    def __init__(self, log: list[str] | None = None, label: str = "") -> None:
        self.log = [] if log is None else log
        self.label = label

    async def init(self) -> None:
        self.log.append(f"+{self.label}")

    @call
    async def serial(self) -> int:
        return int(self.ref.address.to)

    @cast
    async def crash(self) -> None:
        raise ValueError("boom")

    @cast
    async def end(self, reason: str) -> None:
        raise Stop(reason)

    async def terminate(self, reason: object) -> None:
        self.log.append(f"-{self.label}")


class Slow(Worker):
    """It takes its time to stop, and says so when it had none."""

    def __init__(self, log: list[str], label: str = "", *, swallows: int = 0) -> None:
        super().__init__(log, label)
        self.swallows = swallows

    async def terminate(self, reason: object) -> None:
        self.log.append(f"-{self.label} {reason}")
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                self.log.append(f"x{self.label}")
                if not self.swallows:
                    raise
                self.swallows -= 1


class Stuck(Worker):
    """Its ``init`` never returns, from the given start on."""

    starts = 0

    def __init__(self, log: list[str], counts: list[int], stuck_from: int) -> None:
        super().__init__(log, "stuck")
        counts.append(len(counts) + 1)
        self.is_stuck = len(counts) >= stuck_from

    async def init(self) -> None:
        await super().init()
        if self.is_stuck:
            await asyncio.get_running_loop().create_future()


class App(Supervisor):
    """A supervisor that is told everything at construction."""

    def __init__(self, *listed: Child[Any], **options: Any) -> None:
        self.listed = listed
        for name, value in options.items():
            setattr(self, name, value)

    def children(self) -> Sequence[Child[Any]]:
        return self.listed

    @call
    async def hold(self, entered: asyncio.Event) -> None:
        entered.set()
        await asyncio.get_running_loop().create_future()

    @call
    async def add(self, name: str) -> str:
        ref = await self.start_child(Child(Worker, name=name))
        return str(await ref.call(Worker.serial))


@asynccontextmanager
async def a_node() -> AsyncIterator[Node]:
    async with Node("alone@127.0.0.1:7022", cookie="the cookie of all tests", network=_Nowhere()) as node:
        yield node


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def names(node: Node) -> set[str | None]:
    return {each.name for each in node.inspect()} - {"clusterkit.command"}


def process_of(actor: GenServer) -> Any:
    assert actor._clusterkit_process is not None
    return actor._clusterkit_process


def is_another(node: Node, name: str, old: Ref[Any] | None) -> bool:
    return node.whereis(name) != old


def is_as_long(found: list[Any], length: int) -> bool:
    return len(found) == length


def states(app: Supervisor) -> dict[str | None, str]:
    return {each.name: each.state for each in app._clusterkit_active().list()}


# -- names


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_a_name_means_the_restarted_child_before_anybody_hears_of_the_end_of_the_old_one(strategy: str) -> None:
    async with a_node() as node:
        app = App(*(Child(Worker, name=name) for name in "abc"), strategy=strategy)
        await node.start(app, name="app")
        before = {name: node.whereis(name) for name in "abc"}
        met: dict[str, bool] = {}

        def heard(name: str) -> Callable[[str], None]:
            def told(_: str) -> None:
                found = node.whereis(name)
                met[name] = found is not None and found != before[name]

            return told

        monitors = process_of(app).kernel.monitors
        for name, ref in before.items():
            assert ref is not None
            monitors.watch(ref.address, heard(name))
        await node.ref(Worker, "b").cast(Worker.crash)
        hit = {"one_for_one": "b", "one_for_all": "abc", "rest_for_one": "bc"}[strategy]
        await until(lambda: len(met) == len(hit))
        assert met == dict.fromkeys(hit, True)


async def test_a_call_after_the_down_of_a_child_finds_the_restarted_one() -> None:
    async with a_node() as node:
        await node.start(App(Child(Worker, name="w")))
        ref = node.ref(Worker, "w")
        first = await ref.call(Worker.serial)
        async with node.monitor(ref) as down:
            await node.stop(ref, "boom")
            end = await down
        assert (end.reason, type(end)) == ("boom", Down)
        assert await ref.call(Worker.serial) > first


async def test_a_restarted_child_is_a_fresh_object_with_a_new_ref() -> None:
    made: list[Worker] = []

    def make() -> Worker:
        made.append(Worker())
        return made[-1]

    async with a_node() as node:
        app = App(Child(make, name="w"))
        await node.start(app)
        old = node.whereis("w")
        assert old is not None
        await node.ref(Worker, "w").cast(Worker.crash)
        await until(lambda: len(made) == 2 and states(app) == {"w": "running"})
        assert made[0] is not made[1]
        with pytest.raises(NoSuchServer):
            await old.call("serial")
        assert node.whereis("w") != old


async def test_down_of_a_child_comes_once_however_it_ends() -> None:
    async with a_node() as node:
        app = App(Child(Worker, name="p"), Child(Worker, name="t", restart="temporary"), strategy="one_for_all")
        ref = await node.start(app)
        heard: list[str] = []
        for name in "pt":
            target = node.whereis(name)
            assert target is not None
            process_of(app).kernel.monitors.watch(target.address, lambda why, name=name: heard.append(f"{name} {why}"))
        await node.ref(Worker, "p").cast(Worker.crash)
        await until(lambda: len(heard) == 2)
        await node.stop(ref)
        assert heard == ["t shutdown", "p ValueError: boom"]


async def test_a_name_that_another_actor_took_meanwhile_is_a_failed_restart(caplog: pytest.LogCaptureFixture) -> None:
    async with a_node() as node:
        app = App(Child(Worker, name="w", restart="transient"), intensity=2)
        ref = await node.start(app)
        await app.stop_child("w")
        await node.start(Worker(), name="w")
        with pytest.raises(NameInUse):
            await app.restart_child("w")
        assert states(app) == {"w": "stopped"}
        assert "w could not be started: an actor named 'w' runs on alone" in caplog.text
        await node.stop(ref)


# -- time


async def test_a_child_has_its_seconds_to_stop_and_is_cancelled_then() -> None:
    log: list[str] = []
    async with a_node() as node:
        app = App(Child(partial(Slow, log, "a"), shutdown=2.0), Child(partial(Slow, log, "b")))
        ref = await node.start(app)
        begin = now()
        await node.stop(ref, timeout=60)
        assert now() - begin == pytest.approx(2.0 + 5.0)
        assert log == ["+a", "+b", "-b shutdown", "xb", "-a shutdown", "xa"]


async def test_no_seconds_at_all_cancel_a_child_at_once() -> None:
    log: list[str] = []
    async with a_node() as node:
        app = App(Child(partial(Worker, log, "a"), name="a", shutdown=0))
        ref = await node.start(app)
        await node.stop(ref)
        assert log == ["+a"]
        assert names(node) == set()


async def test_a_child_that_swallows_its_cancellation_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    async with a_node() as node:
        app = App(Child(partial(Slow, log, "a", swallows=2), name="a", shutdown=1.0), Child(Worker, name="b"))
        ref = await node.start(app, name="app")
        begin = now()
        await node.stop(ref, timeout=60)
        assert now() - begin == pytest.approx(1.0 + 4.0 + 4.0)
        assert log == ["+a", "-a shutdown", "xa", "xa", "xa"]  # the last one: nothing outlives a supervisor
        assert "supervisor app: a does not end: it swallows its cancellation" in caplog.text


async def test_a_child_that_was_given_up_and_ends_after_all_is_told(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    async with a_node() as node:
        app = App(Child(partial(Slow, log, "a", swallows=2), restart="transient", shutdown=1.0))
        await node.start(app)
        (child,) = await app.which_children()
        assert child.ref is not None
        async with node.monitor(child.ref) as down:
            await app.stop_child(child.ref)
            assert log == ["+a", "-a shutdown", "xa", "xa"]
            process_of(app).kernel.find(child.ref.address.to).holder.kill()
            assert (await down).reason == "killed"
        assert caplog.text.count("does not end") == 1


async def test_a_start_that_cannot_be_cancelled_is_given_up() -> None:
    gate = asyncio.Event()

    class Obstinate(Worker):
        async def init(self) -> None:
            while not gate.is_set():
                with suppress(asyncio.CancelledError):
                    await gate.wait()

    async with a_node() as node:
        begin = now()
        with pytest.raises(TimeoutError, match="init of Obstinate took longer than 1 s"):
            await node.start(App(Child(Obstinate), start_timeout=1.0))
        assert now() - begin == pytest.approx(1.0 + 4.0 + 4.0)
        gate.set()


async def test_an_init_that_never_returns_fails_the_start() -> None:
    log: list[str] = []
    async with a_node() as node:
        app = App(
            Child(partial(Worker, log, "a"), name="a"),
            Child(partial(Stuck, log, [], 1), name="s"),
            start_timeout=30.0,
        )
        begin = now()
        with pytest.raises(TimeoutError, match="init of s took longer than 30 s") as caught:
            await node.start(app, name="app")
        assert now() - begin == pytest.approx(30.0)
        assert caught.value.__notes__ == ["supervisor app could not start its child s"]
        assert log == ["+a", "+stuck", "-a"]
        assert names(node) == set()


async def test_an_init_that_never_returns_is_a_failed_restart() -> None:
    counts: list[int] = []
    async with a_node() as node:
        app = App(Child(partial(Stuck, [], counts, 2), name="s"), start_timeout=1.0, intensity=3)
        ref = await node.start(app)
        async with node.monitor(ref) as down:
            await node.ref(Worker, "s").cast(Worker.crash)
            begin = now()
            assert (await down).reason == "shutdown"
        assert now() - begin == pytest.approx(3.0)
        assert counts == [1, 2, 3, 4]


async def test_a_start_that_comes_too_late_after_all_has_failed() -> None:
    class Late(Worker):
        async def init(self) -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                self.log.append("late")

    log: list[str] = []
    async with a_node() as node:
        with pytest.raises(TimeoutError, match="init of Late took longer than 2 s"):
            await node.start(App(Child(partial(Late, log)), start_timeout=2.0))
        assert log == ["late"]
        assert names(node) == set()


async def test_a_supervisor_that_starts_its_own_children_in_time_is_not_late() -> None:
    class Patient(Worker):
        async def init(self) -> None:
            await asyncio.sleep(0.8)

    async with a_node() as node:
        inner = partial(App, *(Child(Patient) for _ in range(5)), start_timeout=1.0)
        begin = now()
        await node.start(App(Child(inner, name="inner"), start_timeout=1.0))
        assert now() - begin == pytest.approx(4.0)
        late = partial(App, Child(Patient), Child(partial(Stuck, [], [], 1)), start_timeout=9.0)
        with pytest.raises(TimeoutError, match="init of Stuck took longer than 9 s"):
            await node.start(App(Child(late, name="late"), start_timeout=1.0))


async def test_a_supervisor_whose_own_init_hangs_is_late() -> None:
    class Hanging(App):
        async def init(self) -> None:
            await super().init()
            await asyncio.get_running_loop().create_future()

    async with a_node() as node:
        with pytest.raises(TimeoutError, match="init of inner took longer than 1 s"):
            await node.start(App(Child(partial(Hanging, Child(Worker, name="w")), name="inner"), start_timeout=1.0))
        assert names(node) == set()


# -- what fails


async def test_a_factory_that_fails_fails_the_start_with_its_error() -> None:
    def broken() -> Worker:
        raise LookupError("no such thing")

    async with a_node() as node:
        with pytest.raises(LookupError, match="no such thing"):
            await node.start(App(Child(Worker, name="w"), Child(broken)))
        assert names(node) == set()


async def test_a_factory_that_makes_no_actor_is_refused() -> None:
    wrong: Any = dict
    async with a_node() as node:
        with pytest.raises(UsageError, match=r"the factory of child 'dict' made \{\}, which is no GenServer"):
            await node.start(App(Child(wrong)))


async def test_a_factory_that_gives_the_same_object_again_is_given_a_free_one() -> None:
    worker = Worker()
    async with a_node() as node:
        app = App(Child(lambda: worker, name="w"))
        await node.start(app)
        await node.ref(Worker, "w").cast(Worker.crash)
        await until(lambda: process_of(app).kernel.counters["restarts"] == 1 and states(app) == {"w": "running"})
        with pytest.raises(UsageError, match="runs already"):
            await app.start_child(Child(lambda: worker, name="v"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"strategy": "all"}, "strategy is 'all'"),
        ({"intensity": -1}, "intensity is -1"),
        ({"period": 0}, "period is 0"),
        ({"auto_shutdown": "yes"}, "auto_shutdown is 'yes'"),
        ({"start_timeout": 0}, "timeout is 0"),
    ],
)
async def test_what_a_supervisor_cannot_be_is_said_at_its_start(options: dict[str, Any], text: str) -> None:
    async with a_node() as node:
        with pytest.raises(ConfigError, match=text):
            await node.start(App(**options))


async def test_what_cannot_be_a_child_is_said_where_it_is_written() -> None:
    wrong: Any = Worker()
    for make, text in (
        (lambda: Child(wrong), "given by what makes it"),
        (lambda: Child(Worker, name="a b"), "actor name"),
        (lambda: Child(Worker, name="clusterkit.mine"), "reserved"),
        (lambda: Child(Worker, restart="seldom"), "restart of child 'Worker' is 'seldom'"),  # type: ignore[arg-type]
        (lambda: Child(Worker, shutdown=-1.0), "shutdown of child 'Worker' is -1.0"),
        (lambda: Child(Worker, shutdown=float("inf")), "shutdown of child 'Worker' is inf"),
        (lambda: Child(Worker, name="w", significant=True), "child 'w' is permanent"),
    ):
        with pytest.raises(ConfigError, match=text):
            make()
    async with a_node() as node:
        with pytest.raises(ConfigError, match="children are given as Child"):
            await node.start(App(wrong))
        with pytest.raises(ConfigError, match="two children have the name 'w'"):
            await node.start(App(Child(Worker, name="w"), Child(Worker, name="w")))


async def test_callbacks_of_ones_own_run_around_the_children_and_need_no_super() -> None:
    log: list[str] = []

    class Own(App):
        async def init(self) -> None:
            log.append("init")

        async def terminate(self, reason: object) -> None:
            log.append(f"terminate {reason}")

    async with a_node() as node:
        app = Own(Child(partial(Worker, log, "a"), name="a"))
        await node.start(app)
        assert [child.name for child in await app.which_children()] == ["a"]
    assert (log[0], log[-1]) == ("init", "terminate shutdown")
    with pytest.raises(UsageError, match="is not started"):
        await App().which_children()


async def test_children_that_are_no_list_are_told() -> None:
    class Late(Supervisor):
        async def children(self) -> Sequence[Child[Any]]:  # type: ignore[override]
            return ()

    async with a_node() as node:
        with pytest.raises(ConfigError, match="a list of Child, and no coroutine"):
            await node.start(Late())


# -- nothing outlives a supervisor


@pytest.mark.parametrize("moment", ["at rest", "restarting", "starting", "stopping", "spawning"])
async def test_a_supervisor_that_is_cancelled_leaves_nobody_behind(moment: str) -> None:
    log: list[str] = []
    async with a_node() as node:
        app = App(
            Child(partial(Worker, log, "a"), name="a"),
            Child(partial(Stuck, log, [], 2 if moment == "restarting" else 9), name="s"),
            Child(partial(Slow, log, "c"), name="c"),
            intensity=9,
            strategy="rest_for_one",
        )
        await node.start(app, name="app")
        extra: asyncio.Task[Any] | None = None
        match moment:
            case "restarting" | "stopping":
                await node.ref(Worker, "s").cast(Worker.crash)
                await until(lambda: states(app)["s"] == ("starting" if moment == "restarting" else "ended"))
            case "starting":
                extra = asyncio.create_task(app.start_child(Child(partial(Stuck, log, [], 1), name="d")))
                await until(lambda: states(app).get("d") == "starting" and len(log) == 4)
            case "spawning":
                extra = asyncio.create_task(app.start_child(Child(Worker, name="d")))
                while "d" not in states(app):
                    await asyncio.sleep(0)
        process = process_of(app)
        process.kill()
        assert await process.join(30)
        await until(lambda: not names(node))
        if extra is not None:
            with pytest.raises(ServerDown):
                await extra


async def test_a_terminate_of_ones_own_that_forgets_the_children_leaves_nobody_behind() -> None:
    class Forgetful(App):
        async def terminate(self, reason: object) -> None:
            """Nothing."""

    async with a_node() as node:
        ref = await node.start(Forgetful(Child(Worker, name="w")))
        await node.stop(ref)
        await until(lambda: not names(node))


async def test_ends_that_come_with_that_of_a_cancelled_supervisor_are_told() -> None:
    async with a_node() as node:
        app = App(Child(Worker, name="w"))
        await node.start(app)
        async with node.monitor(node.ref(Worker, "w")) as down:
            process_of(app).kill()
            assert (await down).reason == "killed"


async def test_ends_that_a_cancelled_supervisor_held_back_are_told() -> None:
    async with a_node() as node:
        app = App(Child(Worker, name="w"), Child(partial(Slow, []), name="s"), strategy="one_for_all")
        await node.start(app)
        async with node.monitor(node.ref(Worker, "w")) as down:
            await node.ref(Worker, "w").cast(Worker.crash)
            await until(lambda: states(app)["s"] == "stopping")
            process_of(app).kill()
            assert (await down).reason == "ValueError: boom"


async def test_a_start_that_is_given_up_leaves_nobody_behind() -> None:
    async with a_node() as node:
        app = App(Child(Worker, name="a"), Child(partial(Stuck, [], [], 1), name="s"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await node.start(app, name="app")
        await until(lambda: not names(node))


async def test_closing_the_node_stops_supervisors_and_their_children_in_reverse() -> None:
    log: list[str] = []
    async with a_node() as node:
        inner = partial(App, *(Child(partial(Worker, log, f"i{n}"), name=f"i{n}") for n in (1, 2)))
        await node.start(
            App(
                Child(partial(Worker, log, "a"), name="a"),
                Child(inner, name="inner"),
                Child(partial(Worker, log, "z"), name="z"),
            ),
            name="app",
        )
    assert log == ["+a", "+i1", "+i2", "+z", "-z", "-i2", "-i1", "-a"]


async def test_a_supervisor_that_gave_up_ends_though_a_handler_of_its_own_hangs() -> None:
    async with a_node() as node:
        app = App(Child(Worker, name="w"), intensity=0)
        ref = await node.start(app)
        entered = asyncio.Event()
        holding = asyncio.create_task(app.ref.with_(timeout=600).call(App.hold, entered))
        await entered.wait()
        begin = now()
        async with node.monitor(ref) as down:
            await node.ref(Worker, "w").cast(Worker.crash)
            assert (await down).reason == "killed"
        assert now() - begin == pytest.approx(5.0)
        assert names(node) == set()
        with pytest.raises(ServerDown):
            await holding


# -- nests


async def test_a_supervisor_that_gave_up_is_restarted_by_its_own() -> None:
    log: list[str] = []
    async with a_node() as node:
        inner = partial(App, Child(partial(Worker, log, "w"), name="w"), intensity=0)
        app = App(Child(inner, name="inner"), Child(partial(Worker, log, "z"), name="z"))
        await node.start(app)
        await node.ref(Worker, "w").cast(Worker.crash)
        await until(lambda: log == ["+w", "+z", "-w", "+w"])
        assert states(app) == {"inner": "running", "z": "running"}


async def test_a_transient_supervisor_that_gave_up_ended_well_for_its_own() -> None:
    async with a_node() as node:
        inner = partial(App, Child(Worker, name="w"), intensity=0)
        app = App(Child(inner, name="inner", restart="transient"))
        await node.start(app)
        await node.ref(Worker, "w").cast(Worker.crash)
        await until(lambda: states(app) == {"inner": "stopped"})


async def test_too_many_restarts_go_up_the_whole_tree() -> None:
    async with a_node() as node:
        inner = partial(App, Child(Worker, name="w"), intensity=1)
        ref = await node.start(App(Child(inner, name="inner"), intensity=1))
        async with node.monitor(ref) as down:
            for _ in range(4):
                old = node.whereis("w")
                await node.ref(Worker, "w").cast(Worker.crash)
                await until(partial(is_another, node, "w", old))
            assert (await down).reason == "shutdown"
        assert names(node) == set()


async def test_a_supervisor_has_the_time_that_its_children_take() -> None:
    log: list[str] = []
    async with a_node() as node:
        slow = [Child(partial(Slow, log, f"{n}"), shutdown=20.0) for n in range(2)]
        app = App(Child(partial(App, *slow), name="inner"))
        ref = await node.start(app)
        begin = now()
        await node.stop(ref, timeout=100)
        assert now() - begin == pytest.approx(40.0)
        assert log == ["+0", "+1", "-1 shutdown", "x1", "-0 shutdown", "x0"]


async def test_a_supervisor_has_time_of_its_own_to_tidy_up() -> None:
    log: list[str] = []

    class Tidy(App):
        async def terminate(self, reason: object) -> None:
            await super().terminate(reason)
            await asyncio.sleep(3)
            log.append("tidied")

    async with a_node() as node:
        await node.stop(await node.start(App(Child(Tidy))), timeout=100)
        assert log == ["tidied"]


async def test_a_supervisor_that_is_stopped_by_its_own_does_not_wait_for_requests() -> None:
    async with a_node() as node:
        ref = await node.start(App(Child(App, name="inner")))
        inner = node.ref(App, "inner").with_(timeout=600)
        starting = asyncio.create_task(inner.call(App.start_child, Child(partial(Stuck, [], [], 1))))
        await asyncio.sleep(1)
        begin = now()
        await node.stop(ref, timeout=100)
        assert now() - begin == pytest.approx(5.0)
        with pytest.raises(ServerDown):
            await starting


async def test_a_supervisor_with_too_little_time_takes_its_children_with_it() -> None:
    log: list[str] = []
    async with a_node() as node:
        slow = Child(partial(Slow, log, "w"), name="w", shutdown=20.0)
        ref = await node.start(App(Child(partial(App, slow), name="inner", shutdown=1.0)))
        begin = now()
        await node.stop(ref, timeout=100)
        assert now() - begin == pytest.approx(1.0)
        await until(lambda: not names(node))


# -- seeing it


async def test_each_restart_is_logged_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "clusterkit.actors")
    async with a_node() as node:
        told: list[tuple[Any, Any]] = []
        node.telemetry.attach("clusterkit.actor.restart", lambda _, took, meta: told.append((took, meta)))
        ref = await node.start(App(Child(Worker, name="w"), Child(Worker), intensity=2), name="app")
        async with node.monitor(ref) as down:
            for count in (1, 2, 3):
                await node.ref(Worker, "w").cast(Worker.crash)
                await until(partial(is_as_long, told, min(count, 2)))
            await down
        meta = {"supervisor": "app", "child": "w", "reason": "ValueError: boom"}
        assert told == [({"restarts": 1}, meta), ({"restarts": 2}, meta)]
        assert node.stats()["restarts"] == 2
        assert "supervisor app restarts w (1 of at most 2 in 5 s): ValueError: boom" in caplog.text
        assert "supervisor app gives up: more than 2 restarts in 5 s" in caplog.text


async def test_children_are_listed_with_what_they_do() -> None:
    async with a_node() as node:
        app = App(
            Child(Worker, name="p"),
            Child(Worker, restart="transient", significant=True),
            Child(Worker, name="t", restart="temporary"),
            auto_shutdown="all_significant",
        )
        await node.start(app)
        await app.stop_child("p")
        first, second, third = await app.which_children()
        assert first == ChildInfo("p", None, "stopped", "permanent", False)
        assert (second.name, second.state, second.restart, second.significant) == (None, "running", "transient", True)
        assert isinstance(second.ref, Ref)
        assert third.ref == node.whereis("t")


# -- a supervisor is an actor


async def test_children_are_restarted_while_the_supervisor_is_busy() -> None:
    async with a_node() as node:
        app = App(Child(Worker, name="w"))
        await node.start(app)
        entered = asyncio.Event()
        holding = asyncio.create_task(app.ref.with_(timeout=600).call(App.hold, entered))
        await entered.wait()
        old = node.whereis("w")
        await node.ref(Worker, "w").cast(Worker.crash)
        await until(partial(is_another, node, "w", old))
        assert [each.state for each in await app.ref.call(App.which_children)] == ["running"]
        holding.cancel()
        process_of(app).kill()


async def test_a_handler_of_its_own_starts_children() -> None:
    async with a_node() as node:
        app = App()
        ref = await node.start(app)
        assert await ref.call(App.add, "w") == str(await node.ref(Worker, "w").call(Worker.serial))
        with pytest.raises(NameInUse, match="has a child 'w' already"):
            await ref.call(App.add, "w")
        assert states(app) == {"w": "running"}


async def test_a_handler_of_its_own_that_fails_stops_the_children_first() -> None:
    class Faulty(App):
        @cast
        async def fail(self) -> None:
            raise ValueError("my own")

    log: list[str] = []
    async with a_node() as node:
        children = [Child(partial(Worker, log, label)) for label in "ab"]
        ref = await node.start(Faulty(*children))
        async with node.monitor(ref) as down:
            await ref.cast(Faulty.fail)
            assert (await down).reason == "ValueError: my own"
        assert log == ["+a", "+b", "-b", "-a"]


async def test_a_supervisor_without_children_of_its_own_takes_them_later() -> None:
    log: list[str] = []
    async with a_node() as node:
        app = Supervisor()
        ref = await node.start(app)
        for label in "ab":
            assert isinstance(await app.start_child(Child(partial(Worker, log, label))), Ref)
        await node.stop(ref)
        assert log == ["+a", "+b", "-b", "-a"]


async def test_a_further_child_that_ends_at_once_was_started_all_the_same() -> None:
    class Brief(Worker):
        async def init(self) -> None:
            process_of(self).stop("normal")

    async with a_node() as node:
        app = App()
        await node.start(app)
        ref = await app.start_child(Child(Brief, name="b", restart="temporary"))
        with pytest.raises(ClusterError):
            await ref.call("serial")
        assert states(app) == {}


async def test_children_that_are_gone_are_forgotten() -> None:
    async with a_node() as node:
        app = App(Child(Worker, name="p"))
        await node.start(app)
        await app.stop_child("p")
        await app.delete_child("p")
        for _ in range(10):
            await app.stop_child(await app.start_child(Child(Worker, restart="temporary")))
        assert app._clusterkit_active()._lives == {}


async def test_a_child_that_is_to_be_stopped_and_ends_as_soon_as_it_has_started(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Brief(Worker):
        async def init(self) -> None:
            await asyncio.sleep(0.1)
            process_of(self).stop("at once")

    async with a_node() as node:
        app = App()
        await node.start(app)
        starting = asyncio.create_task(app.start_child(Child(Brief, name="b")))
        await until(lambda: states(app) == {"b": "starting"})
        await app.stop_child("b")
        await starting
        assert states(app) == {"b": "stopped"}
        await asyncio.sleep(60)
        assert "does not end" not in caplog.text


async def test_requests_for_children_by_their_ref() -> None:
    async with a_node() as node:
        app = App(Child(Worker, name="w"))
        await node.start(app)
        named = node.ref(Worker, "w")
        await app.stop_child(named)
        assert await app.restart_child(named) == node.whereis("w")
        ref = await app.start_child(Child(Worker))
        with pytest.raises(UsageError, match="child number 1 of supervisor .* is running: stop it first"):
            await app.delete_child(ref)
        await app.stop_child(ref)
        again = await app.restart_child(ref)
        assert again != ref
        with pytest.raises(NoSuchServer):
            await app.stop_child(ref)  # a former life
        await app.stop_child(again)
        await app.delete_child(again)
        for gone in (again, app.ref, node.ref(Worker, "w", on="elsewhere@127.0.0.1:1")):
            with pytest.raises(NoSuchServer):
                await app.stop_child(gone)
        assert states(app) == {"w": "running"}


async def test_a_request_of_somebody_who_gave_up_is_carried_out() -> None:
    async with a_node() as node:
        app = App(Child(partial(Slow, []), name="w", shutdown=3.0))
        await node.start(app)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await app.stop_child("w")
        await until(lambda: states(app) == {"w": "stopped"})


async def test_who_asks_a_supervisor_that_stops_is_told_so() -> None:
    async with a_node() as node:
        app = App(Child(partial(Slow, []), name="w", shutdown=3.0))
        ref = await node.start(app)
        stopping = asyncio.create_task(node.stop(ref))
        await until(lambda: states(app) == {"w": "stopping"})
        with pytest.raises(ServerDown, match="is stopping"):
            await app.start_child(Child(Worker))
        await stopping


async def test_a_child_that_ends_as_soon_as_it_has_started_is_restarted_all_the_same() -> None:
    log: list[str] = []

    class Brief(Worker):
        async def init(self) -> None:
            await super().init()
            if len(log) < 3:
                process_of(self).stop("at once")

    async with a_node() as node:
        app = App(Child(partial(Brief, log, "b"), name="b"), Child(Worker, name="w"), intensity=2)
        await node.start(app)
        await until(lambda: states(app) == {"b": "running", "w": "running"} and log == ["+b", "-b", "+b"])


async def test_a_supervisor_that_ended_may_be_started_again() -> None:
    log: list[str] = []
    async with a_node() as node:
        app = App(Child(partial(Worker, log, "w"), name="w"))
        await node.stop(await node.start(app))
        with pytest.raises(UsageError):
            await app.which_children()
        ref = await node.start(app)
        assert states(app) == {"w": "running"}
        await node.stop(ref)
        assert log == ["+w", "-w", "+w", "-w"]


async def test_a_significant_child_ends_the_supervisor_quietly(caplog: pytest.LogCaptureFixture) -> None:
    async with a_node() as node:
        job = Child(Worker, name="job", restart="transient", significant=True)
        ref = await node.start(App(Child(Worker, name="aid"), job, auto_shutdown="any_significant"))
        async with node.monitor(ref) as down:
            await node.ref(Worker, "job").cast(Worker.end, "normal")
            assert (await down).reason == "shutdown"
        assert names(node) == set()
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
