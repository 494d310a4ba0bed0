"""Writes docs/cli.md: every command with its help and with what it really printed, in a cluster of three nodes.

    python -m docs.make_cli_page        # needs the ports 7022 to 7024 of this machine, and a minute

The commands run on a terminal of 100 columns. What differs from run to run is replaced: incarnations, digests,
times, ports, names of clients; so few lines of a page that is made again differ where no command does.
"""  # noqa: INP001 - a script beside the pages

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from clusterkit.cli.commands import TABLE, load
from clusterkit.cli.main import run
from docs.cli_transcripts import APP, COLUMNS, ROOT, Cluster, Same, two_prompts

PAGE = ROOT / "docs" / "cli.md"


@dataclass(frozen=True)
class Example:
    """A line to type, and a word on what it shows."""

    line: str
    words: str = ""
    lines: int = 60
    """The most that are shown."""


def _(line: str, words: str = "", lines: int = 60) -> Example:
    return Example(line, words, lines)


EXAMPLES: dict[str, Sequence[Example]] = {
    "ping": [_("clusterkit ping"), _("clusterkit ping | cat", "In a pipe, as all of them, JSON:")],
    "members": [
        _("clusterkit members"),
        _("clusterkit -d charlie members", "Another member's view, asked through the same node:"),
    ],
    "nodes": [_("clusterkit nodes")],
    "get": [_("clusterkit get bravo"), _("clusterkit get bravvo")],
    "has": [_("clusterkit has bravo"), _("clusterkit has delta")],
    "weight": [_("clusterkit weight bravo")],
    "weights": [_("clusterkit weights")],
    "inspect": [_("clusterkit inspect")],
    "check": [_("clusterkit check")],
    "ring owner": [_("clusterkit ring owner some-key")],
    "ring balance": [_("clusterkit ring balance")],
    "ring diff": [_("clusterkit ring diff charlie")],
    "join": [_("clusterkit join elsewhere", "A node is in one ring at a time:")],
    "meet": [_("clusterkit meet bravo@127.0.0.1:7023")],
    "leave": [
        _("clusterkit -p 7023 leave --yes"),
        _("clusterkit -p 7023 join demo --seed 127.0.0.1:7022", "And back again:"),
    ],
    "insert": [
        _("clusterkit insert delta 127.0.0.1 7025", "Nobody runs there yet, so it will be down until somebody does:")
    ],
    "minsert": [_("clusterkit minsert -w 2 echo 127.0.0.1 7026 foxtrot@127.0.0.1:7027")],
    "update": [_("clusterkit update delta 3")],
    "remove": [_("clusterkit remove delta")],
    "mremove": [_("clusterkit mremove echo foxtrot")],
    "actors": [_("clusterkit -p 7023 actors")],
    "call": [_("""clusterkit call bravo greeter hello '"Ada"'"""), _("clusterkit call bravo nobody hello")],
    "cast": [_("""clusterkit cast bravo greeter hello '"Ada"'""")],
    "services": [_("clusterkit services")],
    "cache serve": [],
    "cache stats": [_("clusterkit -p 7024 cache stats")],
    "cache get": [_("clusterkit -p 7024 cache get scores ada"), _("clusterkit -p 7024 cache get scores ada")],
    "cache invalidate": [_("clusterkit -p 7024 cache invalidate scores ada")],
    "monitor": [_("clusterkit monitor --count 3"), _("clusterkit monitor --count 1 | cat")],
    "top": [_("clusterkit top --once")],
    "start": [],
    "demo": [_("clusterkit demo --once --nodes 3 | cat")],
    "shell": [],
    "keygen": [_("clusterkit keygen ~/.cookie")],
    "config": [_("clusterkit -t 2 config")],
    "context add": [
        _("clusterkit context add staging -H 127.0.0.1 -p 7023 -I bravo --cookie-file ~/.staging-cookie"),
        _("clusterkit -c staging ping"),
    ],
    "context ls": [_("clusterkit context ls")],
    "context use": [_("clusterkit context use staging"), _("clusterkit context use --none")],
    "context show": [_("clusterkit context show staging")],
    "context rm": [_("clusterkit context rm staging")],
    "doctor": [_("clusterkit doctor --listen 127.0.0.1:7022")],
    "completion": [_("clusterkit completion bash | head -3")],
    "version": [_("clusterkit version")],
}

FAILURES = [
    _("clusterkit -p 7999 ping", "Nobody is there:"),
    _("CLUSTERKIT_COOKIE=another-cookie-16 clusterkit ping", "Another cookie:"),
    _("clusterkit -I bravo ping", "Another node than was meant:"),
    _("clusterkit -p 7999 ping | cat", "In a pipe an error is an answer too:"),
    _("clusterkit membrs", "A slip:"),
]
HUNG = [
    _("clusterkit -p 7024 -t 1 ping", "A node that hangs (it was stopped by SIGSTOP):"),
    _("clusterkit check", "What the others say of it:"),
]

HEAD = """\
# The command line

<!-- Made by `python -m docs.make_cli_page`, which runs every command: do not edit, make it again. -->

```console
$ pip install "clusterkit[cli]"
$ export CLUSTERKIT_COOKIE=$(clusterkit keygen)
$ clusterkit start alpha@127.0.0.1:7022 --ring demo
```

and in another terminal, with the same cookie:

```console
$ clusterkit start bravo@127.0.0.1:7023 --ring demo --seed 127.0.0.1:7022
$ clusterkit members
```

Without a command, on a terminal, it is a prompt over the same commands: see [shell](#shell).
All that is shown below was printed by three nodes of ring `demo` on one machine: `charlie` serves a [cache](#cache-serve), and `alpha`
and `bravo` run this app:

```python
{app}```

```text
{root}
```

## Which node is asked

`-H HOST` and `-p PORT` say where, and any member will do. `-I NAME` makes sure that it is the one you mean: if another
answers, the exit code is 6. `-d NAME` asks a member through the one that is addressed, so one open port is enough.

What is not typed comes from the environment, then from a context, then from the defaults; `clusterkit config` tells of
each value where it comes from.

| option | environment | default |
|---|---|---|
| `-H`, `--hostname` | `CLUSTERKIT_HOST` | 127.0.0.1 |
| `-p`, `--port` | `CLUSTERKIT_PORT` | 7022 |
| `-I`, `--instance` | `CLUSTERKIT_INSTANCE` | whoever answers |
| `-c`, `--context` | `CLUSTERKIT_CONTEXT` | the current one, if any |
| `--cookie-file` | `CLUSTERKIT_COOKIE`, `CLUSTERKIT_COOKIE_FILE` | none: exit code 5 |
| `--tls-cert`, `--tls-key`, `--tls-ca` | `CLUSTERKIT_TLS_CERT`, `_KEY`, `_CA` | no TLS |
| `-t`, `--timeout` | `CLUSTERKIT_TIMEOUT` | 5 seconds |
| `-o`, `--output` | `CLUSTERKIT_OUTPUT` | auto |

The cookie is never an option, because others can read what is typed in `ps`: it comes from a file that only its owner can
read (mode 0600), or from the environment.

**Contexts** are names for several clusters. They stand in `$XDG_CONFIG_HOME/clusterkit/contexts.toml` (`~/.config`
without it), which holds addresses and the paths of cookie and certificate files, and never a cookie; a file that others may
write is refused. A context that is typed, `-c NAME`, counts before the environment, like everything that is typed; one
that `CLUSTERKIT_CONTEXT` or `context use` names counts after it. The instance in a context is that of the context's address:
with another `-H` or `-p` it does not count.

## What is printed, and how it ends

On a terminal a table, in a pipe JSON: one object, `{{"ok": true, "data": ...}}` or `{{"ok": false, "error": {{"code", "message",
"hint"}}}}`. `-o table` and `-o json` choose. Data goes to stdout, and errors for people to stderr: one line that says what, and one that
says what to do. There are no tracebacks without `--debug`. Every command that asks answers within `-t` seconds, or says that it
did not.

| exit code | it means |
|---|---|
| 0 | it is so, or it is done |
| 1 | the cluster said no; for `has`, `check` and `ring diff`: it is not so |
| 2 | a mistake in what was typed, or in a context |
| 3 | nobody can be reached there |
| 4 | no answer in time |
| 5 | no cookie, or another than the node's; the same for certificates |
| 6 | another node, ring or protocol than was meant |
| 130 | Ctrl-C |

{failures}"""

TAIL = """\
## How fast it is

`python -m benchmarks.cli_start`, 2026-11-21, Python 3.11.7, two shared cores:

| | best, s | median, s | processor, s |
|---|--:|--:|--:|
| `python -c pass` | 0.02 | 0.02 | 0.02 |
| `clusterkit --help` | 0.07 | 0.10 | 0.07 |
| `clusterkit completion bash` | 0.07 | 0.12 | 0.07 |
| `clusterkit version` | 0.12 | 0.16 | 0.12 |
| `clusterkit ping` | 0.18 | 0.25 | 0.18 |
| `clusterkit members` | 0.16 | 0.24 | 0.16 |

A command loads only what it needs: the help neither an event loop nor the node, to which `tests/unit/cli/test_lazy_imports.py`
holds it.
"""

SAID = {"start": "bravo", "cache serve": "charlie"}
"""Commands that run a node of the cluster, and which."""

WORDS = {
    "cache serve": "See [the cache](cache.md) for what it serves, and how it answers HTTP.",
    "demo": "It starts five processes of its own, and needs no cookie.",
    "start": "`--app MODULE:FUNCTION` runs a program on the node; `--config FILE` takes all this from TOML.",
}


def commands() -> dict[str, str]:
    """All commands with those of the groups, and the section of each."""
    found: dict[str, str] = {}
    for name, line in TABLE.items():
        command = load(name)
        names = [f"{name} {each}" for each in command.commands] if isinstance(command, click.Group) else [name]
        found |= dict.fromkeys(names, line.section)
    return found


def help_of(name: str) -> str:
    """The help of a command, or of the root for ``""``, as a terminal of 100 columns shows it."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = COLUMNS
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            run([*name.split(), "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return printed.getvalue().rstrip()


# -- the page


def shown(example: Example, cluster: Cluster, same: Same) -> str:
    """A line, what it printed and how it ended, as the page has it."""
    printed, code = cluster.printed(example.line)
    lines = [line.rstrip() for line in same(printed).rstrip().splitlines()]
    if len(lines) > example.lines:
        lines = [*lines[: example.lines], "..."]
    ended = [f"(exit code {code})"] if code else []
    words = f"{example.words}\n\n" if example.words else ""
    return words + "\n".join(["```console", f"$ {example.line}", *lines, *ended, "```", ""])


def section(name: str, cluster: Cluster, same: Same) -> str:
    """The section of a command."""
    parts = [f"### {name}", "", "```text", help_of(name), "```", ""]
    parts += [WORDS[name], ""] if name in WORDS else []
    return "\n".join([*parts, *(shown(each, cluster, same) for each in EXAMPLES[name])])


def make_page() -> str:
    """Run everything, and put the page together."""
    same = Same()
    with tempfile.TemporaryDirectory() as folder:
        prompts = two_prompts(Path(folder), same)
    with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder)) as cluster:
        failures = "\n".join(shown(each, cluster, same) for each in FAILURES)
        sections: list[str] = []
        under = ""
        for name, group in commands().items():
            if group != under:
                sections.append(f"## {group}\n")
                under = group
            with _something_happens(cluster) if name == "monitor" else contextlib.nullcontext():
                sections.append(section(name, cluster, same))
            if name in SAID:
                sections.append(f"```console\n{cluster.said[SAID[name]]}```\n")
            if name == "shell":
                sections.append(prompts)
        cluster.hang("charlie")
        cluster.printed('until clusterkit members | grep -q \'"state": "down"\'; do :; done')
        failures += "\n" + "\n".join(shown(each, cluster, same) for each in HUNG)
    head = HEAD.format(root=help_of(""), failures=failures, app=APP)
    return "\n".join([head, *sections, TAIL])


@contextlib.contextmanager
def _something_happens(cluster: Cluster) -> Iterator[None]:
    """Change weights for as long as somebody watches."""
    over = threading.Event()

    def change() -> None:
        weight = 1
        while not over.is_set():
            weight = 3 - weight
            cluster.printed(f"clusterkit update bravo {weight}")
        cluster.printed("clusterkit update bravo 1")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    PAGE.write_text(make_page())
