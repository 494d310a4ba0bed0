"""What a node has to tell all others, gathered during one step and told once at its end."""

from collections.abc import Collection, Iterable, Sequence

from clusterkit.core.dissemination import DIRECT, TREES, Dissemination
from clusterkit.core.ring_entry import Claim
from clusterkit.core.ring_frames import Change
from clusterkit.core.ring_messages import Accusation, News, Refusal


class NewsDesk:
    """The news of one run of one node.

    >>> desk = NewsDesk("a", 1)
    >>> desk.refused("b", 7)
    >>> [(name, news.refusals[0].name) for name, news in desk.told(["a", "c"], ["c", "d"])]
    [('c', 'b'), ('d', 'b')]
    >>> list(desk.told(["a", "c"], ["c"]))
    []
    """

    def __init__(self, me: str, boot: int, direct: int = DIRECT) -> None:
        self._me = me
        self._spread = Dissemination(me, boot, direct)
        self._changes: list[Change] = []
        self._accusations: list[Accusation] = []
        self._refusals: list[Refusal] = []

    # -- gathering

    def changed(self, change: Change) -> None:
        """Tell of a change of the ring."""
        self._changes.append(change)

    def claimed(self, name: str, claim: Claim, by: str | None = None) -> None:
        """Tell what is believed of a member, by this node or by somebody else."""
        self._accusations.append(Accusation(name, claim, by or self._me))

    def refused(self, name: str, boot: int) -> None:
        """Tell that this node dialled a member in vain."""
        self._refusals.append(Refusal(name, boot, self._me))

    # -- telling

    def told(self, members: Sequence[str], linked: Collection[str]) -> Iterable[tuple[str, News]]:
        """Whom to tell what, of all that was gathered.

        ``members`` are the sorted names of those who pass news on, this node included; who
        is ``linked`` and not among them (removed, believed down, not introduced yet) is told straight.
        """
        if not (self._changes or self._accusations or self._refusals):
            return []
        told = tuple(self._changes), tuple(self._accusations), tuple(self._refusals)
        self._changes, self._accusations, self._refusals = [], [], []
        number = self._spread.next_number()
        news = [News(self._me, number, tree, False, *told) for tree in range(TREES)]  # one object for all who get it
        others = sorted(set(linked).difference(members))
        targets = [*self._spread.targets(members, number), *((name, 0) for name in others)]
        return [(name, news[tree]) for name, tree in targets]

    def farewell(self, leave: Change) -> News:
        """Make the news of the own leave, which wants an answer."""
        return News(self._me, self._spread.next_number(), 0, True, (leave,))

    def warning(self, name: str, claim: Claim) -> News:
        """Make the news that tells a member alone what is believed of it."""
        return News(self._me, self._spread.next_number(), 0, False, (), (Accusation(name, claim, self._me),))

    def pass_on(self, members: Sequence[str], news: News) -> list[str] | None:
        """Whom to pass news on to; None when it has been seen before."""
        return self._spread.pass_on(members, news.origin, news.number, news.tree)
