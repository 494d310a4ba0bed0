"""``clusterkit doctor``: one line for each thing that may be wrong, with what to do about it.

Rules: every check runs beside the others in a thread of its own, so that one which hangs
(a name that does not resolve, a file system that is gone) holds up nobody: what has not
ended when the time is up has failed. No check changes anything, and none tells a cookie.
"""

import asyncio
import os
import platform
import queue
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from clusterkit.cli.configuration import package_version
from clusterkit.cli.context import Context, effective, find, path_of, read
from clusterkit.cli.cookie import Cookies, find_cookies
from clusterkit.cli.failure import Exit, Failure, usage
from clusterkit.cli.output import one_line
from clusterkit.cli.settings import Settings
from clusterkit.core.identity import format_host_port, parse_host_port
from clusterkit.core.proof import VERSION
from clusterkit.errors import ClusterError
from clusterkit.runtime import Daemon, machine_time, wall_time

if TYPE_CHECKING:
    from clusterkit.cli.question import Asked

State = Literal["ok", "warn", "fail"]

# Of each package the least version that will do, and the extra that brings it; "" is what clusterkit cannot be without.
PACKAGES: Mapping[str, tuple[str, str]] = {
    "msgpack": ("1.2.3", ""),
    "sortedcontainers": ("2.4", ""),
    "click": ("8.2", "cli"),
    "rich": ("14", "cli"),
    "prompt-toolkit": ("3.0.50", "cli"),
    "starlette": ("1.0", "web"),
    "uvicorn": ("0.40", "web"),
    "uvloop": ("0.21", "uvloop"),
}
_FEW_DESCRIPTORS = 1024
_MOST_APART = 2.0  # seconds between two clocks: concurrent updates of one entry are decided by them
_MARGIN = 0.2  # seconds that the question to the node ends before the time is up, so that it tells why itself


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    state: State
    text: str
    hint: str = ""


Check = Callable[[], Iterator[Finding]]


def examine(settings: Settings, environ: Mapping[str, str], listen: str | None) -> list[Finding]:
    """Look at everything, within the time of the settings; raises `Failure` when ``listen`` is no address."""
    sooner = replace(settings, timeout=max(settings.timeout - _MARGIN, settings.timeout / 2))
    checks: dict[str, Check] = {
        "python": _python,
        "packages": _packages,
        "context": lambda: _contexts(settings, environ),
        "cookie": lambda: _cookie(settings, environ),
        "tls": lambda: _tls(settings, environ),
        "descriptors": _descriptors,
    }
    if listen is not None:
        place = _read_listen(listen)
        checks["listen"] = lambda: _listen(*place)
    checks["node"] = lambda: _node(sooner, environ)
    return run_checks(checks, settings.timeout)


def run_checks(checks: Mapping[str, Check], timeout: float) -> list[Finding]:
    """Run checks side by side; what has not ended within ``timeout`` seconds has failed."""
    deadline = machine_time() + timeout
    begun = [(name, _begin(name, check)) for name, check in checks.items()]
    return [finding for name, found in begun for finding in _taken(name, found, deadline, timeout)]


_Found = queue.SimpleQueue[Finding | None]


def _begin(name: str, check: Check) -> _Found:
    found: _Found = queue.SimpleQueue()

    def work(_: Callable[[float], bool]) -> None:
        try:
            for finding in check():
                found.put(finding)
        except Failure as failure:
            found.put(Finding(name, "fail", failure.message, failure.hint))
        except Exception as error:  # noqa: BLE001 - a check that fails by itself is a finding too
            found.put(Finding(name, "fail", f"the check itself failed: {error!r}", "please report it"))
        finally:
            found.put(None)

    Daemon(f"doctor/{name}", work)
    return found


def _taken(name: str, found: _Found, deadline: float, timeout: float) -> Iterator[Finding]:
    while True:
        try:
            finding = found.get(timeout=max(deadline - machine_time(), 0.001))
        except queue.Empty:
            yield Finding(name, "fail", f"no end within {timeout:g} s", "-t SECONDS waits longer")
            return
        if finding is None:
            return
        yield finding


# -- this installation


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()}, {sys.executable}")


def _packages() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - so that a command costs only what it needs

    own = package_version() or "from a checkout that is not installed"
    yield Finding("clusterkit", "ok", f"{own}, wire protocol {VERSION}")
    for name, (least, extra) in PACKAGES.items():
        label = name if not extra else f"{name} [{extra}]"
        try:
            yield _judged(label, version(name), least, f'pip install "clusterkit{f"[{extra}]" if extra else ""}"')
        except PackageNotFoundError:
            yield Finding(label, "warn" if extra else "fail", *_missing(name, extra))


def _judged(label: str, found: str, least: str, install: str) -> Finding:
    if _numbers(found) >= _numbers(least):
        return Finding(label, "ok", found)
    return Finding(label, "fail", f"{found} is too old: {least} is the least", install)


def _numbers(version: str) -> list[int]:
    """The numbers of a version, as far as they are numbers.

    >>> _numbers("8.2") < _numbers("8.10.1rc1")
    True
    """
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return numbers


def _missing(name: str, extra: str) -> tuple[str, str]:
    without = {"uvloop": "not installed: Python's own event loop is used", "": "not installed"}
    return without.get(name, f"not installed: {name} is needed for some commands"), f'pip install "clusterkit[{extra}]"'


def _descriptors() -> Iterator[Finding]:
    try:
        import resource  # noqa: PLC0415 - not everywhere
    except ModuleNotFoundError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "no limit" if hard == resource.RLIM_INFINITY else str(hard)
    if soft != resource.RLIM_INFINITY and soft < _FEW_DESCRIPTORS:
        hint = f"a node has a connection to each member and client: `ulimit -n {_FEW_DESCRIPTORS}` allows more"
        yield Finding("descriptors", "warn", f"{soft} (at most {most})", hint)
        return
    yield Finding("descriptors", "ok", f"{'no limit' if soft == resource.RLIM_INFINITY else soft} (at most {most})")


# -- how to be trusted


def _contexts(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    path = path_of(environ)
    contexts = read(path)
    chosen = effective(settings, environ)["context"]
    if not contexts.by_name:
        yield Finding("context", "ok", f"none; {path} is not there" if not path.exists() else f"none in {path}")
        return
    which = (
        f"{chosen.value} counts ({chosen.origin})" if chosen.value else "none counts: `context use NAME` makes one so"
    )
    yield Finding("context", "ok", f"{len(contexts.by_name)} in {path}; {which}")


def _found(settings: Settings, environ: Mapping[str, str]) -> Context:
    """The target; when the contexts cannot be read that has a line of its own."""
    try:
        return find(settings, environ)
    except Failure as failure:
        raise Failure(failure.exit_code, failure.code, "not looked at: see `context` above") from None


def _cookie(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    cookies = find_cookies(settings.cookie_file or _found(settings, environ).cookie_files, environ)
    if not cookies.files:
        yield _of_environment(cookies, environ)
    for file in cookies.files:
        with_one = Cookies((file,))
        try:
            length = len(with_one.read()[0])
        except Failure as failure:
            yield Finding("cookie", "fail", failure.message, failure.hint)
            continue
        mode = stat.S_IMODE(Path(file).stat().st_mode)
        yield Finding("cookie", "ok", f"{length} bytes in {file}, mode {mode:04o}")


def _of_environment(cookies: Cookies, environ: Mapping[str, str]) -> Finding:
    cookie = cookies.read()[0]
    if cookie != cookie.strip():
        hint = 'it is used as it stands; CLUSTERKIT_COOKIE="$(cat FILE)" drops the line end'
        return Finding("cookie", "warn", f"{len(cookie)} bytes in CLUSTERKIT_COOKIE, with blanks at an end", hint)
    over = ", which comes before CLUSTERKIT_COOKIE_FILE" if environ.get("CLUSTERKIT_COOKIE_FILE") else ""
    return Finding("cookie", "ok", f"{len(cookie)} bytes in CLUSTERKIT_COOKIE{over}")


def _tls(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    found = _found(settings, environ)
    files = (found.tls_cert, found.tls_key, found.tls_ca)
    if not any(files):
        yield Finding("tls", "ok", "off")
        return
    from clusterkit.cli.certificate import look_at  # noqa: PLC0415 - so that a command costs only what it needs
    from clusterkit.cli.tls import find_tls  # noqa: PLC0415

    tls = find_tls(*files)
    assert tls is not None  # it fails unless all three are given
    assert found.tls_cert is not None
    assert found.tls_key is not None
    state, text, hint = look_at(tls, found.tls_cert, found.tls_key, asyncio.run(_unix_time()))
    yield Finding("tls", state, text, hint)


async def _unix_time() -> float:
    return wall_time()


# -- the node


def _node(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    from clusterkit.cli.question import ask  # noqa: PLC0415 - so that a command costs only what it needs
    from clusterkit.cli.session import target_of  # noqa: PLC0415

    where = _place(settings, environ)
    try:
        target = target_of(replace(settings, node=None))
    except Failure as failure:
        yield Finding("node", "fail", f"{where} was not asked: {failure.message}", failure.hint)
        return
    with suppress(OSError, UnicodeError):  # a name that hangs does so here, in a thread that nobody waits for
        socket.getaddrinfo(target.host, target.port)
    try:
        told, before, after = ask(target, _between)
    except Failure as failure:
        nobody_meant = failure.exit_code is Exit.UNREACHABLE and _is_default(settings, environ)
        yield Finding("node", "warn" if nobody_meant else "fail", failure.message, failure.hint)
        return
    yield from _of_node(told, before, after)


async def _between(asked: "Asked") -> tuple[Mapping[str, Any], float, float]:
    """Ask who answers, between two looks at the clock."""
    from clusterkit.cli.commands_ring import ask_ping  # noqa: PLC0415 - so that a command costs only what it needs

    before = wall_time()
    return await ask_ping(asked), before, wall_time()


def _place(settings: Settings, environ: Mapping[str, str]) -> str:
    """Where the node that is addressed would be; raises `Failure`."""
    found = _found(settings, environ)
    assert found.host is not None  # there is a default of both
    assert found.port is not None
    return format_host_port(found.host, found.port)


def _is_default(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether nobody said which node."""
    found = effective(settings, environ)
    return all(found[name].origin == "default" for name in ("host", "port", "context"))


def _of_node(told: Mapping[str, Any], before: float, after: float) -> Iterator[Finding]:
    who = f"{told['name']}@{told['address']} answers in {told['seconds'] * 1000:.1f} ms"
    theirs, ours = told.get("version"), package_version()
    if theirs and ours and theirs != ours:
        hint = "nodes of one wire protocol understand each other; a command may be newer than the node"
        yield Finding("node", "warn", f"{who}, with clusterkit {theirs}; here it is {ours}", hint)
    else:
        yield Finding("node", "ok", f"{who}{f', with clusterkit {theirs}' if theirs else ''}")
    if told["ring"]:
        yield Finding("ring", "ok", str(told["ring"]))
    else:
        yield Finding("ring", "warn", f"{told['name']} is in no ring", "`clusterkit join RING` puts it into one")
    if "at" in told:
        yield _of_clock(told["at"], before, after)


def _of_clock(at: float, before: float, after: float) -> Finding:
    """Compare the node's clock with ours, which was between two times when it answered."""
    apart = max(before - at, at - after, 0.0)
    if apart <= _MOST_APART:
        return Finding(
            "clock", "ok", "the node's and this one agree" if not apart else f"{apart:.1f} s from the node's"
        )
    way = "behind" if at < before else "ahead"
    hint = "clocks decide between concurrent updates of one entry, and date what is logged: let NTP set both"
    return Finding("clock", "warn", f"the node's is {apart:.1f} s {way}", hint)


# -- an address to listen at


def _read_listen(text: str) -> tuple[str, int]:
    try:
        return parse_host_port(text.rpartition("@")[2])
    except ClusterError as error:
        raise usage(f"--listen {text}: {error}", "for instance 127.0.0.1:7022") from None


def _listen(host: str, port: int) -> Iterator[Finding]:
    where = format_host_port(host, port)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        yield Finding("listen", "fail", f"{where}: {error.strerror or error}", "give an address of this machine")
        return
    for family, kind, protocol, _, address in dict.fromkeys(found):
        with suppress(OSError), socket.socket(family, kind, protocol) as tried:
            yield _bound(tried, address, format_host_port(str(address[0]), port))


def _bound(tried: socket.socket, address: Any, where: str) -> Finding:
    if os.name == "posix":
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a node does
    try:
        tried.bind(address)
    except OSError as error:
        hint = "another port, or 0 for a free one; --listen takes an address of this machine"
        return Finding("listen", "fail", f"{where} cannot be bound: {error.strerror or error}", hint)
    return Finding("listen", "ok", f"a node can listen on {where}")


# -- what is printed


def tell_findings(findings: Sequence[Finding]) -> dict[str, Any]:
    """Findings, and how many of each kind there are."""
    listed = [{"check": f.check, "state": f.state, "text": f.text, "hint": f.hint} for f in findings]
    return {"findings": listed} | {state: sum(f.state == state for f in findings) for state in ("ok", "warn", "fail")}


_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def show_findings(data: Mapping[str, Any]) -> str:
    """Show a line for each, and below those that are not ok what to do."""
    width = max(len(each["check"]) for each in data["findings"])
    lines = []
    for each in data["findings"]:
        state = click.style(each["state"].ljust(4), fg=_COLOURS[each["state"]])
        lines.append(f"{state}  {each['check'].ljust(width)}  {one_line(each['text'])}")
        if each["hint"]:
            lines.append(f"{'':{width + 6}}  {click.style('hint:', fg='cyan')} {one_line(each['hint'])}")
    counts = ", ".join(f"{data[state]} {state}" for state in _COLOURS if data[state])
    return "\n".join([*lines, "", counts])
