"""The verdict on `tests.simulation.actor_rules`: what the senders were told, held against what ran."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from clusterkit import CallTimeout, MailboxFull
from tests.simulation.actor_faults import FOR_EVER, LATE, TRAVEL, node_of
from tests.simulation.actor_rules import Requests, Run, Sent

ROUNDED = 0.002  # seconds: the time left travels in milliseconds


def broken_promises(evidence: Requests) -> list[str]:
    """Hold what the senders were told against what ran."""
    runs = defaultdict[str, list[Run]](list)
    for run in evidence.runs:
        runs[run.tag].append(run)
    wrong = [*out_of_order(evidence), *doubled(evidence)]
    for sent in evidence.sent.values():
        found = [*wrong_with_order(sent, runs[sent.tag], evidence)]
        if sent.kind in ("call", "part"):
            found += wrong_with_the_end(sent, runs[sent.tag], evidence)
            found += [why for run in runs[sent.tag] for why in wrong_with_a_run(sent, run, evidence)]
        wrong += [f"{sent}: {why}" for why in found]
    return [*wrong, *(f"{what} when all was over" for what in evidence.left)]


def out_of_order(evidence: Requests) -> Iterator[str]:
    """Within a stream the numbers grow, whichever life took them."""
    last: defaultdict[str, int] = defaultdict(lambda: -1)
    for run in evidence.runs:
        stream, _, number = run.tag.partition("#")
        if run.part == "handler" and number.isdecimal() and not evidence.sent[run.tag].retry:
            if int(number) < last[stream]:
                yield f"{run.tag} started after #{last[stream]}, at {run.began:.3f} s"
            last[stream] = max(last[stream], int(number))


def doubled(evidence: Requests) -> Iterator[str]:
    times = Counter((run.tag, run.part) for run in evidence.runs)
    yield from (f"{tag} ran {count} times ({part})" for (tag, part), count in times.items() if count > 1)


def wrong_with_order(sent: Sent, runs: list[Run], evidence: Requests) -> Iterator[str]:
    if sent.kind in ("cast", "info") and evidence.live_on(sent.home, sent.to):
        if sent.outcome == "ok" and not runs:
            yield "was accepted, and never taken"
        if sent.outcome != "ok" and not (evidence.is_tight and sent.error.startswith(MailboxFull.__name__)):
            yield "was not accepted"
    if sent.outcome == "no" and runs:
        yield 'executed="no", and it ran'


# -- each call ends once ---------------------------------------------------------------------


def wrong_with_the_end(sent: Sent, runs: list[Run], evidence: Requests) -> Iterator[str]:
    if sent.life in evidence.crashes:
        return
    if not sent.outcome:
        yield "never ended"
    if sent.ended > evidence.awake(sent.home, sent.at + sent.timeout) + LATE:
        yield f"ended {sent.ended - sent.at - sent.timeout:.3f} s after its deadline"
    if sent.life in evidence.ends:
        return  # its node was closed: any error will do
    if sent.outcome == "ok" and (sent.result != sent.tag or not runs or sent.work[0] == "raise"):
        yield f"returned {sent.result!r}, and ran {len(runs)} times"
    if sent.error:
        yield from wrong_with_an_error(sent, runs, evidence)
    if sent.outcome != "ok" and (answered := answered_in_time(sent, runs, evidence)):
        yield f"was answered at {answered:.3f} s"


def wrong_with_an_error(sent: Sent, runs: list[Run], evidence: Requests) -> Iterator[str]:
    if sent.error == f"ValueError: {sent.tag}":
        if sent.work[0] != "raise" or not runs:
            yield "nobody raised that"
    elif not sent.typed:
        yield "is not typed"
    elif sent.error.startswith(CallTimeout.__name__) or (
        evidence.is_tight and sent.error.startswith(MailboxFull.__name__)
    ):
        if sent.ended < sent.at + sent.timeout - ROUNDED:
            yield "timed out too soon"
    elif not evidence.is_broken(sent.at, sent.ended, sent.home, sent.to):
        yield "no fault explains it"


def answered_in_time(sent: Sent, runs: list[Run], evidence: Requests) -> float | None:
    """When a call was answered that its caller still waited for, and could be told of."""
    if sent.error.startswith(ValueError.__name__):
        return None
    for run in runs:
        at = run.ended + (sent.work[1] if sent.work[0] == "leave" else 0.0)
        in_time = at + TRAVEL < min(sent.ended, sent.at + sent.timeout)
        is_answer = run.part == "deferred" or sent.work[0] not in ("defer", "leave")
        if run.how == "done" and is_answer and in_time and evidence.is_calm(sent.at, at + TRAVEL, sent.home, sent.to):
            return at
    return None


# -- deadlines and cancellation -----------------------------------------------------------------


def wrong_with_a_run(sent: Sent, run: Run, evidence: Requests) -> Iterator[str]:
    yield from wrong_with_the_deadline(sent, run, evidence)
    if sent.outcome == "cancelled":
        yield from wrong_with_the_cancellation(sent, run, evidence)
    if run.by in evidence.ends:
        return  # what takes too long is cancelled at a close
    if run.how == "cancelled":
        wanted = sent.outcome == "cancelled" and sent.ended <= run.ended
        if not run.is_cancellable or not (wanted or run.ended >= run.deadline - LATE):
            yield f"what ran for it was cancelled at {run.ended:.3f} s"
    elif not run.how:
        yield "what ran for it never ended"


def wrong_with_the_deadline(sent: Sent, run: Run, evidence: Requests) -> Iterator[str]:
    """Hold a run against the deadline that it was given, and that against the caller's."""
    theirs, mine = run.deadline, sent.at + sent.timeout
    awake = evidence.awake(node_of(run.by), theirs)
    if run.part == "handler" and run.began > theirs + (LATE if sent.home == sent.to else 0.0):
        yield f"started {run.began - theirs:.3f} s past the time it was given"
    if run.is_cancellable and run.ended > awake + LATE and run.by not in evidence.ends:
        yield f"ran {run.ended - theirs:.3f} s past its deadline"
    if theirs < mine - ROUNDED:
        yield f"its deadline was {mine - theirs:.3f} s too early"
    if theirs > mine + TRAVEL and evidence.is_calm(sent.at, run.began, sent.home, sent.to):
        yield f"its deadline was {theirs - mine:.3f} s too late"
    if sent.home == sent.to and run.part == "handler" and run.began > sent.ended:
        yield f"started {run.began - sent.ended:.3f} s after its caller had gone"


def wrong_with_the_cancellation(sent: Sent, run: Run, evidence: Requests) -> Iterator[str]:
    """Nothing of a cancelled call starts or goes on, where CANCEL can have come."""
    if reached(sent, run.began, evidence):
        yield f"started at {run.began:.3f} s"
    elif run.is_cancellable and run.ended < FOR_EVER and reached(sent, run.ended, evidence):
        yield f"ran on to {run.ended:.3f} s"


def reached(sent: Sent, at: float, evidence: Requests) -> bool:
    """Whether the cancellation of a call has reached its receiver by then."""
    return at > sent.ended + TRAVEL and evidence.is_calm(at - TRAVEL, at, sent.home, sent.to)
