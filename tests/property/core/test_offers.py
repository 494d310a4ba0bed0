"""Whatever is seen of the members, services come and go in turns; and so they do for a reader who is slow."""

from hypothesis import given
from hypothesis import strategies as st

from clusterkit.core.identity import NodeId
from clusterkit.core.members import Lagged, Member, State
from clusterkit.core.offers import (
    META_KEY,
    Backlog,
    Catalogue,
    Offer,
    ServiceChanged,
    ServiceEvent,
    ServiceOffline,
    ServiceOnline,
    check_text,
    offers_of,
    pack,
    unpack,
)

Key = tuple[NodeId, str, str]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=30,
)
malformed = st.lists(st.tuples(anything, anything, anything, anything, anything).map(list) | anything, max_size=5)
nodes = st.builds(
    NodeId, st.sampled_from("ab"), st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.just(7022), st.integers(0, 2)
)
offers = st.builds(
    Offer,
    st.just(NodeId("a", "10.0.0.1", 7022)),
    st.sampled_from(["m", "n"]),
    st.sampled_from(["r", "s"]),
    st.sampled_from([(), ("r",), ("r", "t")]),
    st.sampled_from([{}, {"zone": "b"}]),
    st.sampled_from([True, True, False]),
)
announced = st.lists(offers, max_size=4).map(pack) | malformed
members = st.builds(
    Member,
    nodes,
    st.sampled_from([State.ALIVE, State.ALIVE, State.SUSPECT, State.DOWN, State.LEFT]),
    st.sampled_from([True, True, False]),
    st.just(1),
    st.builds(lambda told: {META_KEY: told}, announced),
)
looks = members | st.sampled_from("ab")
"""A member as it is seen, or the name of one that is not seen any more."""


class Turns:
    """What somebody knows who is told of events, each of which has to fit."""

    def __init__(self) -> None:
        self.online: dict[Key, Offer] = {}
        self.ever: set[Key] = set()

    def hear(self, event: ServiceEvent) -> None:
        offer = event.offer
        key = offer.peer, offer.module, offer.resource
        match event:
            case ServiceOnline():
                assert key not in self.online
                runs = {each.peer for each in self.online.values() if each.peer.name == offer.peer.name}
                assert runs <= {offer.peer}, "two runs of one node at once"
                self.ever.add(key)
                self.online[key] = offer
            case ServiceChanged():
                assert self.online[key] != offer
                self.online[key] = offer
            case ServiceOffline(why=why):
                assert self.online.pop(key) == offer
                assert why

    @property
    def listed(self) -> list[Offer]:
        return sorted(self.online.values(), key=lambda offer: offer.place)


def look(catalogue: Catalogue, seen: Member | str) -> list[ServiceEvent]:
    if isinstance(seen, str):
        return catalogue.look(seen, None, "gone")
    return catalogue.look(seen.name, seen, "gone")


@given(st.lists(looks, max_size=20))
def test_services_come_and_go_in_turns_and_who_listens_knows_what_there_is(seen: list[Member | str]) -> None:
    catalogue, turns = Catalogue(), Turns()
    for each in seen:
        for event in look(catalogue, each):
            turns.hear(event)
        assert turns.listed == catalogue.offers()
        assert look(catalogue, each) == []
    by_resource = {offer.resource: catalogue.offers(offer.resource) for offer in catalogue.offers()}
    assert sorted((offer for found in by_resource.values() for offer in found), key=lambda offer: offer.place) == (
        catalogue.offers()
    )
    assert set(catalogue.lacking(["r", "s", "t"])) == {"r", "s", "t"} - by_resource.keys()


@given(st.lists(looks, max_size=20))
def test_what_is_online_is_what_the_last_views_say(seen: list[Member | str]) -> None:
    catalogue = Catalogue()
    last: dict[str, Member | None] = {}
    for each in seen:
        look(catalogue, each)
        last[each if isinstance(each, str) else each.name] = None if isinstance(each, str) else each
    up = [member for _, member in sorted(last.items()) if member is not None and member.available]
    assert catalogue.offers() == [offer for member in up for offer in offers_of(member) if offer.healthy]


reads = st.lists(st.tuples(looks, st.integers(0, 4)), max_size=25)


@given(reads, st.integers(1, 4), st.lists(looks, max_size=4))
def test_a_slow_reader_sees_turns_too_and_in_the_end_what_there_is(
    steps: list[tuple[Member | str, int]], most: int, before: list[Member | str]
) -> None:
    catalogue, turns = Catalogue(), Turns()
    for each in before:
        look(catalogue, each)
    present = len(catalogue.offers())
    backlog = Backlog(catalogue.offers(), most)
    happened, heard = present, 0

    def read() -> bool:
        nonlocal heard
        event = backlog.take()
        if isinstance(event, Lagged):
            assert event.missed > most
        elif event is not None:
            heard += 1
            turns.hear(event)
        return event is not None

    for seen, reading in steps:
        for event in look(catalogue, seen):
            happened += 1
            backlog.put(event)
        assert len(backlog._waiting) <= most
        behind = backlog._behind.values()
        assert sum(len(each.over) + len(each.now) for each in behind) <= len(turns.online) + len(catalogue.offers())
        for _ in range(reading):
            read()
    while read():
        pass
    assert turns.listed == catalogue.offers()
    assert heard <= happened


@given(reads)
def test_a_reader_who_keeps_up_misses_nothing(steps: list[tuple[Member | str, int]]) -> None:
    catalogue = Catalogue()
    backlog = Backlog([], 1_000)
    told: list[ServiceEvent] = []
    heard: list[ServiceEvent | Lagged | None] = []
    for seen, reading in steps:
        for event in look(catalogue, seen):
            told.append(event)
            backlog.put(event)
        heard += [backlog.take() for _ in range(reading)]
    heard += [backlog.take() for _ in told]
    assert [event for event in heard if event is not None] == told


@given(anything | malformed | announced)
def test_reading_an_announcement_never_raises_and_gives_only_what_could_be_registered(told: object) -> None:
    node = NodeId("a", "10.0.0.1", 7022, 5)
    read = unpack(told, node)
    assert unpack(pack(read), node) == read or "nan" in repr(read)
    for offer in read:
        for text in (offer.module, offer.resource, *offer.requirements):
            check_text(text, "name")
        assert offer.peer is node
    assert [offer.place for offer in read] == sorted({offer.place for offer in read})
