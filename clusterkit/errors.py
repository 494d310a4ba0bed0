"""Every error that clusterkit raises, drawn as a tree.

An error says who was wrong and what is known about the effect. The ones that a
user catches have plain names, and a second base where users expect it::

    ClusterError
    ├─ UsageError (RuntimeError)          you: the wrong moment, the wrong loop, a closed node
    │  └─ NameInUse                       you: a second actor under one name
    ├─ ConfigError (ValueError)           you: an option that cannot be, a cookie too short
    │  └─ AddressError                    you: an address that cannot be read
    ├─ ListenError (OSError)              the machine: the port cannot be had
    ├─ StateError                         the machine: the state directory cannot be used
    ├─ ProtocolError (ConnectionError)    the peer: bytes that break docs/wire.md
    │  └─ InvalidChecksum                 the peer, or somebody between: a MAC that does not match
    ├─ JoinError                          the ring did not take this node
    │  ├─ JoinTimeout (TimeoutError)      no seed answered in time; dialling goes on
    │  ├─ AlreadyInRing (RuntimeError)    you: leave() first
    │  ├─ AuthFailed (PermissionError)    another cookie
    │  │  └─ WrongCertificate             TLS: the certificate is not for the name that was proven
    │  ├─ WrongRing                       the seed is in another ring
    │  ├─ NotInRing                       the seed is in no ring yet
    │  ├─ NameConflict                    another live node has this name
    │  ├─ VersionMismatch                 the seed speaks another version
    │  ├─ OldIncarnation                  a later run of this node is known there
    │  ├─ DialledSelf                     the address is this node's own
    │  ├─ WrongNode                       another name than the one dialled answers there
    │  ├─ CrossedDials                    both dialled at once: the other dial goes on
    │  ├─ PeerLeaving                     the seed is stopping
    │  └─ PeerFull                        the seed takes no more links
    ├─ CallError                          a call or cast that failed; has .node .target .executed
    │  ├─ CallTimeout (TimeoutError)      the deadline passed first
    │  ├─ NodeDown (ConnectionError)      the other node is down, restarted or unknown; has .reason
    │  ├─ NoSuchServer (LookupError)      nobody has that name there
    │  ├─ NoSuchMethod (LookupError)      the server exports no such handler
    │  ├─ ServerDown                      the server stopped before it answered
    │  ├─ MailboxFull                     the server's mailbox is full
    │  ├─ CallCycle                       the server waits, directly or not, for this very call; has .chain
    │  ├─ LinkFull                        the outbox to that node stayed full until the deadline
    │  ├─ MessageTooLarge (ValueError)    over the receiver's limit: never sent
    │  └─ UnsupportedPayload (TypeError)  a value that msgpack cannot carry; has .path
    ├─ RemoteError                        a handler raised a type that is unknown here
    ├─ NotConverged (TimeoutError)        members still differ at the deadline
    ├─ NoOffer (LookupError)              no live, healthy node offers the resource; has .missing
    │  └─ OfferTimeout (TimeoutError)     `wait_for` did not find all in time
    ├─ UnknownKey (LookupError)           the source behind a cache has no such key
    ├─ LoadFailed                         the loader of a cache raised; nothing was cached
    ├─ EmptyRing (LookupError)            a look-up in a hash ring without nodes, or without one that is alive
    └─ UnknownNode (LookupError)          you: a hash ring has no node of that id, a ring no such member

``executed`` is ``"no"`` when it is proven that no handler ran (the message never
left, or was refused before a handler started), else ``"maybe"``.
"""

from typing import Literal

Executed = Literal["no", "maybe"]


class ClusterError(Exception):
    """The root of all errors of clusterkit."""


class UsageError(ClusterError, RuntimeError):
    """The caller did something at the wrong moment: nothing was done."""


class NameInUse(UsageError):
    """An actor with this name runs on this node already: nothing was started."""


class ConfigError(ClusterError, ValueError):
    """An option, cookie or name that cannot be; the message names the value."""


class AddressError(ConfigError):
    """An address that cannot be read; the message says which part is wrong."""


class ListenError(ClusterError, OSError):
    """The address could not be bound: in use, not of this machine, or not allowed."""


class StateError(ClusterError):
    """The state directory is in use, damaged, of another node, or cannot be written; nothing in it was replaced."""


class ProtocolError(ClusterError, ConnectionError):
    """The peer sent what the wire does not allow: the connection is closed.

    ``proven`` tells that a holder of the cookie sent it, not somebody between.
    """

    def __init__(self, message: str, *, proven: bool = False) -> None:
        super().__init__(message)
        self.proven = proven


class InvalidChecksum(ProtocolError):
    """A MAC that does not match: another cookie, or bytes changed on the way."""


class JoinError(ClusterError):
    """A node did not take this one; ``retryable`` tells whether a later try may help."""

    retryable = False


class JoinTimeout(JoinError, TimeoutError):
    """No seed accepted in time. The node is a ring of one and goes on dialling."""

    retryable = True


class AlreadyInRing(JoinError, RuntimeError):
    """The node is in a ring: ``leave()`` comes first."""


class AuthFailed(JoinError, PermissionError):
    """The seed closed after our proof, or failed its own: the cookies differ."""


class WrongCertificate(AuthFailed):
    """The other end proved the cookie and a name, and its certificate is not for that name."""


class WrongRing(JoinError):
    """The seed is in another ring."""


class NotInRing(JoinError):
    """The seed is in no ring yet."""

    retryable = True


class NameConflict(JoinError):
    """Another live node of the ring has this name. Also the event that tells so (`GossipRing.on`)."""


class VersionMismatch(JoinError):
    """The seed speaks another version of the wire."""


class OldIncarnation(JoinError):
    """A later incarnation of this node is known there; ``known`` is its number."""

    def __init__(self, message: str, known: int = 0) -> None:
        super().__init__(message)
        self.known = known


class DialledSelf(JoinError):
    """The address that was dialled is this node's own."""


class WrongNode(JoinError):
    """Another node than the one that was named answers at that address."""


class CrossedDials(JoinError):
    """Both nodes dialled each other at once; the other dial goes on."""

    retryable = True


class PeerLeaving(JoinError):
    """The seed is stopping or leaving."""

    retryable = True


class PeerFull(JoinError):
    """The seed has all the links that it takes."""

    retryable = True


class CallError(ClusterError):
    """A call or cast failed.

    ``node`` is the node that was addressed, ``target`` the server and handler on
    it, ``executed`` whether the handler may have run.
    """

    node: object = None  # defaults for one that another node raised and this one rebuilt
    target: str = ""
    executed: Executed = "maybe"

    def __init__(self, message: str, *, node: object = None, target: str = "", executed: Executed = "no") -> None:
        super().__init__(message)
        self.node = node
        self.target = target
        self.executed = executed


class CallTimeout(CallError, TimeoutError):
    """The deadline passed before an answer came."""


class NodeDown(CallError, ConnectionError):
    """The other node is down, was restarted, or is no member; ``reason`` says which."""

    def __init__(
        self, message: str, *, node: object = None, target: str = "", executed: Executed = "no", reason: str = "down"
    ) -> None:
        super().__init__(message, node=node, target=target, executed=executed)
        self.reason = reason


class NoSuchServer(CallError, LookupError):
    """No server has that name, or the one referred to has stopped."""


class NoSuchMethod(CallError, LookupError):
    """The server exports no handler of that name and has no ``handle_call``."""


class ServerDown(CallError):
    """The server stopped, or was stopped, before it answered."""


class MailboxFull(CallError):
    """The server has as many messages waiting as its mailbox takes."""


class CallCycle(CallError):
    """The server waits, directly or not, for this very call, and could never answer it.

    ``chain`` names the turns that wait, the first of them first, each as ``node/run/serial:turn/name``.
    """

    def __init__(
        self,
        message: str,
        *,
        node: object = None,
        target: str = "",
        executed: Executed = "no",
        chain: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, node=node, target=target, executed=executed)
        self.chain = chain


class LinkFull(CallError):
    """The outbox to the node was full, and stayed so until the deadline."""


class MessageTooLarge(CallError, ValueError):
    """The message is over the limit of its receiver: it was not sent."""


class UnsupportedPayload(CallError, TypeError):
    """A value that cannot cross the wire; ``path`` leads to it, as ``args[0]['x']``."""

    def __init__(self, message: str, *, path: str = "", node: object = None, target: str = "") -> None:
        super().__init__(message, node=node, target=target, executed="no")
        self.path = path


class RemoteError(ClusterError):
    """A handler raised an exception of a type that this process does not have."""

    def __init__(self, type_name: str, text: str, traceback_text: str = "") -> None:
        super().__init__(f"{type_name}: {text}" if text else type_name)
        self.type_name = type_name
        self.text = text
        self.traceback_text = traceback_text


class NotConverged(ClusterError, TimeoutError):
    """Live members did not come to know the same in time; the message names them."""


class NoOffer(ClusterError, LookupError):
    """No node that is up and healthy offers a resource, as seen from here; ``missing`` has what was looked for."""

    def __init__(self, message: str, missing: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.missing = missing


class OfferTimeout(NoOffer, TimeoutError):
    """Not all resources were offered in time; ``missing`` has those that were not."""


class UnknownKey(ClusterError, LookupError):
    """The source behind a cache has no such key. A loader raises it, or `KeyError`."""


class LoadFailed(ClusterError):
    """The loader of a cache raised, here or at the key's owner; its own error is in the text, and here the cause."""


class EmptyRing(ClusterError, LookupError):
    """A look-up in a hash ring that has no nodes, or of which no member is alive and ready, when that was asked for."""


class UnknownNode(ClusterError, LookupError):
    """The hash ring has no node of that id, the ring no member of that name: nothing was changed."""
