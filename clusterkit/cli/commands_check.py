"""``clusterkit check`` and ``ring``: whether the members see the same, and who owns which keys.

Rules: agreement is that every member answers, that all have one digest of the ring, and that each sees every
member alive over an open link; what stands in its way is named.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from clusterkit.cli.commands_ring import Node, addressed
from clusterkit.cli.failure import Exit, not_in_ring
from clusterkit.cli.output import one_line
from clusterkit.cli.session import answer
from clusterkit.cli.settings import Settings
from clusterkit.cli.tables import percent, table

if TYPE_CHECKING:
    from clusterkit.cli.question import Asked

OK, ABSENT, NO_LINK, SELF, UNKNOWN = "ok", "absent", "no link", ".", "?"
_WELL = frozenset({OK, SELF})
_EACH = 2.0  # seconds that each member has to answer
_MOST_COLUMNS = 12  # members of a matrix that is shown whole
_MOST_NAMED = 8


# -- check


@click.command()
@click.pass_obj
def check(settings: Settings) -> int:
    """Ask every member what it sees: agreement, or who sees whom, and exit code 1."""
    told = answer(settings, ask_check, show_check)
    return Exit.OK if told["agree"] else Exit.REFUSED


async def ask_check(asked: "Asked") -> Node:
    """Ask all members through one."""
    told = await asked.call("check", min(_EACH, asked.left * 0.6))
    return judge(told["views"], told["silent"], asked.name)


def judge(views: Sequence[Mapping[str, Any]], silent: Mapping[str, str], name: str) -> Node:
    """Compare what the members see; raises `Failure` when the one that asked them is in no ring."""
    here = next(view for view in views if view["name"] == name)
    if not here["ring"]:
        raise not_in_ring(name)
    digests: dict[str, list[str]] = {}
    for view in views:
        digests.setdefault(view["digest"], []).append(view["name"])
    sees = _who_sees_whom(views)
    agree = not silent and len(digests) == 1 and all(cell in _WELL for row in sees.values() for cell in row.values())
    answered = [view["name"] for view in views]
    told = {"agree": agree, "ring": here["ring"], "answered": answered, "silent": dict(silent), "digests": digests}
    return told | {"sees": None if agree else sees}


def _who_sees_whom(views: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    lists = {view["name"]: view["members"] for view in views}
    members = {view["name"]: lists[view["same"]] if view["members"] is None else view["members"] for view in views}
    names = sorted({name for each in members.values() for name in each} | members.keys())
    return {view["name"]: {other: _seen(view, members[view["name"]], other) for other in names} for view in views}


def _seen(view: Mapping[str, Any], members: Mapping[str, Any], other: str) -> str:
    """How one member sees another; a link that is not told of is open."""
    if other not in members:
        return ABSENT
    if other == view["name"]:
        return SELF
    state = str(members[other]["state"])
    if state != "alive":
        return state
    return OK if view["reaches"].get(other, True) else NO_LINK


def show_check(data: Mapping[str, Any]) -> str:
    """Show a verdict; the matrix if there is no agreement."""
    silent, digests, answered = data["silent"], data["digests"], data["answered"]
    asked = len(answered) + len(silent)
    lines = [_verdict(not silent, f"{len(answered)} of {asked} members of ring {data['ring']} answer")]
    lines += [f"       {one_line(f'{name}: {why}')}" for name, why in sorted(silent.items())]
    if len(digests) == 1:
        lines.append(_verdict(True, f"ring digest {next(iter(digests))} on all of them"))
    else:
        lines.append(_verdict(False, f"{len(digests)} ring digests"))
        lines += [f"       {one_line(f'{digest} on {_named(names)}')}" for digest, names in digests.items()]
    if data["agree"]:
        return "\n".join([*lines, _verdict(True, "each sees every other alive, over an open link")])
    return "\n".join([*lines, *_show_faults(data["sees"], sorted(silent))])


def _verdict(good: bool, text: str) -> str:
    return f"{click.style('[ok]  ', fg='green') if good else click.style('[FAIL]', fg='red')} {one_line(text)}"


def _named(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_MOST_NAMED])}{f' and {len(names) - _MOST_NAMED} more' * (len(names) > _MOST_NAMED)}"


def _show_faults(sees: Mapping[str, Mapping[str, str]], silent: Sequence[str]) -> list[str]:
    """Say who is not seen well, and show who sees whom: a row for each that sees, a column for each that is seen."""
    names = list(next(iter(sees.values())))
    unseen = [name for name in names if not all(row[name] in _WELL for row in sees.values())]
    if unseen:
        verdict = _verdict(False, f"not all see alive, over an open link: {_named(unseen)}")
    else:
        verdict = _verdict(True, "those that answer see every member alive, over an open link")
    rows: dict[str, Mapping[str, str]] = {**sees, **{name: dict.fromkeys(names, UNKNOWN) for name in silent}}
    if len(names) > _MOST_COLUMNS:
        names = unseen
        rows = {name: row for name, row in rows.items() if not all(row[other] in _WELL for other in names)}
    if not names:
        return [verdict]
    cells = [[name, *(row[other] for other in names)] for name, row in sorted(rows.items())]
    return [verdict, "", table(["WHO \\ SEES", *names], cells)]


# -- the ring group


@click.group()
def ring() -> None:
    """Who owns a key, how even the shares are, and where two members' views differ."""


@ring.command()
@click.argument("key")
@click.option("-n", "count", type=click.IntRange(1, 100), default=3, show_default=True, metavar="N", help="How many.")
@click.pass_obj
def owner(settings: Settings, key: str, count: int) -> None:
    """Tell the members that own a key, in the order in which they are asked."""

    async def asking(asked: "Asked") -> Node:
        told: Node = await asked.call("owner", key, count)
        available = told["available"]
        owners = [addressed(each) for each in told["owners"]]
        return told | {"owners": owners, "available": available and addressed(available)}

    answer(settings, asking, show_owner)


def show_owner(data: Mapping[str, Any]) -> str:
    """Show the owners of a key; a star is at the first that can be used now."""
    available = data["available"] and data["available"]["name"]
    rows = [
        (number, f"{each['name']}{' *' * (each['name'] == available)}", each["address"], each["state"])
        for number, each in enumerate(data["owners"], 1)
    ]
    lines = [table(("#", "NAME", "ADDRESS", "STATE"), rows)]
    if available is None:
        lines.append("\nno member can be used now")
    elif data["owners"] and available != data["owners"][0]["name"]:
        lines.append(one_line(f"* {available} stands in for {data['owners'][0]['name']} now").join(["\n", ""]))
    return "\n".join(lines)


@ring.command()
@click.pass_obj
def balance(settings: Settings) -> None:
    """Tell the share of the keys that each member owns, beside what its weight asks for."""

    async def asking(asked: "Asked") -> Node:
        return dict(await asked.call("balance"))

    answer(settings, asking, show_balance)


def show_balance(data: Mapping[str, Any]) -> str:
    """Show shares; LOAD is the share over the ideal."""
    rows = [
        (
            each["name"],
            each["weight"],
            percent(each["share"]),
            percent(each["ideal"]),
            f"{each['share'] / each['ideal']:.2f}x",
        )
        for each in data["members"]
    ]
    return f"{table(('NAME', 'WEIGHT', 'SHARE', 'IDEAL', 'LOAD'), rows)}\n\nthe most loaded has {data['worst']:.2f}x of its ideal"


@ring.command()
@click.argument("name")
@click.pass_obj
def diff(settings: Settings, name: str) -> int:
    """Tell where the view of a member differs from that of the node that is asked; exit code 1 when it does."""

    async def asking(asked: "Asked") -> Node:
        told = await asked.call("diff", name)
        return compare(told["here"], told["there"])

    told = answer(settings, asking, show_diff)
    return Exit.OK if told["same"] else Exit.REFUSED


def compare(here: Mapping[str, Any], there: Mapping[str, Any]) -> Node:
    """List what two views say differently: of the ring (name None), and of each member."""
    found = [
        {"name": None, "what": what, "here": here[what], "there": there[what]}
        for what in ("ring", "digest")
        if here[what] != there[what]
    ]
    for name in sorted(here["members"].keys() | there["members"].keys()):
        found += _compare_member(name, here["members"].get(name), there["members"].get(name))
    return {"here": here["name"], "there": there["name"], "same": not found, "differences": found}


def _compare_member(name: str, here: Node | None, there: Node | None) -> list[Node]:
    if here is None or there is None:
        words = ["absent" if view is None else view["state"] for view in (here, there)]
        return [{"name": name, "what": "state", "here": words[0], "there": words[1]}]
    one, other = addressed(here), addressed(there)
    return [
        {"name": name, "what": what, "here": one[what], "there": other[what]}
        for what in ("state", "address", "incarnation", "weight")
        if one[what] != other[what]
    ]


def show_diff(data: Mapping[str, Any]) -> str:
    """Show what differs."""
    if data["same"]:
        return one_line(f"{data['here']} and {data['there']} see the same")
    rows = [(each["name"] or "the ring", each["what"], each["here"], each["there"]) for each in data["differences"]]
    return table(("NAME", "WHAT", f"AS {data['here']}", f"AS {data['there']}"), rows)
