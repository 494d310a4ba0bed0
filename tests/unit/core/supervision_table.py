"""What Erlang/OTP's manual says of supervisors, as one table: what happens, and what is seen.

A row has children, options and a script; beside each step stands what is seen of it. The table is run against
the pure machine, against supervisors of real actors and, where it is installed, against OTP itself.

Children, in the order of their start: ``"a, b transient, c temporary significant, d stubborn"``; permanent unless
another word is given; who is stubborn ignores being stopped. Steps:

    begin                           the supervisor starts
    a ends boom                     a ends by itself, with that reason; nothing, if it does not run
    a fails 2                       from now on the next two starts of a fail
    when b starts a ends boom       a ends while b is being started (once)
    when b stops a ends boom        a ends while b is being stopped (once)
    start d temporary, stop b, restart b, delete b        the requests
    list                            the children are listed
    wait 2                          seconds pass
    shutdown                        the supervisor is stopped

What is seen: ``+a`` a starts, ``!a`` it fails to, ``-a`` it is stopped, ``xa`` it is stopped and ignores that, ``~a`` it ended
because of a `when`, ``=ok`` the answer to a request, ``a (b)`` the list, in which b does not run,
``invalid`` or ``refused`` what comes of a start in vain, ``end`` the supervisor ended with "shutdown".
"""

from dataclasses import dataclass
from random import Random
from typing import Any

Script = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class TableChild:
    """A child as the table writes it."""

    name: str
    restart: str = "permanent"
    significant: bool = False
    stubborn: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    title: str
    children: str
    script: Script
    strategy: str = "one_for_one"
    intensity: int = 1
    period: int = 5
    auto_shutdown: str = "never"

    @property
    def specs(self) -> list[TableChild]:
        return [child_of(text.split()) for text in self.children.split(",") if text.strip()]

    @property
    def steps(self) -> list[list[str]]:
        return [step.split() for step, _ in self.script]

    @property
    def seen(self) -> list[str]:
        return [seen for _, seen in self.script]


def child_of(words: list[str]) -> TableChild:
    """Read a child: its name, then what it is."""
    name, *traits = words
    restart = [word for word in traits if word not in ("significant", "stubborn")] or ["permanent"]
    return TableChild(name, restart[0], "significant" in traits, "stubborn" in traits)


def erlang(row: Row) -> str:
    """Write a row as the term that `supervisor_oracle.erl` reads."""
    children = ",".join(_child_term(child) for child in row.specs)
    steps = ",".join(_step_term(step) for step in row.steps)
    options = f"{row.strategy},{row.intensity},{row.period},{row.auto_shutdown}"
    return f"{{{options},[{children}],[{steps}]}}.\n"


def _child_term(child: TableChild) -> str:
    return f"{{{child.name},{child.restart},{str(child.significant).lower()},{str(child.stubborn).lower()}}}"


def _step_term(step: list[str]) -> str:
    match step:
        case ["start", *words]:
            return f"{{start,{_child_term(child_of(words))}}}"
        case ["when", name, verb, other, "ends", reason]:
            return f"{{'when',{name},{verb},{other},{reason}}}"
        case [name, "ends" | "fails" as verb, what]:
            return f"{{{verb},{name},{what}}}"
        case [verb]:
            return f"{{'{verb}'}}"
        case _:
            return "{" + ",".join(step) + "}"


_ABC = "a, b, c"
_BEGIN = ("begin", "+a +b +c")
_SHUTDOWN = ("shutdown", "-c -b -a end")

ROWS: tuple[Row, ...] = (
    # -- order
    Row("start in order, stop in reverse", _ABC, (_BEGIN, ("list", "a b c"), _SHUTDOWN)),
    Row("no children at all", "", (("begin", ""), ("list", ""), ("shutdown", "end"))),
    Row(
        "who ignores its stop holds up only those before it",
        "a, b stubborn, c",
        (_BEGIN, ("shutdown", "-c xb -a end")),
    ),
    Row(
        "a start that fails at the beginning stops those before it",
        "a, b, c, d",
        (("c fails 1", ""), ("begin", "+a +b !c -b -a refused")),
    ),
    # -- strategies
    Row("one_for_one: alone", _ABC, (_BEGIN, ("b ends boom", "+b"), ("list", "a b c"), _SHUTDOWN)),
    Row(
        "one_for_all: all stop in reverse and start in order",
        _ABC,
        (_BEGIN, ("b ends boom", "-c -a +a +b +c"), ("list", "a b c"), _SHUTDOWN),
        strategy="one_for_all",
    ),
    Row(
        "rest_for_one: those after it",
        "a, b, c, d",
        (("begin", "+a +b +c +d"), ("b ends boom", "-d -c +b +c +d"), ("shutdown", "-d -c -b -a end")),
        strategy="rest_for_one",
    ),
    Row(
        "rest_for_one: the last alone",
        _ABC,
        (_BEGIN, ("c ends boom", "+c"), _SHUTDOWN),
        strategy="rest_for_one",
    ),
    Row(
        "rest_for_one: the first takes all with it",
        _ABC,
        (_BEGIN, ("a ends boom", "-c -b +a +b +c")),
        strategy="rest_for_one",
    ),
    Row(
        "one_for_all: who ignores its stop is started again all the same",
        "a, b stubborn, c",
        (_BEGIN, ("a ends boom", "-c xb +a +b +c")),
        strategy="one_for_all",
    ),
    # -- permanent, transient, temporary
    Row(
        "a permanent child is started again whatever it ended with",
        _ABC,
        (_BEGIN, ("a ends normal", "+a"), ("b ends shutdown", "+b"), ("c ends killed", "+c")),
        intensity=3,
    ),
    Row(
        "a transient child that ended well stays in the list",
        "a, b transient, c transient",
        (_BEGIN, ("b ends normal", ""), ("c ends shutdown", ""), ("list", "a (b) (c)"), ("shutdown", "-a end")),
    ),
    Row(
        "a transient child that failed is started again",
        "a, b transient",
        (("begin", "+a +b"), ("b ends boom", "+b"), ("b ends killed", "+b"), ("list", "a b")),
        intensity=2,
    ),
    Row(
        "a temporary child is never started again and leaves the list",
        "a, b temporary, c temporary",
        (_BEGIN, ("b ends boom", ""), ("c ends normal", ""), ("list", "a"), ("shutdown", "-a end")),
        intensity=0,
    ),
    Row(
        "one_for_all: the end of a temporary child is nobody else's",
        "a, b temporary, c",
        (_BEGIN, ("b ends boom", ""), ("list", "a c"), ("shutdown", "-c -a end")),
        strategy="one_for_all",
    ),
    Row(
        "one_for_all: temporary children are stopped and gone",
        "a, b temporary, c",
        (_BEGIN, ("a ends boom", "-c -b +a +c"), ("list", "a c")),
        strategy="one_for_all",
    ),
    Row(
        "rest_for_one: temporary children after it are stopped and gone",
        "a, b, c temporary, d",
        (("begin", "+a +b +c +d"), ("b ends boom", "-d -c +b +d"), ("list", "a b d")),
        strategy="rest_for_one",
    ),
    Row(
        "one_for_all: a transient child that had ended well is started with the others",
        "a, b transient, c",
        (_BEGIN, ("b ends normal", ""), ("a ends boom", "-c +a +b +c"), ("list", "a b c")),
        strategy="one_for_all",
    ),
    Row(
        "rest_for_one: who had been stopped before stays so, who had been stopped after is started",
        "a, b, c, d",
        (
            ("begin", "+a +b +c +d"),
            ("stop a", "-a =ok"),
            ("stop d", "-d =ok"),
            ("b ends boom", "-c +b +c +d"),
            ("list", "(a) b c d"),
        ),
        strategy="rest_for_one",
    ),
    # -- intensity and period
    Row(
        "one restart more than the intensity ends the supervisor",
        _ABC,
        (_BEGIN, ("a ends boom", "+a"), ("b ends boom", "+b"), ("c ends boom", "-b -a end")),
        intensity=2,
    ),
    Row("intensity 0: no restart at all", _ABC, (_BEGIN, ("b ends boom", "-c -a end")), intensity=0),
    Row(
        "one restart of all is one restart",
        _ABC,
        (_BEGIN, ("a ends boom", "-c -b +a +b +c"), ("b ends boom", "-c -a end")),
        strategy="one_for_all",
    ),
    Row(
        "ends that restart nothing do not count",
        "a, b transient, c temporary, d",
        (("begin", "+a +b +c +d"), ("b ends normal", ""), ("c ends boom", ""), ("a ends boom", "+a")),
    ),
    Row(
        "restarts before the period do not count",
        "a, b",
        (("begin", "+a +b"), ("a ends boom", "+a"), ("wait 2.2", ""), ("a ends boom", "+a"), ("b ends boom", "-a end")),
        period=1,
    ),
    Row(
        "restarts within the period count together",
        "a, b",
        (("begin", "+a +b"), ("a ends boom", "+a"), ("wait 1", ""), ("b ends boom", "-a end")),
        period=30,
    ),
    # -- starts that fail
    Row(
        "a failed restart is tried again",
        "a, b",
        (("begin", "+a +b"), ("a fails 2", ""), ("a ends boom", "!a !a +a"), ("list", "a b")),
        intensity=3,
    ),
    Row(
        "failed restarts count",
        "a, b",
        (("begin", "+a +b"), ("a fails 9", ""), ("a ends boom", "!a !a !a -b end")),
        intensity=3,
    ),
    Row(
        "one_for_all: one of the others fails to start: all again",
        _ABC,
        (_BEGIN, ("b fails 1", ""), ("a ends boom", "-c -b +a !b -a +a +b +c"), ("list", "a b c")),
        strategy="one_for_all",
        intensity=2,
    ),
    Row(
        "rest_for_one: one of the rest fails to start: it and the rest again",
        _ABC,
        (_BEGIN, ("b fails 1", ""), ("a ends boom", "-c -b +a !b +b +c"), ("list", "a b c")),
        strategy="rest_for_one",
        intensity=2,
    ),
    Row(
        "one_for_all: no more tries",
        _ABC,
        (_BEGIN, ("c fails 9", ""), ("a ends boom", "-c -b +a +b !c -b -a +a +b !c -b -a end")),
        strategy="one_for_all",
        intensity=2,
    ),
    Row(
        "a transient child that fails to start again is tried again",
        "a transient",
        (("begin", "+a"), ("a fails 1", ""), ("a ends boom", "!a +a")),
        intensity=2,
    ),
    # -- requests
    Row(
        "a further child is the last",
        "a, b",
        (
            ("begin", "+a +b"),
            ("start c", "+c =ok"),
            ("list", "a b c"),
            ("a ends boom", "+a"),
            ("shutdown", "-c -b -a end"),
        ),
    ),
    Row(
        "a further child whose start fails is not kept",
        "a",
        (("begin", "+a"), ("b fails 1", ""), ("start b", "!b =failed"), ("list", "a"), ("start b", "+b =ok")),
    ),
    Row(
        "a name that is taken, by one that runs and by one that does not",
        "a, b transient",
        (
            ("begin", "+a +b"),
            ("start a", "=already_started"),
            ("b ends normal", ""),
            ("start b", "=already_present"),
            ("list", "a (b)"),
        ),
    ),
    Row(
        "stopped, started, stopped, deleted",
        _ABC,
        (
            _BEGIN,
            ("stop b", "-b =ok"),
            ("list", "a (b) c"),
            ("restart b", "+b =ok"),
            ("restart b", "=running"),
            ("delete b", "=running"),
            ("stop b", "-b =ok"),
            ("stop b", "=ok"),
            ("delete b", "=ok"),
            ("list", "a c"),
            ("start b", "+b =ok"),
            ("list", "a c b"),
        ),
        intensity=0,
    ),
    Row(
        "requests for a child that is not there",
        "a",
        (("begin", "+a"), ("stop z", "=not_found"), ("restart z", "=not_found"), ("delete z", "=not_found")),
    ),
    Row(
        "a temporary child that is stopped leaves the list",
        "a, b temporary",
        (("begin", "+a +b"), ("stop b", "-b =ok"), ("list", "a"), ("stop b", "=not_found"), ("start b", "+b =ok")),
    ),
    Row(
        "a child that is started on request and fails stays stopped",
        "a, b",
        (
            ("begin", "+a +b"),
            ("stop a", "-a =ok"),
            ("a fails 1", ""),
            ("restart a", "!a =failed"),
            ("list", "(a) b"),
            ("restart a", "+a =ok"),
        ),
    ),
    Row(
        "one_for_all: who was stopped on request is started with the others",
        _ABC,
        (_BEGIN, ("stop c", "-c =ok"), ("a ends boom", "-b +a +b +c")),
        strategy="one_for_all",
    ),
    Row(
        "one that ignores its stop is stopped on request",
        "a, b stubborn",
        (("begin", "+a +b"), ("stop b", "xb =ok"), ("list", "a (b)"), ("restart b", "+b =ok")),
    ),
    # -- significant children
    Row(
        "any_significant: the first of them ends the supervisor",
        "a, b transient significant, c temporary significant",
        (_BEGIN, ("b ends normal", "-c -a end")),
        auto_shutdown="any_significant",
    ),
    Row(
        "any_significant: a temporary one that fails ends it too",
        "a, b temporary significant, c",
        (_BEGIN, ("b ends boom", "-c -a end")),
        auto_shutdown="any_significant",
    ),
    Row(
        "any_significant: a transient one that failed is started again",
        "a, b transient significant",
        (("begin", "+a +b"), ("b ends boom", "+b"), ("b ends shutdown", "-a end")),
        auto_shutdown="any_significant",
    ),
    Row(
        "any_significant: the others may end",
        "a transient, b transient significant",
        (("begin", "+a +b"), ("a ends normal", ""), ("list", "(a) b")),
        auto_shutdown="any_significant",
    ),
    Row(
        "all_significant: the last of them ends the supervisor",
        "a, b transient significant, c temporary significant",
        (_BEGIN, ("c ends boom", ""), ("list", "a b"), ("b ends normal", "-a end")),
        auto_shutdown="all_significant",
    ),
    Row(
        "all_significant: one that is stopped on request does not end it, and is not waited for",
        "a, b transient significant, c transient significant",
        (
            _BEGIN,
            ("c ends normal", ""),
            ("stop b", "-b =ok"),
            ("list", "a (b) (c)"),
            ("restart c", "+c =ok"),
            ("c ends normal", "-a end"),
        ),
        auto_shutdown="all_significant",
    ),
    Row(
        "one_for_all: a significant child that is stopped with the others does not end it",
        "a, b temporary significant, c",
        (_BEGIN, ("a ends boom", "-c -b +a +c"), ("list", "a c")),
        strategy="one_for_all",
        auto_shutdown="any_significant",
    ),
    Row(
        "a significant child that is started later",
        "a",
        (("begin", "+a"), ("start b transient significant", "+b =ok"), ("b ends normal", "-a end")),
        auto_shutdown="any_significant",
    ),
    # -- ends while something else goes on
    Row(
        "one_for_all: one ends by itself while another is stopped",
        _ABC,
        (_BEGIN, ("when c stops a ends boom", ""), ("b ends boom", "-c ~a +a +b +c"), ("list", "a b c")),
        strategy="one_for_all",
    ),
    Row(
        "rest_for_one: one before it ends while the rest is stopped: its turn comes after",
        _ABC,
        (
            _BEGIN,
            ("when c stops a ends boom", ""),
            ("b ends boom", "-c ~a +b +c -c -b +a +b +c"),
            ("list", "a b c"),
        ),
        strategy="rest_for_one",
        intensity=2,
    ),
    Row(
        "one_for_all: one that was just started ends while the next is started",
        _ABC,
        (_BEGIN, ("when c starts a ends boom", ""), ("b ends boom", "-c -a +a +b +c ~a -c -b +a +b +c")),
        strategy="one_for_all",
        intensity=2,
    ),
    Row(
        "one ends at the beginning, while the next is started",
        _ABC,
        (("when c starts a ends boom", ""), ("begin", "+a +b +c ~a +a"), ("list", "a b c")),
    ),
    Row(
        "one ends at the beginning, and then a start fails",
        _ABC,
        (("when b starts a ends boom", ""), ("c fails 1", ""), ("begin", "+a +b ~a !c -b refused")),
    ),
    Row(
        "one ends while the supervisor stops",
        _ABC,
        (_BEGIN, ("when c stops a ends boom", ""), ("shutdown", "-c ~a -b end")),
    ),
    Row(
        "one ends while another is stopped on request",
        _ABC,
        (_BEGIN, ("when c stops a ends boom", ""), ("stop c", "-c ~a +a =ok"), ("list", "a b (c)")),
    ),
    Row(
        "any_significant: one that is none of them ends while another is stopped",
        "a, b, c transient significant",
        (_BEGIN, ("when b stops a ends boom", ""), ("stop b", "-b ~a +a =ok"), ("c ends normal", "-a end")),
        auto_shutdown="any_significant",
    ),
    # -- what cannot be
    Row("an unknown strategy", "a", (("begin", "invalid"),), strategy="one_for_many"),
    Row("a negative intensity", "a", (("begin", "invalid"),), intensity=-1),
    Row("no period", "a", (("begin", "invalid"),), period=0),
    Row("an unknown auto_shutdown", "a", (("begin", "invalid"),), auto_shutdown="always"),
    Row("an unknown restart", "a, b seldom", (("begin", "invalid"),)),
    Row("two children of one name", "a, b, a", (("begin", "invalid"),)),
    Row("significant and permanent", "a significant", (("begin", "invalid"),), auto_shutdown="any_significant"),
    Row("significant, and never an auto_shutdown", "a transient significant", (("begin", "invalid"),)),
    Row(
        "a further child that cannot be",
        "a",
        (("begin", "+a"), ("start b seldom", "=invalid"), ("start b transient significant", "=invalid"), ("list", "a")),
    ),
)

_REASONS = ("normal", "shutdown", "boom", "boom", "boom", "killed")


def random_row(seed: int) -> Row:
    """Write a script by chance; what is to be seen of it stands nowhere."""
    rng = Random(seed)
    auto_shutdown = rng.choice(("never", "never", "any_significant", "all_significant"))
    names = "abcdef"[: rng.randint(1, 5)]
    children = ", ".join(_random_child(rng, name, auto_shutdown) for name in names)
    steps: list[str] = ["begin", "list"]
    if rng.random() < 0.2:
        steps.insert(0, _random_mishap(rng, names))
    for _ in range(rng.randint(1, 12)):
        steps += [_random_step(rng, names * 2 + "z", auto_shutdown), "list"]
    return Row(
        f"seed {seed}",
        children,
        tuple((step, "") for step in [*steps, "shutdown"]),
        strategy=rng.choice(("one_for_one", "one_for_all", "rest_for_one")),
        intensity=rng.randint(0, 6),
        period=600,
        auto_shutdown=auto_shutdown,
    )


def _random_child(rng: Random, name: str, auto_shutdown: str) -> str:
    restart = rng.choice(("permanent", "permanent", "transient", "temporary"))
    is_significant = auto_shutdown != "never" and restart != "permanent" and rng.random() < 0.5
    return f"{name} {restart}" + (" significant" if is_significant else "")


def _random_mishap(rng: Random, names: str) -> str:
    who, other = rng.choice(names), rng.choice(names)
    if rng.random() < 0.4:
        return f"{who} fails {rng.randint(1, 3)}"
    return f"when {who} {rng.choice(('starts', 'stops'))} {other} ends {rng.choice(_REASONS)}"


def _random_step(rng: Random, names: str, auto_shutdown: str) -> str:
    kinds: list[Any] = [
        lambda: f"{rng.choice(names)} ends {rng.choice(_REASONS)}",
        lambda: _random_mishap(rng, names),
        lambda: f"{rng.choice(('stop', 'restart', 'delete'))} {rng.choice(names)}",
        lambda: f"start {_random_child(rng, rng.choice(names), auto_shutdown)}",
    ]
    return str(rng.choices(kinds, (6, 3, 3, 2))[0]())
