"""clusterkit: decentralized full-mesh clusters for asyncio.

A program imports `Node`, subclasses `GenServer`, and joins a ring through any of
its members. Names are handed on lazily: importing one loads what it needs and no
more.

Where to read on: `clusterkit.node`, then `clusterkit.actors.gen_server`,
`clusterkit.actors.process`, `clusterkit.kernel.kernel`, `clusterkit.transport.link`
and `clusterkit.core.session`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clusterkit.actors.child import Child as Child
    from clusterkit.actors.child import ChildInfo as ChildInfo
    from clusterkit.actors.gen_server import NOREPLY as NOREPLY
    from clusterkit.actors.gen_server import GenServer as GenServer
    from clusterkit.actors.gen_server import NoReply as NoReply
    from clusterkit.actors.gen_server import Stop as Stop
    from clusterkit.actors.handlers import call as call
    from clusterkit.actors.handlers import cast as cast
    from clusterkit.actors.handlers import on as on
    from clusterkit.actors.inspection import ActorInfo as ActorInfo
    from clusterkit.actors.many import Replies as Replies
    from clusterkit.actors.ref import Ref as Ref
    from clusterkit.actors.signals import Down as Down
    from clusterkit.actors.signals import Exit as Exit
    from clusterkit.actors.signals import TimerFired as TimerFired
    from clusterkit.actors.supervisor import Supervisor as Supervisor
    from clusterkit.actors.timers import Timer as Timer
    from clusterkit.config import Config as Config
    from clusterkit.core.bounded_load import BoundedLoad as BoundedLoad
    from clusterkit.core.dotted_versions import DottedVersionVectorSet as DottedVersionVectorSet
    from clusterkit.core.hash_ring import HashRing as HashRing
    from clusterkit.core.hybrid_clock import HybridClock as HybridClock
    from clusterkit.core.identity import NodeId as NodeId
    from clusterkit.core.ketama import ketama_ring as ketama_ring
    from clusterkit.core.liveness_timers import Timers as Timers
    from clusterkit.core.members import Lagged as Lagged
    from clusterkit.core.members import Member as Member
    from clusterkit.core.members import MemberDown as MemberDown
    from clusterkit.core.members import MemberJoined as MemberJoined
    from clusterkit.core.members import MemberLeft as MemberLeft
    from clusterkit.core.members import MemberRemoved as MemberRemoved
    from clusterkit.core.members import MemberSuspect as MemberSuspect
    from clusterkit.core.members import MemberUp as MemberUp
    from clusterkit.core.members import MemberUpdated as MemberUpdated
    from clusterkit.core.members import RingChanged as RingChanged
    from clusterkit.core.members import State as State
    from clusterkit.core.message_types import message as message
    from clusterkit.core.offers import Offer as Offer
    from clusterkit.core.offers import ServiceChanged as ServiceChanged
    from clusterkit.core.offers import ServiceNode as ServiceNode
    from clusterkit.core.offers import ServiceOffline as ServiceOffline
    from clusterkit.core.offers import ServiceOnline as ServiceOnline
    from clusterkit.core.ring_diff import RingDiff as RingDiff
    from clusterkit.core.tokens import TokenScheme as TokenScheme
    from clusterkit.core.vector_clock import Causality as Causality
    from clusterkit.core.vector_clock import VectorClock as VectorClock
    from clusterkit.errors import AddressError as AddressError
    from clusterkit.errors import AlreadyInRing as AlreadyInRing
    from clusterkit.errors import AuthFailed as AuthFailed
    from clusterkit.errors import CallCycle as CallCycle
    from clusterkit.errors import CallError as CallError
    from clusterkit.errors import CallTimeout as CallTimeout
    from clusterkit.errors import ClusterError as ClusterError
    from clusterkit.errors import ConfigError as ConfigError
    from clusterkit.errors import CrossedDials as CrossedDials
    from clusterkit.errors import DialledSelf as DialledSelf
    from clusterkit.errors import EmptyRing as EmptyRing
    from clusterkit.errors import InvalidChecksum as InvalidChecksum
    from clusterkit.errors import JoinError as JoinError
    from clusterkit.errors import JoinTimeout as JoinTimeout
    from clusterkit.errors import LinkFull as LinkFull
    from clusterkit.errors import ListenError as ListenError
    from clusterkit.errors import LoadFailed as LoadFailed
    from clusterkit.errors import MailboxFull as MailboxFull
    from clusterkit.errors import MessageTooLarge as MessageTooLarge
    from clusterkit.errors import NameConflict as NameConflict
    from clusterkit.errors import NameInUse as NameInUse
    from clusterkit.errors import NodeDown as NodeDown
    from clusterkit.errors import NoOffer as NoOffer
    from clusterkit.errors import NoSuchMethod as NoSuchMethod
    from clusterkit.errors import NoSuchServer as NoSuchServer
    from clusterkit.errors import NotConverged as NotConverged
    from clusterkit.errors import NotInRing as NotInRing
    from clusterkit.errors import OfferTimeout as OfferTimeout
    from clusterkit.errors import OldIncarnation as OldIncarnation
    from clusterkit.errors import PeerFull as PeerFull
    from clusterkit.errors import PeerLeaving as PeerLeaving
    from clusterkit.errors import ProtocolError as ProtocolError
    from clusterkit.errors import RemoteError as RemoteError
    from clusterkit.errors import ServerDown as ServerDown
    from clusterkit.errors import StateError as StateError
    from clusterkit.errors import UnknownKey as UnknownKey
    from clusterkit.errors import UnknownNode as UnknownNode
    from clusterkit.errors import UnsupportedPayload as UnsupportedPayload
    from clusterkit.errors import UsageError as UsageError
    from clusterkit.errors import VersionMismatch as VersionMismatch
    from clusterkit.errors import WrongCertificate as WrongCertificate
    from clusterkit.errors import WrongNode as WrongNode
    from clusterkit.errors import WrongRing as WrongRing
    from clusterkit.kernel.events import DeadLetter as DeadLetter
    from clusterkit.kernel.events import LinkDown as LinkDown
    from clusterkit.kernel.events import LinkUp as LinkUp
    from clusterkit.kernel.events import Refused as Refused
    from clusterkit.kernel.mailbox import From as From
    from clusterkit.kernel.mailbox import Mailbox as Mailbox
    from clusterkit.kernel.monitors import Monitor as Monitor
    from clusterkit.kernel.telemetry import Telemetry as Telemetry
    from clusterkit.kernel.turns import deadline as deadline
    from clusterkit.node import Node as Node
    from clusterkit.ring.gossip_ring import GossipRing as GossipRing
    from clusterkit.ring.subscribers import EventStream as EventStream
    from clusterkit.services.cache import CacheGroup as CacheGroup
    from clusterkit.services.cache_peers import PeerPicker as PeerPicker
    from clusterkit.services.cache_results import CacheStats as CacheStats
    from clusterkit.services.cache_results import Fetched as Fetched
    from clusterkit.services.cache_results import Found as Found
    from clusterkit.services.cache_results import Invalidated as Invalidated
    from clusterkit.services.cache_web import cache_app as cache_app
    from clusterkit.services.client import Client as Client
    from clusterkit.services.registry import Registration as Registration
    from clusterkit.services.registry import Services as Services
    from clusterkit.transport.tls import TLS as TLS

_HOMES = {
    "clusterkit.actors.child": ("Child", "ChildInfo"),
    "clusterkit.actors.gen_server": ("GenServer", "NOREPLY", "NoReply", "Stop"),
    "clusterkit.actors.handlers": ("call", "cast", "on"),
    "clusterkit.actors.inspection": ("ActorInfo",),
    "clusterkit.actors.many": ("Replies",),
    "clusterkit.actors.ref": ("Ref",),
    "clusterkit.actors.signals": ("Down", "Exit", "TimerFired"),
    "clusterkit.actors.supervisor": ("Supervisor",),
    "clusterkit.actors.timers": ("Timer",),
    "clusterkit.config": ("Config",),
    "clusterkit.core.bounded_load": ("BoundedLoad",),
    "clusterkit.core.dotted_versions": ("DottedVersionVectorSet",),
    "clusterkit.core.hash_ring": ("HashRing",),
    "clusterkit.core.hybrid_clock": ("HybridClock",),
    "clusterkit.core.ketama": ("ketama_ring",),
    "clusterkit.core.ring_diff": ("RingDiff",),
    "clusterkit.core.tokens": ("TokenScheme",),
    "clusterkit.core.vector_clock": (
        "Causality",
        "VectorClock",
    ),
    "clusterkit.core.identity": ("NodeId",),
    "clusterkit.core.liveness_timers": ("Timers",),
    "clusterkit.core.message_types": ("message",),
    "clusterkit.core.members": (
        "Lagged",
        "Member",
        "MemberDown",
        "MemberJoined",
        "MemberLeft",
        "MemberRemoved",
        "MemberSuspect",
        "MemberUp",
        "MemberUpdated",
        "RingChanged",
        "State",
    ),
    "clusterkit.errors": (
        "LoadFailed",
        "NoOffer",
        "OfferTimeout",
        "UnknownKey",
        "AddressError",
        "AlreadyInRing",
        "AuthFailed",
        "CallCycle",
        "CallError",
        "CallTimeout",
        "ClusterError",
        "ConfigError",
        "CrossedDials",
        "DialledSelf",
        "EmptyRing",
        "InvalidChecksum",
        "JoinError",
        "JoinTimeout",
        "LinkFull",
        "ListenError",
        "MailboxFull",
        "MessageTooLarge",
        "NameConflict",
        "NameInUse",
        "NoSuchMethod",
        "NoSuchServer",
        "NodeDown",
        "NotConverged",
        "NotInRing",
        "OldIncarnation",
        "PeerFull",
        "PeerLeaving",
        "ProtocolError",
        "RemoteError",
        "ServerDown",
        "StateError",
        "UnknownNode",
        "UnsupportedPayload",
        "UsageError",
        "VersionMismatch",
        "WrongCertificate",
        "WrongNode",
        "WrongRing",
    ),
    "clusterkit.kernel.events": ("DeadLetter", "LinkDown", "LinkUp", "Refused"),
    "clusterkit.kernel.mailbox": ("From", "Mailbox"),
    "clusterkit.kernel.monitors": ("Monitor",),
    "clusterkit.kernel.telemetry": ("Telemetry",),
    "clusterkit.kernel.turns": ("deadline",),
    "clusterkit.node": ("Node",),
    "clusterkit.ring.gossip_ring": ("GossipRing",),
    "clusterkit.ring.subscribers": ("EventStream",),
    "clusterkit.services.client": ("Client",),
    "clusterkit.core.offers": (
        "Offer",
        "ServiceChanged",
        "ServiceNode",
        "ServiceOffline",
        "ServiceOnline",
    ),
    "clusterkit.services.cache": ("CacheGroup",),
    "clusterkit.services.cache_peers": ("PeerPicker",),
    "clusterkit.services.cache_results": (
        "CacheStats",
        "Fetched",
        "Found",
        "Invalidated",
    ),
    "clusterkit.services.cache_web": ("cache_app",),
    "clusterkit.services.registry": (
        "Registration",
        "Services",
    ),
    "clusterkit.transport.tls": ("TLS",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'clusterkit' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - so that a name costs only what it needs

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
