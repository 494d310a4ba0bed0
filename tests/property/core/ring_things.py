"""Hypothesis strategies for what members say to each other: all of it well-formed, most of it absurd."""

from hypothesis import strategies as st

from clusterkit.core.identity import NodeId
from clusterkit.core.pieces import GotPiece, Piece
from clusterkit.core.ring_entry import Actor, Claim, Dot, Entry, Rank, Stamp
from clusterkit.core.ring_frames import Change, Clock, Delta, Full, Item
from clusterkit.core.ring_messages import (
    Absent,
    Accusation,
    Ask,
    Asked,
    Claims,
    Closed,
    Got,
    Hello,
    HelloAck,
    Invite,
    News,
    Probe,
    ProbeAck,
    Pull,
    Refusal,
    RingMessage,
    State,
    Update,
    Urge,
)

U64 = (1 << 64) - 1
MOST_TIME = (1 << 64) - (1 << 32)  # of a stamp that is taken from others

names = st.sampled_from(["a", "b", "c", "x", "y"])
numbers = st.sampled_from([0, 1, 2, 9, 10, 11, 1 << 40, U64 - 1, U64]) | st.integers(0, U64)
from_one = numbers.map(lambda number: number or 1)
boots = st.sampled_from([10, 10, 10, 11]) | from_one
times = st.sampled_from([0, 1, 1_700_000_000_000 << 16, MOST_TIME - 1, MOST_TIME]) | st.integers(0, MOST_TIME)
actors = st.builds(Actor, names, boots)
dots = st.builds(Dot, actors, from_one)
stamps = st.builds(lambda time, actor: Stamp(time, *actor), times, actors)
metas = st.sampled_from([b"", b"\x81\xa1k\x01", b"\xc1", b"\x01", b"\xc4"]) | st.binary(max_size=8)
hosts = st.sampled_from(["10.0.0.1", "::1", "h"])
entries = st.builds(Entry, boots, stamps, hosts, st.integers(1, 65_535), metas, stamps, st.integers(1, 1_000))
siblings = st.dictionaries(dots, entries, max_size=3)
claims = st.builds(Claim, boots, numbers, st.sampled_from(Rank), st.booleans())
counts = st.dictionaries(actors, from_one, max_size=4)
by_name = st.dictionaries(names, boots, max_size=3)
clocks = st.builds(Clock, counts, by_name)
changes = st.builds(Change, dots, names, siblings, counts, numbers, numbers, st.none() | claims)
items = st.builds(Item, names, siblings, counts, numbers, st.none() | claims)
deltas = st.builds(Delta, clocks, clocks, st.lists(items, max_size=3).map(tuple))
logs = st.dictionaries(actors, by_name.filter(bool), max_size=3)
fulls = st.builds(
    Full, clocks, st.dictionaries(names, siblings, max_size=3), by_name, logs, counts, st.dictionaries(names, claims)
)
digests = st.tuples(numbers, numbers)
nodes = st.builds(NodeId, names, hosts, st.integers(1, 65_535), boots)
news = st.builds(
    News,
    names,
    numbers,
    st.integers(0, 2),
    st.booleans(),
    st.lists(changes, max_size=3).map(tuple),
    st.lists(st.builds(Accusation, names, claims, names), max_size=3).map(tuple),
    st.lists(st.builds(Refusal, names, numbers, names), max_size=3).map(tuple),
)
told = st.builds(Claims, st.lists(st.tuples(names, claims), max_size=3).map(tuple), st.booleans())
messages: st.SearchStrategy[RingMessage] = st.one_of(
    st.builds(Hello, nodes, st.booleans(), st.none() | changes, claims, st.none() | claims, digests),
    st.builds(HelloAck, st.none() | fulls),
    st.builds(Closed, numbers, numbers),
    st.builds(Absent, numbers, st.booleans()),
    st.just(Invite()),
    news,
    st.builds(Got, numbers),
    st.builds(Probe, numbers, digests),
    st.builds(ProbeAck, numbers, digests),
    st.builds(Ask, numbers, names),
    st.builds(Asked, numbers, names, st.booleans()),
    st.builds(Urge, names),
    st.builds(Pull, clocks, digests),
    st.builds(Update, deltas),
    st.builds(State, fulls),
    told,
    st.builds(Piece, numbers, numbers, st.binary(max_size=8)),
    st.builds(GotPiece, numbers),
)
