"""All links of a node: who may connect, who is dialled, which link a message takes.

Rules (docs/wire.md, "Handshake" and "Limits"): a caller is judged only after it proved
the cookie, in the order of the status table; of the connections to one peer the newest
to open wins; connections without a proof are bounded, and past the bound the oldest of
the source that holds the most is closed; each source may cost so many checks of a proof
a second, and waits for more. Sessions that wait for their peers are bounded too.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from ipaddress import IPv6Network
from itertools import count

from clusterkit.config import Config
from clusterkit.core.channel import Health, Reason
from clusterkit.core.handshake import Admitted, Event, Initiator, Judged, Proven, Responder
from clusterkit.core.identity import NodeId
from clusterkit.core.judgement import Here, judge
from clusterkit.core.proof import NONCE_SIZE, Party, Role, Status
from clusterkit.core.session import Outbox, Session
from clusterkit.core.token_bucket import TokenBuckets
from clusterkit.errors import AuthFailed, ClusterError, InvalidChecksum, ListenError, ProtocolError, WrongCertificate
from clusterkit.runtime import Tasks, entropy, now
from clusterkit.transport.base import Listener, Network, Stream
from clusterkit.transport.handshaking import initiate, respond, until_admitted
from clusterkit.transport.link import CROSSING, Link
from clusterkit.transport.unproven import Unproven
from clusterkit.transport.upward import Upward

logger = logging.getLogger("clusterkit.transport")

_PROBE_TIMEOUT = 2.0  # what the other boot of a name has to answer a PING
_BEFORE_NAME_TAKEN = (Status.VERSION, Status.SELF, Status.RING, Status.OLD_BOOT)
COUNTERS = (
    "accepted",  # connections
    "evicted",  # of them, closed without a proof to make room
    "refused",  # of them, that got no further than the handshake
    "invalid_checksum",  # proofs and records with a wrong MAC
    "cookie_mismatch",  # our own proofs that another node did not take
    "proofs_delayed",  # proofs that waited for their source's turn
    "sessions_evicted",  # sessions without a link that were ended to make room
)


class Links:
    """The transport floor: one object per node or client.

    ``me`` is what the proofs say of this side; it changes with ring and
    incarnation. ``keys`` come from `prepare_cookies`.
    """

    def __init__(self, me: Party, keys: tuple[bytes, ...], network: Network, config: Config, upward: Upward) -> None:
        self.me = me
        self.config = config
        self.upward = upward
        self.leaving = False
        self.health = Health(
            ping_after=config.ping_after,
            cut_after=config.cut_after,
            write_stall=config.write_stall,
            record_within=config.record_timeout,
        )
        self.counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self._keys = keys
        self._network = network
        self._bounds = Outbox(config.outbox_messages, config.outbox_size)
        self._sessions = count(1)
        self._links: dict[str, Link] = {}
        self.get = self._links.get
        """The link to the node of a name, or None."""
        self._clients: dict[tuple[str, int], Link] = {}
        self._known: dict[str, int] = {}
        self._detached: dict[Link, None] = {}  # their sessions wait for a connection, the longest first
        self._lingering: dict[tuple[str, int], asyncio.TimerHandle] = {}
        self._unproven = Unproven()
        self._proofs = TokenBuckets(config.proof_rate, config.proof_burst)
        self.tasks = Tasks(f"links/{me.name}")
        self._listener: Listener | None = None

    # -- the table

    def __iter__(self) -> Iterator[Link]:
        return iter([*self._links.values(), *self._clients.values()])

    def known_boot(self, name: str) -> int:
        """The greatest incarnation that was proven or announced under a name, 0 for none."""
        return self._known.get(name, 0)

    def learn_boot(self, name: str, boot: int) -> None:
        """Take note of an incarnation that its process announced."""
        self._known[name] = max(boot, self._known.get(name, 0))

    def link_to(self, node: NodeId) -> Link:
        """The link to a node, made and dialled from now on if there is none."""
        link = self._links.get(node.name)
        if link is None:
            link = self._links[node.name] = Link(self, node)
        elif not link.open and node.port:
            link.peer = NodeId(node.name, node.host, node.port, link.peer.incarnation)
        link.want()
        return link

    async def forget(self, name: str, why: str) -> None:
        """End the link to a node that left or was removed."""
        if (link := self._links.pop(name, None)) is not None:
            await link.forget(why)

    async def release(self, name: str, deadline: float) -> None:
        """Let a node that has left say goodbye, until ``deadline``, and forget it."""
        if (link := self._links.get(name)) is not None and not link.parting:
            link.release()
            await link.parted_by(deadline)
            if self._links.get(name) is link and not link.wanted:
                await self.forget(name, "left")

    async def drop(self, name: str, deadline: float) -> None:
        """Part from a node that is no member any more: what it was sent before still goes, until ``deadline``."""
        if (link := self._links.get(name)) is not None and not link.parting:
            await link.part(Reason.DROP, deadline)
            if self._links.get(name) is link:
                del self._links[name]

    def new_session(self) -> Session:
        """Make a session object with a number never used before."""
        return Session(next(self._sessions), self._bounds)

    def attached(self, link: Link) -> None:
        """Take note that a link has a connection, or no session to keep."""
        self._detached.pop(link, None)

    def detached(self, link: Link) -> None:
        """Take note that a session waits for a connection; past the bound a client's is ended, or the oldest."""
        self._detached[link] = None
        if len(self._detached) > self.config.session_limit:
            waiting = iter(self._detached)
            oldest = next((each for each in self._detached if each.role is Role.CLIENT), None) or next(waiting)
            self.counters["sessions_evicted"] += 1
            oldest.end_session("too many sessions wait for their peers")
            if oldest.role is Role.CLIENT:
                self._client_gone((oldest.peer.name, oldest.peer.incarnation))
            else:
                self.tasks.spawn(self._drop_unused(oldest), "drop unused")

    # -- cookies

    def accepts(self, cookie: bytes) -> bool:
        """Whether the key of a cookie is among those accepted now."""
        return cookie in self._keys

    def stats(self) -> dict[str, int]:
        """What was counted, by name."""
        return {**self.counters, "accept_pauses": self._listener.pauses if self._listener is not None else 0}

    def set_keys(self, keys: tuple[bytes, ...]) -> None:
        """Accept other cookies from now on; links made with one that is gone are made anew."""
        self._keys = keys
        for link in self:
            link.cookies_changed()

    # -- listening

    async def listen(self, host: str, port: int) -> int:
        """Accept connections from now on; return the port. Raises `ListenError`."""
        try:
            self._listener = await self._network.listen(host, port, self._accepted)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ListenError(f"cannot listen on {host}:{port}: {reason}; is another program there?") from error
        return self._listener.port

    def _accepted(self, stream: Stream) -> None:
        self.counters["accepted"] += 1
        self._unproven.add(stream, source_of(stream.remote), self.tasks.spawn(self._serve(stream), "serve"))
        if len(self._unproven) > self.config.unproven_limit:
            self.counters["evicted"] += 1
            self._unproven.evict()

    async def _serve(self, stream: Stream) -> None:
        try:
            proven = await self._respond(stream)
        except ClusterError as error:
            self.counters["refused"] += 1
            self.counters["invalid_checksum"] += isinstance(error, InvalidChecksum)
            logger.debug("connection from %s closed: %s", stream.remote, error)
            await _close(stream)
            return
        except asyncio.CancelledError:
            stream.abort()
            raise
        finally:
            self._unproven.discard(stream)
        await self._carry(stream, proven)

    async def _respond(self, stream: Stream) -> Proven:
        config = self.config
        machine = Responder(
            self.me,
            self._keys,
            entropy(NONCE_SIZE),
            now=now(),
            timeout=config.proof_timeout,
            whole=config.handshake_timeout,
        )
        try:
            async with asyncio.timeout_at(machine.next_deadline):
                await stream.established()
        except OSError as error:
            raise ProtocolError(f"no connection came about: {error or 'too slow'}") from None
        proven = await respond(stream, machine, self._admit, partial(self._judge, stream))
        try:
            await stream.proven()
        except OSError as error:
            raise ProtocolError(f"lost during the handshake: {error}") from None
        return proven

    async def _admit(self, stream: Stream, machine: Responder) -> Event:
        """Let a source have so many proofs checked a second; more of them stand in line."""
        bucket = self._proofs.of(source_of(stream.remote), now())
        wait = bucket.take(now())
        if not wait:
            return Admitted()
        self.counters["proofs_delayed"] += 1
        event: Event | None = None
        try:
            event = await until_admitted(stream, machine, wait)
        finally:
            if not isinstance(event, Admitted):
                bucket.give_back()
        return event

    async def _judge(self, stream: Stream, caller: Party) -> Judged:
        self._unproven.discard(stream)  # it holds the cookie: a flood of strangers does not push it out
        if caller.role is Role.NODE:
            _check_certificate(stream.names, caller.name)
        here = self._here(caller)
        status = judge(caller, here)
        if status not in _BEFORE_NAME_TAKEN and await self._other_boot_alive(caller):
            here = replace(self._here(caller), other_boot_alive=True)
            status = judge(caller, here)
        if status is Status.ACCEPT and caller.role is Role.NODE:
            self.learn_boot(caller.name, caller.boot)
        return Judged(status, here.known_boot if status is Status.OLD_BOOT else self.me.boot)

    def _here(self, caller: Party) -> Here:
        node = caller.role is Role.NODE
        link = self._links.get(caller.name) if node else self._clients.get((caller.name, caller.boot))
        challenged = link.challenged_at if link is not None and not link.open else None
        return Here(
            me=self.me,
            known_boot=self.known_boot(caller.name) if node else 0,
            dialling_it=challenged is not None and now() - challenged < CROSSING,
            leaving=self.leaving,
            full=link is None and len(self._links) + len(self._clients) - len(self._detached) >= self.config.link_limit,
        )

    async def _other_boot_alive(self, caller: Party) -> bool:
        link = self._links.get(caller.name)
        if link is None or caller.role is not Role.NODE or not link.open or link.peer.incarnation == caller.boot:
            return False
        return await link.alive(_PROBE_TIMEOUT)

    async def _carry(self, stream: Stream, proven: Proven) -> None:
        peer = proven.peer
        if peer.role is Role.CLIENT:
            await self._carry_client(stream, proven)
            return
        link = self._links.get(peer.name)
        if link is None:
            link = self._links[peer.name] = Link(self, NodeId(peer.name, stream.remote, 0, peer.boot))
        await link.carry(stream, proven, dialled=False)
        await self._drop_unused(link)

    async def _drop_unused(self, link: Link) -> None:
        """Forget a node that nobody wants, unless its session may go on: it may not have introduced itself yet."""
        if link.unused and not link.resumable and self._links.get(link.peer.name) is link:
            await self.forget(link.peer.name, "gone")

    async def _carry_client(self, stream: Stream, proven: Proven) -> None:
        peer = proven.peer
        key = (peer.name, peer.boot)
        if (timer := self._lingering.pop(key, None)) is not None:
            timer.cancel()
        link = self._clients.get(key)
        if link is None:
            link = self._clients[key] = Link(self, NodeId(peer.name, stream.remote, 0, peer.boot), Role.CLIENT)
        await link.carry(stream, proven, dialled=False)
        if not link.unused or self._clients.get(key) is not link:
            return
        if link.resumable:  # it may come back for its answers
            linger = self.config.client_linger
            self._lingering[key] = asyncio.get_running_loop().call_later(linger, self._client_gone, key)
        else:
            await self._forget_client(key)

    def _client_gone(self, key: tuple[str, int]) -> None:
        self.tasks.spawn(self._forget_client(key), "forget client")

    async def _forget_client(self, key: tuple[str, int]) -> None:
        if (timer := self._lingering.pop(key, None)) is not None:
            timer.cancel()
        if (link := self._clients.get(key)) is not None and link.unused:  # it may have come back meanwhile
            del self._clients[key]
            await link.forget("gone")

    # -- dialling

    async def dial(
        self, host: str, port: int, expected: str | None, challenged: Callable[[], None] = lambda: None
    ) -> tuple[Stream, Proven]:
        """Open and prove a connection; raises `OSError` or the `JoinError` that says why not."""
        try:
            async with asyncio.timeout(self.config.connect_timeout):
                stream = await self._network.connect(host, port)
        except TimeoutError:
            raise TimeoutError(f"no answer within {self.config.connect_timeout:g} s") from None
        machine = Initiator(
            self.me,
            self._keys[0],
            entropy(NONCE_SIZE),
            expected=expected,
            known_boot=self.known_boot,
            now=now(),
            timeout=self.config.handshake_timeout,
        )
        try:
            proven = await initiate(stream, machine, self.me, challenged)
            _check_certificate(stream.names, proven.peer.name)
        except ClusterError as error:
            self.counters["cookie_mismatch"] += type(error) is AuthFailed
            await _close(stream)
            raise
        except BaseException:
            stream.abort()
            raise
        self.learn_boot(proven.peer.name, proven.peer.boot)
        return stream, proven

    async def dial_seed(self, host: str, port: int, name: str | None = None) -> Link:
        """Dial an address whose node need not be known by name; return the link, open or opening."""
        stream, proven = await self.dial(host, port, name)
        peer = proven.peer
        link = self._links.get(peer.name)
        if link is None:
            link = self._links[peer.name] = Link(self, NodeId(peer.name, host, port, peer.boot))
        self.tasks.spawn(self._carry_seed(link, stream, proven), f"seed/{peer.name}")
        return link

    async def _carry_seed(self, link: Link, stream: Stream, proven: Proven) -> None:
        await link.carry(stream, proven, dialled=True)
        await self._drop_unused(link)

    # -- the end

    async def part_all(self, reason: Reason, deadline: float) -> None:
        """Say goodbye to all nodes, and forget their links; those too that are met meanwhile.

        To none before all have what was sent to them: who hears of it from another node forgets us.
        """
        while links := list(self._links.values()):
            await asyncio.gather(*(link.settle(deadline) for link in links))
            await asyncio.gather(*(link.part(reason, deadline) for link in links))
            for link in links:
                if self._links.get(link.peer.name) is link:
                    del self._links[link.peer.name]

    async def aclose(self, reason: Reason, deadline: float) -> None:
        """Stop accepting, say goodbye to all, and end every task."""
        self.leaving = True
        if self._listener is not None:
            await self._listener.aclose()
        await self.part_all(reason, deadline)
        clients = list(self._clients.values())
        await asyncio.gather(*(link.part(reason, deadline) for link in clients))
        self._clients.clear()
        self._unproven.abort()
        await self.tasks.aclose()
        for timer in self._lingering.values():  # none begins any more: the tasks that began them have ended
            timer.cancel()


@lru_cache(1024)
def source_of(remote: str) -> str:
    """Whom an address is counted to: itself, or for IPv6 its network of 64 bits, which is one customer's.

    >>> source_of("10.0.0.7"), source_of("2001:db8::1:2:3:4")
    ('10.0.0.7', '2001:db8::/64')
    """
    return str(IPv6Network((remote.partition("%")[0], 64), strict=False)) if ":" in remote else remote


def _check_certificate(names: frozenset[str] | None, name: str) -> None:
    """Raise `WrongCertificate` when TLS is on and the other end's certificate is not for the name it proved."""
    if names is not None and name not in names:
        raise WrongCertificate(
            f"the certificate of {name!r} is for {', '.join(sorted(names)) or 'nobody'}, not for that name"
        )


async def _close(stream: Stream) -> None:
    """Close after a refusal: what was written may still go out, for a second."""
    try:
        async with asyncio.timeout(1.0):
            await stream.aclose()
    except TimeoutError:
        stream.abort()
