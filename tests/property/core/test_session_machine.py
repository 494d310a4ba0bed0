"""Two sessions over links that break anywhere, against lists: nothing lost, repeated or reordered."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from clusterkit.core.session import Fate, Lane, Outbox, Outgoing, Resume, Session

MOST = 1 << 16
LIVE = (Fate.QUEUED, Fate.WRITTEN, Fate.ABANDONED)
BOUNDS = Outbox(messages=12, size=120, control=50)


class End:
    """One side: its session, and what the model knows of its messages."""

    def __init__(self, first: int) -> None:
        self.number = first
        self.session = Session(first, BOUNDS)
        self.sent: dict[bytes, Outgoing] = {}  # all that put() took
        self.withdrawn: set[bytes] = set()
        self.abandoned: set[bytes] = set()  # written, and wanted no more
        self.dropped: set[bytes] = set()  # of them, those that had not arrived when their link was gone
        self.doubtful: set[bytes] = set()  # reported as "maybe"
        self.unsent: set[bytes] = set()  # reported as "no"
        self.arrived: list[bytes] = []  # from the other side
        self.flight: deque[Resume | int | list[bytes]] = deque()  # towards the other side
        self.open = False

    def report(self, written: list[Outgoing], queued: list[Outgoing]) -> None:
        self.doubtful |= {message.body for message in written}
        self.unsent |= {message.body for message in queued}

    def resumed(self, theirs: Resume) -> None:
        self.report(self.session.resumed(theirs), [])
        self.open = True


class Sessions(RuleBasedStateMachine):
    """The initiator is side 0; a link opens by two RESUMEs that may be lost with it."""

    messages = Bundle("messages")

    def __init__(self) -> None:
        super().__init__()
        self.ends = End(3), End(7)
        self.link = False
        self.count = 0

    def other(self, side: int) -> End:
        return self.ends[1 - side]

    @rule(target=messages, side=st.integers(0, 1), lane=st.sampled_from(Lane), size=st.integers(4, 20))
    def put(self, side: int, lane: Lane, size: int) -> tuple[int, bytes]:
        end = self.ends[side]
        self.count += 1
        body = str(self.count).encode().ljust(size, b".")
        before = len(end.session), end.session.size
        message = Outgoing(body, lane)
        if end.session.put(message):
            end.sent[body] = message
            return side, body
        assert (len(end.session), end.session.size) == before
        return side, b""

    @rule(which=consumes(messages))
    def withdraw(self, which: tuple[int, bytes]) -> None:
        side, body = which
        end = self.ends[side]
        message = end.sent.get(body)
        if message is None or body in end.unsent:
            return
        was = message.fate
        assert end.session.withdraw(message) == (was == Fate.QUEUED)
        if was == Fate.QUEUED:
            end.withdrawn.add(body)
        elif was == Fate.WRITTEN:
            end.abandoned.add(body)
            if not self.link and body not in self.other(side).arrived:
                end.dropped.add(body)

    @precondition(lambda self: not self.link)
    @rule(steps=st.sampled_from([0, 1, 2, 2, 2]))
    def dial(self, steps: int) -> None:
        one = self.ends[0]
        self.link = True
        one.flight.append(one.session.resume(MOST))
        for side in range(steps):
            self.arrive(side)

    @precondition(lambda self: all(end.open for end in self.ends))
    @rule(side=st.integers(0, 1), arriving=st.integers(0, 3), acknowledged=st.booleans())
    def exchange(self, side: int, arriving: int, acknowledged: bool) -> None:
        """A burst: some of it arrives, and perhaps its acknowledgement."""
        for _ in range(3):
            self.write(side, 1, 80)
        for _ in range(arriving):
            self.arrive(side)
        if acknowledged:
            self.acknowledge(1 - side)
            self.arrive(1 - side)

    @rule(side=st.integers(0, 1), soft=st.integers(1, 60), hard=st.integers(20, 80))
    def write(self, side: int, soft: int, hard: int) -> None:
        end = self.ends[side]
        if end.open and (bodies := end.session.take(soft, hard)):
            assert sum(map(len, bodies)) <= hard
            end.flight.append(bodies)

    @rule(side=st.integers(0, 1))
    def acknowledge(self, side: int) -> None:
        end = self.ends[side]
        if end.open:
            end.flight.append(end.session.received)

    @rule(side=st.integers(0, 1))
    def arrive(self, side: int) -> None:
        """The next thing on its way from ``side`` comes to the other."""
        end, other = self.ends[side], self.other(side)
        if not end.flight:
            return
        match end.flight.popleft():
            case Resume() as theirs:
                other.resumed(theirs)
                if side == 0:
                    other.flight.append(other.session.resume(MOST))
            case int() as received:
                other.session.acknowledge(received)
            case bodies:
                other.session.received += len(bodies)
                other.arrived += bodies

    @precondition(lambda self: all(end.open for end in self.ends))
    @rule(steps=st.sampled_from([0, 1, 2, 2]), side=st.integers(0, 1), lost=st.integers(0, 2))
    def redial(self, steps: int, side: int, lost: int) -> None:
        """The link breaks with something in flight, and is made again as far as it gets."""
        for _ in range(lost):
            self.write(side, 1, 80)
        self.break_link()
        self.dial(steps)

    @precondition(lambda self: self.link)
    @rule()
    def break_link(self) -> None:
        self.link = False
        for end in self.ends:
            end.flight.clear()
            end.open = False

    @rule(side=st.integers(0, 1), really=st.sampled_from([False, False, True]))
    def end_session(self, side: int, really: bool) -> None:
        if not really:
            return
        if self.link:
            self.break_link()
        end = self.ends[side]
        end.report(*end.session.end())
        assert (len(end.session), end.session.size, end.session.unacked, end.session.has_queued) == (0, 0, 0, False)
        end.number += 1
        end.session = Session(end.number, BOUNDS)

    @invariant()
    def bounds_hold_and_are_counted_right(self) -> None:
        for end in self.ends:
            live = [message for message in end.sent.values() if message.fate in LIVE]
            held = [each for each in live if each.lane != Lane.CONTROL and each.body not in end.unsent]
            control = [each for each in live if each.lane == Lane.CONTROL and each.body not in end.unsent]
            assert len(end.session) == len(held) <= 2 * BOUNDS.messages
            assert end.session.size == sum(len(each.body) for each in held) <= 2 * BOUNDS.size
            assert sum(len(each.body) for each in control) <= BOUNDS.control
            if all(each.lane != Lane.REPLY for each in held):
                assert len(held) <= BOUNDS.messages
                assert end.session.size <= BOUNDS.size

    @invariant()
    def nothing_is_repeated_reordered_or_run_though_taken_back(self) -> None:
        for side, end in enumerate(self.ends):
            arrived = self.other(side).arrived
            assert len(set(arrived)) == len(arrived)
            assert not (end.withdrawn | end.unsent | end.dropped) & set(arrived)
            for lane in Lane:
                mine = [number_of(body) for body in arrived if end.sent[body].lane == lane]
                assert mine == sorted(mine)

    def teardown(self) -> None:
        """Let a good link carry the rest: then all that nobody took back, gave up or doubted has come."""
        if not self.link:
            self.dial(0)
        for _ in range(100):
            for side in (0, 1):
                self.write(side, 60, 80)
                while self.ends[side].flight:
                    self.arrive(side)
                self.acknowledge(side)
                while self.ends[side].flight:
                    self.arrive(side)
        assert not any(end.session.has_queued or end.session.unacked for end in self.ends)
        for side, end in enumerate(self.ends):
            came = set(self.other(side).arrived)
            assert set(end.sent) - end.withdrawn - end.abandoned - end.unsent - end.doubtful <= came
            assert came <= set(end.sent)
        self.bounds_hold_and_are_counted_right()
        self.nothing_is_repeated_reordered_or_run_though_taken_back()


def number_of(body: bytes) -> int:
    return int(body.rstrip(b"."))


Sessions.TestCase.settings = settings(max_examples=200, stateful_step_count=70, deadline=None)
TestSessions = Sessions.TestCase
