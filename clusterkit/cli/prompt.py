"""The prompt: an interactive session over the same commands, against a running node or one that it hosts itself.

Each line runs as the command of that line would, in the main thread: Ctrl-C ends a command, and at the
prompt clears the line. What goes on beside it (the node that is hosted, the watch for members that
come and go) has a loop behind, and speaks above the prompt.

Rules: a connection that is lost ends no session; a failure is one line and a hint; however the prompt
ends, a node that it hosts has left its ring before, and the terminal is as it was.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from clusterkit.cli.context import effective
from clusterkit.cli.cookie import find_cookies
from clusterkit.cli.failure import Exit, Failure, usage
from clusterkit.cli.output import one_line, print_failure
from clusterkit.cli.prompt_board import Board, logged_on
from clusterkit.cli.prompt_complete import Names, PromptCompleter
from clusterkit.cli.prompt_host import RING, Backstage, Host
from clusterkit.cli.prompt_watch import Watch
from clusterkit.cli.prompt_words import BUILT_IN, split
from clusterkit.cli.session import client_of, target_of
from clusterkit.cli.settings import Settings

_ASKED = 1.0  # seconds that a question for completion may take
_ADDRESS = click.Argument(["address"], required=False, metavar="[NAME@HOST:PORT]")
_RING = click.Option(["--ring"], default=RING, envvar="CLUSTERKIT_RING", metavar="ID", show_default=True)


@click.command()
@click.pass_obj
def shell(settings: Settings, /) -> int:
    """Open the prompt: commands as here, one a line, with completion and history.

    Without -H, -p or a context it hosts a node itself: start_cluster, join_cluster IP PORT,
    cluster_members.
    """
    with ExitStack() as undo:
        board = Board()
        undo.enter_context(logged_on(board))
        backstage = Backstage()
        undo.callback(backstage.close)
        prompt = Prompt(settings, board, backstage)
        undo.callback(prompt.leave)
        undo.enter_context(_signals_end_it())
        return prompt.run(_reader(prompt, board))


class Prompt:
    """The session: what its lines are run with, and by whom they are answered."""

    def __init__(self, settings: Settings, board: Board, backstage: Backstage) -> None:
        self.settings = settings
        self.backstage = backstage
        self.hosts = without_target(settings)
        """Whether it may host a node: no other is addressed."""

        self._board = board
        self._is_seen = _is_seen()
        self._watch: Watch | None = None
        self._host: Host | None = None
        self._addressed: Callable[[], None] = lambda: None
        self._built_in: dict[str, Callable[[Sequence[str]], int]] = {
            "start_cluster": self._start_cluster,
            "join_cluster": self._join_cluster,
            "cluster_members": lambda words: self._line(["members", *words]),
            "help": self._help,
            "shell": lambda _: self._refuse(usage("this is the prompt already", "exit ends it")),
        }

    # -- the session

    def run(self, read: Callable[[], str]) -> int:
        """Run lines until there are none; returns the exit code of the last when nobody is there to see."""
        code: int = Exit.OK
        self._greet()
        while True:
            self._board.flush()
            try:
                line = read()
            except KeyboardInterrupt:
                continue
            except EOFError:
                break
            try:
                words = split(line)
            except Failure as failure:
                code = self._refuse(failure)
                continue
            if words[:1] in (["exit"], ["quit"]):
                break
            if words:
                code = self._run(words)
        return Exit.OK if self._is_seen else code

    def _greet(self) -> None:
        if self._is_seen:
            click.echo("clusterkit: Tab completes, `help` lists the commands, Ctrl-D ends the prompt")
        try:
            if not self.hosts:
                self._look_at(self.settings)
                return
            find_cookies(self.settings.cookie_file, os.environ)
        except Failure as failure:
            self._refuse(failure)
        if self._is_seen and self.hosts:
            click.echo("start_cluster hosts a node here, join_cluster IP PORT joins it to the ring of another")

    def _run(self, words: list[str]) -> int:
        try:
            run = self._built_in.get(words[0])
            return run(words[1:]) if run is not None else self._line(words)
        except KeyboardInterrupt:
            return Exit.INTERRUPTED
        except click.exceptions.Exit as shown:  # a help text
            return shown.exit_code
        except Failure as failure:
            return self._refuse(failure)
        finally:
            _take_signals()  # a command may have had its own

    def _line(self, words: Sequence[str]) -> int:
        from clusterkit.cli.main import run_line  # noqa: PLC0415 - it loads this file

        code = run_line(words, self.settings)
        if code == Exit.UNREACHABLE and self.hosts and self._host is None:
            click.echo("hint: no node is hosted here yet: start_cluster, or join_cluster IP PORT", err=True)
        return code

    def _help(self, words: Sequence[str]) -> int:
        if words[:1] and words[0] in BUILT_IN:
            click.echo(BUILT_IN[words[0]])
            return Exit.OK
        code = self._line([*words, "--help"])
        if not words:
            click.echo("\nHere:")
            click.echo("\n".join(f"  {name:<15}  {text}" for name, text in BUILT_IN.items()))
        return code

    @staticmethod
    def _refuse(failure: Failure) -> int:
        print_failure(failure.message, failure.hint)
        return failure.exit_code

    # -- who answers

    @property
    def shown(self) -> str:
        """The prompt's own text."""
        where = self._watch.shown if self._watch is not None else ""
        return f"clusterkit {one_line(where)}> " if where else "clusterkit> "

    def names(self, addressed: Callable[[], None]) -> Callable[..., Any]:
        """How completion asks the node; ``addressed`` is called when another one is."""
        self._addressed = addressed

        def ask(command: str, *args: Any) -> Any:
            if self._watch is None:
                return []
            return self.backstage.do(self._watch.ask(command, *args), _ASKED)

        return ask

    def _look_at(self, settings: Settings, known: str = "") -> None:
        """Follow the node that the settings name; raises `Failure` when they do not say how."""
        self.settings = settings
        if not self._is_seen:  # nobody is there to be told, or to complete a name for
            return
        self._watch = Watch(client_of(settings), settings.timeout, self._board.post, known)
        self.backstage.begin(self._watch.run(), "watch")
        self._addressed()

    # -- the node that is hosted

    def _start_cluster(self, words: Sequence[str]) -> int:
        given = parse("start_cluster", words, [_ADDRESS, _RING])
        host = self._hosting()
        node = self.backstage.do(host.start(given["address"], given["ring"]))
        me, ring = node.id, node.ring.id
        self._host_it(host)
        click.echo(f"{me} is the first member of ring {ring}")
        click.echo(f"  next: join_cluster {me.host} {me.port} at another prompt")
        return Exit.OK

    def _join_cluster(self, words: Sequence[str]) -> int:
        where = [click.Argument(["ip"]), click.Argument(["port"], type=click.IntRange(1, 65535))]
        given = parse("join_cluster", words, where)
        host = self._hosting()
        node = self.backstage.do(host.join(given["ip"], given["port"]))
        self._host_it(host)
        names = ", ".join(each.name for each in node.ring.nodes)
        click.echo(f"{node.id} joined ring {node.ring.id}: {len(node.ring)} members: {names}")
        return Exit.OK

    def _hosting(self) -> Host:
        """What hosts the node, or will; raises `Failure`."""
        if not self.hosts:
            hint = "`join RING HOST:PORT` and `meet` put that node into a ring; a prompt without -H, -p and context hosts one"
            raise usage("this prompt addresses a node that runs elsewhere", hint)
        if self._host is not None:
            return self._host
        cookies = find_cookies(self.settings.cookie_file, os.environ).read()
        return Host(cookies, target_of(self.settings).tls, self.settings.timeout)

    def _host_it(self, host: Host) -> None:
        """From now on the lines address the node that is hosted."""
        if self._host is None and host.node is not None:
            self._host, me = host, host.node.id
            origins = self.settings.origins | {"host": "this prompt", "port": "this prompt"}
            self._look_at(replace(self.settings, host=me.host, port=me.port, origins=origins), me.name)

    def leave(self) -> None:
        """Take the node that is hosted out of its ring; the prompt ends."""
        host, self._host = self._host, None
        if host is None or host.node is None:
            return
        name, ring = host.node.id.name, host.node.ring.id
        self.backstage.do(host.aclose())
        click.echo(f"{name} left ring {ring}" if ring else f"{name} has ended", err=True)


def without_target(settings: Settings) -> bool:
    """Whether no option, variable or context says which node is meant; raises `Failure`."""
    found = effective(settings, os.environ)
    return all(found[name].origin == "default" for name in ("host", "port", "context"))


def parse(name: str, words: Sequence[str], params: Sequence[click.Parameter]) -> dict[str, Any]:
    """Read the arguments of a command that only the prompt has; raises `Failure`."""
    try:
        return click.Command(name, params=list(params), help=BUILT_IN[name]).make_context(name, list(words)).params
    except click.ClickException as mistake:
        raise usage(mistake.format_message(), f"`{name} --help` tells what it takes") from None


# -- the terminal


def _is_seen() -> bool:
    """Whether somebody types the lines, and sees what comes of them."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _reader(prompt: Prompt, board: Board) -> Callable[[], str]:
    """What reads the next line: an editor on a terminal, else the lines of stdin."""
    if not _is_seen():
        prompt.names(lambda: None)
        return _next_line
    from clusterkit.cli.main import cli  # noqa: PLC0415 - it loads this file

    history = _history(board)
    names: Names | None = None
    names = Names(prompt.names(lambda: names.forget() if names is not None else None))
    session: PromptSession[str] = PromptSession(
        history=history,
        completer=PromptCompleter(cli, names, lambda: history.get_strings()[::-1]),
        complete_in_thread=True,
        complete_while_typing=False,
        enable_history_search=True,
    )
    board.app = session.app
    return lambda: session.prompt(lambda: prompt.shown)


def _next_line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _history(board: Board) -> History:
    """The lines of earlier sessions, in a file that only its owner reads; without one those of this session."""
    path = history_path(os.environ)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)) as file:
            os.fchmod(file.fileno(), 0o600)
    except OSError as error:
        board.post(f"lines are not kept for the next session: {path}: {error.strerror or error}")
        return InMemoryHistory()
    return FileHistory(path)


def history_path(environ: Mapping[str, str]) -> Path:
    """``$XDG_STATE_HOME/clusterkit/history``; a base that is not absolute does not count, as its standard says."""
    base = environ.get("XDG_STATE_HOME", "")
    if not Path(base).is_absolute():
        home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where there is none
        base = str(Path(home, ".local", "state"))
    return Path(base, "clusterkit", "history")


def _end(number: int, _: object) -> NoReturn:
    if number not in (signal.SIGTERM, signal.SIGINT):  # the terminal has gone: nobody reads, and to write is an error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for each in (1, 2):
            os.dup2(nowhere, each)
    raise SystemExit(128 + number)


_ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _take_signals() -> None:
    for each in _ENDS:
        signal.signal(each, _end)
    signal.signal(signal.SIGINT, signal.default_int_handler)


class _signals_end_it:  # noqa: N801 - read as a verb
    """While it is entered, SIGTERM and the end of the terminal end the prompt as Ctrl-D does."""

    def __enter__(self) -> None:
        self._before = {each: signal.getsignal(each) for each in (*_ENDS, signal.SIGINT)}
        _take_signals()

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)
