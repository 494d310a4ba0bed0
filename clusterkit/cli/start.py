"""``clusterkit start``: one node in the foreground, which says in plain words what happens to it.

Rules: the first line that it prints tells the address (programs read it); it ends by
a signal or when its app raises, and leaves the ring first; a second signal ends the
process at once; stdout may go away without harm.
"""

import asyncio
import importlib
import inspect
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterkit.cli.cookie import Cookies
from clusterkit.cli.failure import Exit, Failure, of_start, usage
from clusterkit.config import Config
from clusterkit.core.identity import NodeId
from clusterkit.core.members import Member, State
from clusterkit.errors import ClusterError, JoinTimeout
from clusterkit.node import Node
from clusterkit.ring.discovery import read_environment
from clusterkit.runtime import Daemon, Tasks, now
from clusterkit.transport.tls import TLS

logger = logging.getLogger("clusterkit.cli")

App = Callable[[Node], Awaitable[object]]
_APP_GRACE = 2.0  # seconds that a cancelled app has to end


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start."""

    address: str
    ring: str
    cookies: Cookies
    listen: str | None = None
    seeds: tuple[str, ...] = ()
    app: App | None = None
    app_name: str = ""
    join_timeout: float = 10.0
    state_dir: str | None = None
    tls: TLS | None = None
    config: Config | None = None
    ends_within: float | None = None  # seconds after the signal; None: as long as the node takes to close
    debug: bool = False


def seeds_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The seeds that the environment names; raises `Failure`."""
    try:
        return read_environment(environ).seeds
    except ClusterError as error:
        raise of_start(error) from None


def run_node(plan: Plan) -> int:
    """Run a node to its end; raises `Failure`."""
    _check_dialable(plan.address)
    if not plan.debug:
        _log_warnings()
    try:
        asyncio.run(_host(plan, plan.cookies.read()))
    except ClusterError as error:
        raise of_start(error) from error
    return Exit.OK


def _check_dialable(address: str) -> None:
    try:
        node = NodeId.parse(address)
    except ClusterError as error:
        raise of_start(error) from None
    if node.host in {"0.0.0.0", "::"}:  # noqa: S104 - the address that the user gave
        hint = f"give an address of this machine, and --listen {node.address}"
        raise usage(f"{address}: no other node can dial {node.host}", hint)


class _OneLine(logging.Formatter):
    """A log line is a line; the traceback is for ``--debug``."""

    def format(self, record: logging.LogRecord) -> str:
        text = f"{record.levelname.lower()}: {record.getMessage()}"
        return f"{text} (--debug shows where)" if record.exc_info else text


def _log_warnings() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def say(text: str) -> None:
    """Print a line, if anybody listens."""
    with suppress(OSError, ValueError):
        print(text, flush=True)


# -- the app


def find_function(option: str, name: str, example: str) -> Any:
    """Find ``module:function``, here or among what is installed; raises `Failure` that names the option."""
    module_name, colon, function = name.partition(":")
    if not (colon and module_name and function):
        raise usage(f"{option} {name}: it must be MODULE:FUNCTION", f"for instance {example}")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module_name), function, None)
    except Exception as error:
        raise usage(f"{option} {name}: cannot import {module_name}: {error!r}", "--debug shows where") from error
    if found is None:
        raise usage(f"{option} {name}: module {module_name} has no {function!r}")
    return found


def load_app(name: str) -> App:
    """Find the function of ``--app``; raises `Failure`."""
    app: App = find_function("--app", name, "greeter_app:main")
    if not inspect.iscoroutinefunction(app):
        raise usage(f"--app {name}: it must be an async function that takes the node, not {app!r}")
    return app


async def _run_app(node: Node, plan: Plan) -> None:
    assert plan.app is not None
    try:
        await plan.app(node)
    except Failure:
        raise
    except Exception as error:
        message = f"the app {plan.app_name} ended in {type(error).__name__}: {error}"
        raise Failure(Exit.REFUSED, "app", message, "the node has left the ring; --debug shows where") from error


# -- the node


async def _host(plan: Plan, cookies: list[bytes]) -> None:
    async with _node(plan, cookies) as node:
        with _cookies_read_again(node, plan.cookies):
            say(f"{node.id.name} listens on {node.id.address}")
            which = await _until_signal(node, plan)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the second Ctrl-C ends it at once, as a second SIGTERM does
        say(f"{which}: leaving ring {plan.ring}, once what runs has ended (a second signal ends it at once)")
        start = now()
    say(f"left after {now() - start:.2f} s")


def _node(plan: Plan, cookies: list[bytes]) -> Node:
    return Node(
        plan.address, listen=plan.listen, cookie=cookies, tls=plan.tls, config=plan.config, state_dir=plan.state_dir
    )


@contextmanager
def _cookies_read_again(node: Node, cookies: Cookies) -> Iterator[None]:
    """Take what the cookie files hold at each SIGHUP, where there are files."""
    hangup = getattr(signal, "SIGHUP", None) if cookies.files else None
    loop = asyncio.get_running_loop()
    if hangup is not None:
        loop.add_signal_handler(hangup, _read_again, node, cookies)
    try:
        yield
    finally:
        if hangup is not None:
            loop.remove_signal_handler(hangup)


def _read_again(node: Node, cookies: Cookies) -> None:
    try:
        found = cookies.read()
    except Failure as failure:
        logger.error("the cookies stay as they are: %s", failure)
        return
    node.set_cookies(found)
    say(f"SIGHUP: read {len(found)} {'cookie' if len(found) == 1 else 'cookies'} again; dials with the first")


async def _until_signal(node: Node, plan: Plan) -> str:
    """Live until a signal comes; raises what ended the life earlier."""
    tasks = Tasks("start")
    signalled = tasks.spawn(node.run_until_signal(), "signal")
    failed: asyncio.Future[Failure | ClusterError] = asyncio.get_running_loop().create_future()
    living = tasks.spawn(_live(node, plan, failed), "life")
    try:
        ends: set[asyncio.Future[Any]] = {signalled, failed, living}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if signalled.done() and plan.ends_within is not None:
            _end_within(plan.ends_within)
        living.cancel()
        await asyncio.wait({living}, timeout=_APP_GRACE)
        if failed.done():
            raise failed.result()
        if living.done() and not living.cancelled():
            await living  # it never returns, so it raised what nobody foresaw
        return await signalled
    finally:
        signalled.cancel()
        await asyncio.wait({signalled})


def _end_within(seconds: float) -> None:
    """End the process then, whatever it still waits for: a node that does not answer, a thread that hangs."""

    def end(waited: Callable[[float], bool]) -> None:
        waited(seconds)
        say(f"ended after {seconds:g} s with work undone")
        os._exit(Exit.OK)

    Daemon("the end", end)


async def _live(node: Node, plan: Plan, failed: "asyncio.Future[Failure | ClusterError]") -> None:
    tasks = Tasks("start")
    try:
        await _join(node, plan)
        if plan.app is not None:
            tasks.spawn(_guarded(_run_app(node, plan), failed), "app")
        await _tell_members(node)
    except (Failure, ClusterError) as error:
        failed.set_result(error)
    finally:
        await tasks.aclose()


async def _guarded(work: Awaitable[None], failed: "asyncio.Future[Failure | ClusterError]") -> None:
    try:
        await work
    except Failure as error:
        if not failed.done():
            failed.set_result(error)


async def _join(node: Node, plan: Plan) -> None:
    if plan.seeds:
        say(f"joining ring {plan.ring} through {', '.join(plan.seeds)}")
    try:
        await node.ring.join(plan.ring, plan.seeds, timeout=plan.join_timeout)
    except JoinTimeout as error:
        say(f"not joined: {error}")
        say("it waits for a seed, alone in its ring; Ctrl-C ends it")
        return
    _tell_joined(node, plan)


def _tell_joined(node: Node, plan: Plan) -> None:
    names = ", ".join(each.name for each in node.ring.nodes)
    me = node.id
    if len(node.ring) > 1:
        say(f"joined ring {plan.ring}: {len(node.ring)} members: {names}")
    else:
        say(f"ring {plan.ring} has one member so far: {names}")
        say(f"  next: clusterkit start NAME@{me.host}:0 --ring {plan.ring} --seed {me.address}")
    say(f"  look: clusterkit -I {me.name} -H {me.host} -p {me.port} members")


async def _tell_members(node: Node) -> None:
    """Tell who comes, goes, falls and returns, for as long as the node lives."""
    known = {member.node.name: member for member in node.ring.members}
    async for _ in node.ring.events():
        seen = {member.node.name: member for member in node.ring.members}
        for name in known.keys() | seen.keys():
            if name != node.id.name and (news := _news(known.get(name), seen.get(name))):
                say(f"{name} {news}")
        known = seen


def _news(before: Member | None, after: Member | None) -> str:
    if before == after:
        return ""
    if before is None or after is None:
        return "left" if after is None else f"came, from {after.node.address}"
    if after.state is State.DOWN:
        return "is down" if before.state is not State.DOWN else ""
    return "restarted" if after.node.incarnation != before.node.incarnation else "is back"
