"""The pytest plugin, as a user meets it: in a project of their own, strict and auto."""

import pytest

# Plain assertions and no other plugins: a tenth of the time that pytester takes otherwise.
OPTIONS = ("-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin")
CONFTEST = 'pytest_plugins = ["clusterkit.testing.plugin"]'
STRICT = "[pytest]\nasyncio_mode = strict\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
AUTO = STRICT.replace("strict", "auto")


@pytest.fixture(params=[STRICT, AUTO], ids=["strict", "auto"])
def project(
    request: pytest.FixtureRequest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest(CONFTEST)
    pytester.makeini(request.param)
    return pytester


def run(project: pytest.Pytester, source: str, *options: str) -> pytest.RunResult:
    project.makepyfile(test_it=source)
    return project.runpytest_inprocess(*OPTIONS, *options)


def test_a_marked_test_runs_on_virtual_time_and_others_do_not(project: pytest.Pytester) -> None:
    source = """
        import asyncio, pytest
        from clusterkit.testing.loop import SimulationLoop

        @pytest.mark.simulation(seed=7)
        async def test_simulated():
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SimulationLoop) and loop.seed == 7
            await asyncio.sleep(3000)

        @pytest.mark.asyncio
        async def test_real():
            assert not isinstance(asyncio.get_running_loop(), SimulationLoop)

        def test_plain(): pass
    """
    run(project, source).assert_outcomes(passed=3)


def test_classes_and_modules_can_be_marked(project: pytest.Pytester) -> None:
    source = """
        import asyncio, pytest
        pytestmark = pytest.mark.simulation(seed=3)

        class TestAll:
            async def test_method(self):
                assert asyncio.get_running_loop().seed == 3

        @pytest.mark.simulation(seed=4)
        class TestMarked:
            async def test_method(self):
                assert asyncio.get_running_loop().seed == 4

        async def test_function():
            assert asyncio.get_running_loop().seed == 3
    """
    run(project, source).assert_outcomes(passed=3)


def test_async_fixtures_run_on_the_same_loop(project: pytest.Pytester) -> None:
    source = """
        import asyncio, pytest, pytest_asyncio

        @pytest_asyncio.fixture
        async def owned():
            task = asyncio.create_task(asyncio.sleep(1000))
            yield asyncio.get_running_loop()
            task.cancel()

        @pytest.mark.simulation
        async def test_it(owned):
            assert owned is asyncio.get_running_loop()
    """
    run(project, source).assert_outcomes(passed=1)


FAILING = """
    import asyncio, pytest

    @pytest.mark.simulation(seed=40)
    @pytest.mark.parametrize("size", ["big"])
    async def test_it(size):
        await asyncio.sleep(2)
        assert asyncio.get_running_loop().seed != 42
"""


def test_a_failure_prints_its_seed_and_the_command_that_replays_it(project: pytest.Pytester) -> None:
    result = run(project, FAILING, "--seeds", "5")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        [
            "seed 42, 2.000000 s of virtual time, 0 events, trace *",
            "replay: pytest 'test_it.py::test_it[[]big]' --seed 42",
        ]
    )
    replayed = project.runpytest_inprocess(*OPTIONS, "test_it.py::test_it[big]", "--seed", "42")
    replayed.assert_outcomes(failed=1)
    other = project.runpytest_inprocess(*OPTIONS, "test_it.py::test_it[big]", "--seed", "41")
    other.assert_outcomes(passed=1)


def test_a_mark_may_ask_for_many_seeds(project: pytest.Pytester) -> None:
    result = run(project, FAILING.replace("seed=40", "seed=41, seeds=3"))
    result.assert_outcomes(passed=2, failed=1)


def test_a_fault_of_the_loop_prints_its_seed_too(project: pytest.Pytester) -> None:
    source = """
        import asyncio, pytest

        @pytest.mark.simulation(seed=9)
        async def test_deadlock():
            await asyncio.get_running_loop().create_future()

        @pytest.mark.simulation(seed=9, limit=10)
        async def test_limit():
            await asyncio.sleep(11)
    """
    result = run(project, source)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*Deadlock: nothing is scheduled*", "*--seed 9", "*OutOfTime: the limit of 10 s*"])


LEAKY = """
    import asyncio, pytest

    MARK
    async def test_task():
        asyncio.get_running_loop().create_task(asyncio.sleep(100), name="forgotten")

    MARK
    async def test_timer():
        asyncio.get_running_loop().call_later(100, print)

    MARK
    async def test_clean():
        task = asyncio.get_running_loop().create_task(asyncio.sleep(100))
        await asyncio.sleep(0)
        task.cancel()
"""


def test_what_a_simulation_leaves_behind_is_an_error(project: pytest.Pytester) -> None:
    result = run(project, LEAKY.replace("MARK", "@pytest.mark.simulation"))
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*LeakError: left behind:", "*task forgotten at *", "*timer at 100.0*"])


def test_a_stream_and_a_listener_are_leaks_too(project: pytest.Pytester) -> None:
    source = """
        import pytest
        from clusterkit.testing.network import World

        @pytest.mark.simulation
        async def test_it():
            network = World().network("a")
            listener = await network.listen("a", 7022, lambda stream: stream.abort())
            await network.connect("a", listener.port)
    """
    result = run(project, source)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*<MemoryListener of a on 10.0.0.1:7022>", "*<MemoryStream a>a#1>"])


def test_other_async_tests_are_checked_when_asked_for(project: pytest.Pytester) -> None:
    source = LEAKY.replace("MARK", "@pytest.mark.asyncio")
    run(project, source).assert_outcomes(passed=3)
    run(project, source, "-o", "clusterkit_leaks=all").assert_outcomes(passed=3, errors=2)


def test_a_descriptor_is_a_leak(project: pytest.Pytester) -> None:
    source = """
        import asyncio, os, pytest

        @pytest.mark.asyncio
        async def test_it():
            reading, writing = os.pipe()
            asyncio.get_running_loop().add_reader(reading, print)
    """
    result = run(project, source, "-o", "clusterkit_leaks=all")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*descriptor *"])


def test_a_machine_that_is_still_halted_is_wound_up(project: pytest.Pytester) -> None:
    source = """
        import asyncio, pytest
        from clusterkit.testing.loop import running_simulation
        from clusterkit.testing.machine import Machine

        @pytest.mark.simulation
        async def test_it():
            machine = Machine("a")
            machine.spawn(asyncio.sleep(100), name="held")
            running_simulation().halt(machine)
    """
    result = run(project, source)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*task held at *"])


def test_the_mark_on_a_plain_function_is_refused(project: pytest.Pytester) -> None:
    source = """
        import pytest

        @pytest.mark.simulation
        def test_it(): pass
    """
    result = run(project, source)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*mark.simulation is for async def tests*"])


def test_an_unknown_option_of_the_mark_is_refused(project: pytest.Pytester) -> None:
    source = """
        import pytest

        @pytest.mark.simulation(sede=7)
        async def test_it(): pass
    """
    result = run(project, source)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*mark.simulation takes seed=, seeds= and limit=*"])


def test_hypothesis_and_simulations_go_together(project: pytest.Pytester) -> None:
    source = """
        import asyncio, pytest
        from hypothesis import given, settings, strategies as st

        @pytest.mark.simulation(seed=5)
        @settings(max_examples=5, database=None)
        @given(st.integers(0, 1000))
        async def test_it(delay):
            await asyncio.sleep(delay)
            assert asyncio.get_running_loop().seed == 5
    """
    run(project, source).assert_outcomes(passed=1)


def test_loop_factories_of_the_user_stay_in_force_for_other_tests(project: pytest.Pytester) -> None:
    project.makeconftest(
        CONFTEST
        + """
import asyncio

class TheirLoop(asyncio.SelectorEventLoop):
    pass

def pytest_asyncio_loop_factories(config, item):
    return {"theirs": TheirLoop}
"""
    )
    source = """
        import asyncio, pytest

        @pytest.mark.asyncio
        async def test_theirs():
            assert type(asyncio.get_running_loop()).__name__ == "TheirLoop"

        @pytest.mark.simulation
        async def test_ours():
            assert type(asyncio.get_running_loop()).__name__ == "SimulationLoop"
    """
    run(project, source).assert_outcomes(passed=2)
