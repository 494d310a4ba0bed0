"""Who watches whom: each monitor is told once how what it watches ended, after all that came from there before.

Both sides of it. On the watcher's side a `Monitor` waits, here or for a peer's DOWN; when the
peer is down, restarted or unknown the reason is "noconnection". On the watched side the inbox
of a process holds who is to be told. A link is a monitor both ways, made by one message: its
asker is told by DOWN, the other side by EXIT.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from clusterkit.core.messages import pack_demonitor, pack_down, pack_exit, pack_link, pack_linked, pack_monitor
from clusterkit.core.session import Lane, Notice
from clusterkit.errors import ClusterError, UsageError
from clusterkit.kernel.address import Address
from clusterkit.kernel.mailbox import Inbox
from clusterkit.transport.link import Link

if TYPE_CHECKING:
    from clusterkit.kernel.kernel import Kernel

NOPROC = "noproc"
NOCONNECTION = "noconnection"
_UNLINKED = ""  # no reason: the other side of a link undid it
_MOST = 65_536  # monitors of one peer
_REQUEST_LANE = int(Lane.REQUEST)


class Monitor:
    """One who watches, until it is told. Opaque to users: the token of `GenServer.monitor`."""

    __slots__ = ("_inbox", "_link", "_linked", "_notice", "_number", "_told", "address", "process")

    def __init__(self, address: Address, told: Callable[[str], None], linked: Inbox | None) -> None:
        self.address = address
        self.process: Address | None = None  # what it found there; of a link to another node when that has answered
        self._told: Callable[[str], None] | None = told
        self._linked = linked  # the process on this side, when it is a link
        self._inbox: Inbox | None = None  # what is watched, on this node
        self._link: Link | None = None
        self._number = 0
        self._notice: Notice | None = None  # the message that asked for it

    def __repr__(self) -> str:
        return f"<Monitor of {self.address}>"

    @property
    def is_live(self) -> bool:
        """Whether it is still to be told."""
        return self._told is not None

    def tell(self, reason: str) -> None:
        """Tell, the first time."""
        told, self._told = self._told, None
        if told is not None:
            told(reason)


class _Peer:
    """The monitors between this node and one peer."""

    __slots__ = ("linked", "ours", "theirs")

    def __init__(self) -> None:
        self.ours: dict[int, Monitor] = {}
        self.theirs: dict[int, Inbox] = {}
        self.linked: dict[int, Address] = {}  # of theirs that are links: the process over there


class Monitors:
    """All monitors of one kernel."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._peers: dict[Link, _Peer] = {}

    # -- the watcher's side

    def watch(self, address: Address, told: Callable[[str], None], *, linked: Inbox | None = None) -> Monitor:
        """Watch a process; ``told`` gets the reason, once, and is never called before this returns.

        ``linked`` is the process of this node that is to hear of the other's end by its
        holder, and whose own end the other is told.
        """
        monitor = Monitor(address, told, linked)
        if address.node is None:
            self._watch_here(monitor)
        else:
            self._watch_there(monitor)
        return monitor

    def _watch_here(self, monitor: Monitor) -> None:
        inbox = self._kernel.find(monitor.address.to)
        if inbox is None:
            self._kernel.loop.call_soon(monitor.tell, NOPROC)
            return
        monitor._inbox = inbox
        monitor.process = Address(None, inbox.serial)
        inbox.watchers[monitor] = monitor.tell
        if (mine := monitor._linked) is not None:
            mine.watchers[monitor] = lambda reason: self._end_of_asker(
                monitor, inbox, Address(None, mine.serial), reason
            )

    def _end_of_asker(self, monitor: Monitor, other: Inbox, asker: Address, reason: str) -> None:
        monitor._told = None
        if other.watchers.pop(monitor, None) is not None and other.holder is not None:
            other.holder.exited(asker, reason)

    def _watch_there(self, monitor: Monitor) -> None:
        kernel, address = self._kernel, monitor.address
        assert address.node is not None
        try:
            link = kernel.link_to(address, address.node, "monitor")
        except ClusterError:
            kernel.loop.call_soon(monitor.tell, NOCONNECTION)
            return
        if link.down:
            kernel.loop.call_soon(monitor.tell, NOCONNECTION)
            return
        peer = self._peers.setdefault(link, _Peer())
        if len(peer.ours) >= _MOST:
            raise UsageError(f"{_MOST:,} monitors of processes on {link.peer.name} are the most")
        number = monitor._number = kernel.new_number()
        monitor._link = link
        peer.ours[number] = monitor
        if (mine := monitor._linked) is None:
            monitor._notice = self._send(link, pack_monitor(number, address.to))
        else:
            monitor._notice = self._send(link, pack_link(number, address.to, mine.serial))
            mine.watchers[monitor] = lambda reason: self._asker_ended(link, monitor, reason)

    def _asker_ended(self, link: Link, monitor: Monitor, reason: str) -> None:
        monitor._told = None
        if self._forget_ours(link, monitor._number) is not None:
            self._send(link, pack_exit(monitor._number, reason))

    def unwatch(self, monitor: Monitor) -> None:
        """Watch no more: nothing is told from now on."""
        monitor._told = None
        if monitor._linked is not None:
            monitor._linked.watchers.pop(monitor, None)
        if monitor._inbox is not None:
            monitor._inbox.watchers.pop(monitor, None)
        elif (link := monitor._link) is not None and self._forget_ours(link, monitor._number) is not None:
            self._take_back(link, monitor)

    def _take_back(self, link: Link, monitor: Monitor) -> None:
        """Undo what was asked of a peer: it need not hear of it, if the question was not written yet."""
        if monitor._notice is None or not link.withdraw(monitor._notice):
            self._send(link, pack_demonitor(monitor._number))

    def _forget_ours(self, link: Link, number: int) -> Monitor | None:
        peer = self._peers.get(link)
        return peer.ours.pop(number, None) if peer is not None else None

    def linked(self, link: Link, number: int, serial: int) -> None:
        """A peer tells which process a link of ours has found."""
        if (peer := self._peers.get(link)) is not None and (monitor := peer.ours.get(number)) is not None:
            monitor.process = Address(link.peer, serial, pinned=True)

    def down(self, link: Link, number: int, reason: str) -> None:
        """A peer tells that what was watched there has ended."""
        if (monitor := self._forget_ours(link, number)) is None:
            return
        if reason == _UNLINKED:
            self._unlinked(monitor)
        else:
            self._tell(monitor, reason)

    @staticmethod
    def _unlinked(monitor: Monitor) -> None:
        monitor._told = None
        if monitor._linked is not None:
            monitor._linked.watchers.pop(monitor, None)

    @staticmethod
    def _tell(monitor: Monitor, reason: str) -> None:
        if monitor._linked is not None:
            monitor._linked.watchers.pop(monitor, None)
        monitor.tell(reason)

    # -- the watched side

    def asked(self, link: Link, number: int, to: str | int, serial: int | None = None) -> None:
        """A peer watches one of ours; with ``serial`` that process of the peer's is linked to it."""
        inbox = self._kernel.find(to)
        peer = self._peers.setdefault(link, _Peer())
        if inbox is None or len(peer.theirs) >= _MOST:
            self._send(link, pack_down(number, NOPROC if inbox is None else NOCONNECTION))
            return
        peer.theirs[number] = inbox
        inbox.watchers[link, number] = lambda reason: self._ended(link, number, reason)
        if serial is not None:
            peer.linked[number] = Address(link.peer, serial, pinned=True)
            self._send(link, pack_linked(number, inbox.serial))

    def _ended(self, link: Link, number: int, reason: str) -> None:
        if self._forget_theirs(link, number) is not None:
            self._send(link, pack_down(number, reason))

    def _forget_theirs(self, link: Link, number: int) -> tuple[Inbox, Address | None] | None:
        peer = self._peers.get(link)
        inbox = peer.theirs.pop(number, None) if peer is not None else None
        if peer is None or inbox is None:
            return None
        inbox.watchers.pop((link, number), None)
        return inbox, peer.linked.pop(number, None)

    def link_of(self, inbox: Inbox, other: Address) -> object | None:
        """What stands for a link that the other side made with ``inbox``, or None."""
        here = self._kernel.find(other.to) if other.node is None else None
        for key in inbox.watchers:
            if isinstance(key, Monitor):
                if here is not None and key._linked is here:
                    return key
            elif isinstance(key, tuple) and (peer := self._peers.get(key[0])) and peer.linked.get(key[1]) == other:
                return key
        return None

    def unlink(self, inbox: Inbox, other: Address) -> None:
        """Undo a link that the other side made with ``inbox``."""
        key = self.link_of(inbox, other)
        if isinstance(key, Monitor):
            self.unwatch(key)
        elif isinstance(key, tuple):
            self._forget_theirs(*key)
            self._send(key[0], pack_down(key[1], _UNLINKED))

    def dropped(self, link: Link, number: int) -> None:
        """A peer watches no more."""
        self._forget_theirs(link, number)

    def exit(self, link: Link, number: int, reason: str) -> None:
        """A process of the peer that is linked to one of ours has ended."""
        if (found := self._forget_theirs(link, number)) is not None:
            self._exited(*found, reason)

    @staticmethod
    def _exited(inbox: Inbox, linked: Address | None, reason: str) -> None:
        if linked is not None and inbox.holder is not None:
            inbox.holder.exited(linked, reason)

    @staticmethod
    def ended(inbox: Inbox, reason: str) -> None:
        """A process of this node has ended: tell all who watch it."""
        watchers, inbox.watchers = inbox.watchers, {}
        for key, told in watchers.items():
            if isinstance(key, Monitor) and key._linked not in (None, inbox):
                assert key._linked is not None
                key._linked.watchers.pop(key, None)
            told(reason)

    # -- peers come and go

    def unreachable(self, link: Link) -> None:
        """The peer is down: what is watched there counts as ended. It may still watch us."""
        if (peer := self._peers.get(link)) is not None:
            for number in list(peer.ours):
                if (monitor := self._forget_ours(link, number)) is not None:
                    self._tell(monitor, NOCONNECTION)
                    is_link = monitor._linked is not None
                    self._send(link, pack_exit(number, NOCONNECTION) if is_link else pack_demonitor(number))
            for number in list(peer.linked):
                if (found := self._forget_theirs(link, number)) is not None:
                    self._send(link, pack_down(number, NOCONNECTION))
                    self._exited(*found, NOCONNECTION)

    def forget(self, link: Link) -> None:
        """The session with the peer ended: neither side hears of the other any more."""
        peer = self._peers.pop(link, None)
        if peer is None:
            return
        for monitor in peer.ours.values():
            self._tell(monitor, NOCONNECTION)
        for number, inbox in peer.theirs.items():
            inbox.watchers.pop((link, number), None)
            self._exited(inbox, peer.linked.get(number), NOCONNECTION)

    @staticmethod
    def _send(link: Link, body: bytes) -> Notice:
        notice = Notice(body, _REQUEST_LANE)
        link.send_always(notice)
        return notice
