"""What one actor has to do with the ends of others: monitors, links, and the members of the ring."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clusterkit.actors.gen_server import GenServer
from clusterkit.actors.ref import Ref, check_ref
from clusterkit.actors.signals import NORMAL, Down, Exit
from clusterkit.core.members import Lagged, MemberDown, MemberUp
from clusterkit.kernel.address import Address
from clusterkit.kernel.monitors import NOCONNECTION, Monitor

if TYPE_CHECKING:
    from clusterkit.actors.process import Process

logger = logging.getLogger("clusterkit.actors")

_MOST_HEARD = 1_024  # ends that are remembered, so that none is told twice
_MOST_NEWS = 1_024  # of members, that wait in one mailbox


class Ties:
    """The ties of one process; all end with it."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._watching = process.kernel.monitors
        self._monitors: dict[Monitor, None] = {}
        self._links: dict[Ref[Any], Monitor] = {}
        self._heard: OrderedDict[Address, None] = OrderedDict()  # linked processes that ended
        self._undo: list[Callable[[], None]] = []  # of monitor_nodes
        self._news = self._missed = 0  # how much of it waits, how much was left out

    def monitor(self, ref: Ref[Any]) -> Monitor:
        """Watch a process: its end arrives as `Down`."""

        def told(reason: str) -> None:
            self._process.signal(Down(ref, reason, monitor), lambda: self._monitors.pop(monitor, False) is None)

        monitor = self._watching.watch(check_ref(ref).address_for(self._process.kernel), told)
        self._monitors[monitor] = None
        return monitor

    def demonitor(self, monitor: Monitor) -> None:
        """Watch no more: no `Down` comes, nor is one handled that waits."""
        self._monitors.pop(monitor, None)
        self._watching.unwatch(monitor)

    def link(self, ref: Ref[Any]) -> None:
        """End together with a process."""
        address = check_ref(ref).address_for(self._process.kernel)
        key: Ref[Any] = Ref(self._process.kernel, GenServer, address)
        inbox, mine = self._process.mailbox, self._links.get(key)
        if (mine is not None and mine.is_live) or key == self._process.ref:
            return
        if self._watching.link_of(inbox, address) is not None:
            return  # made by the other side
        monitor = self._watching.watch(
            address, lambda reason: self._ended(key, ref, monitor.process, reason), linked=inbox
        )
        self._links[key] = monitor

    def unlink(self, ref: Ref[Any]) -> None:
        """Undo a link, whichever side made it."""
        address = check_ref(ref).address_for(self._process.kernel)
        monitor = self._links.pop(Ref(self._process.kernel, GenServer, address), None)
        if monitor is not None and monitor.is_live:
            self._watching.unwatch(monitor)
        else:
            self._watching.unlink(self._process.mailbox, address)

    def exited(self, address: Address, reason: str) -> None:
        """A linked process ended."""
        ref: Ref[Any] = Ref(self._process.kernel, GenServer, address)
        self._ended(ref, ref, address, reason)

    def _ended(self, key: Ref[Any], ref: Ref[Any], ended: Address | None, reason: str) -> None:
        process = self._process
        self._links.pop(key, None)
        if ended is not None:
            if ended in self._heard:
                return  # each had linked to the other: it is one end
            self._heard[ended] = None
            if reason == NOCONNECTION:  # both sides of a link hear that at once; later it may be linked anew
                process.kernel.loop.call_soon(self._heard.pop, ended, None)
            elif len(self._heard) > _MOST_HEARD:
                self._heard.popitem(last=False)
        if process.actor.trap_exit:
            process.signal(Exit(ref, reason))
        elif reason != NORMAL:
            logger.warning("actor %s stops: %r, linked to it, ended: %s", process.mailbox.shown, ref, reason)
            process.stop(reason, drain=False)

    def monitor_nodes(self) -> None:
        """Hear of members from now on."""
        if not self._undo:
            on = self._process.node.ring.on
            self._undo = [on(MemberUp, self._member_news), on(MemberDown, self._member_news)]

    def _member_news(self, event: MemberUp | MemberDown | Lagged) -> None:
        if self._news >= _MOST_NEWS:
            self._missed += 1
            return
        self._news += 1
        self._process.signal(event, self._news_taken)

    def _news_taken(self) -> bool:
        self._news -= 1
        if missed := self._missed:
            self._missed = 0
            self._member_news(Lagged(missed))
        return True

    def close(self) -> None:
        """Watch nothing any more. Links are told by the kernel, which knows both sides."""
        for undo in self._undo:
            undo()
        for monitor in self._monitors:
            self._watching.unwatch(monitor)
