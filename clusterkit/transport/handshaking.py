"""Drives the handshake machines over a stream: bytes to `step`, effects to the stream."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable

from clusterkit.core.handshake import (
    Admit,
    Admitted,
    Challenged,
    Closed,
    Effect,
    Event,
    Failed,
    Initiator,
    Judge,
    Judged,
    Proven,
    Received,
    Refused,
    Responder,
    Tick,
    Write,
)
from clusterkit.core.judgement import refusal
from clusterkit.core.proof import Party
from clusterkit.runtime import now
from clusterkit.transport.base import Stream


async def initiate(stream: Stream, machine: Initiator, me: Party, challenged: Callable[[], None]) -> Proven:
    """Prove ourselves to the node at the other end; raises the error that says why not.

    ``challenged`` is called when it has answered our HELLO.
    """
    effects = machine.start()
    while True:
        for effect in effects:
            match effect:
                case Write(data=data):
                    stream.write(data)
                case Challenged():
                    challenged()
                case Proven():
                    return effect
                case Refused(status=status, responder=responder):
                    raise refusal(status, responder, me)
                case Failed(error=error):
                    raise error
        effects = machine.step(await _next_event(stream, machine), now())


async def respond(
    stream: Stream,
    machine: Responder,
    admit: Callable[[Stream, Responder], Awaitable[Event]],
    judge: Callable[[Party], Awaitable[Judged]],
) -> Proven:
    """Check who calls; raises the error that says why the connection is to be closed.

    ``admit`` waits until a proof may be checked, or until something else comes;
    ``judge`` gives the verdict.
    """
    effects: list[Effect] = []
    while True:
        answer: Event | None = None
        for effect in effects:
            match effect:
                case Write(data=data):
                    stream.write(data)
                case Admit():
                    answer = await admit(stream, machine)
                case Judge(caller=caller):
                    answer = await judge(caller)
                case Proven():
                    return effect
                case Failed(error=error):
                    raise error
        effects = machine.step(answer or await _next_event(stream, machine), now())


async def until_admitted(stream: Stream, machine: Responder, wait: float) -> Event:
    """Wait for ``wait`` seconds, unless the deadline, the end or a byte too many comes before."""
    admitted_at = now() + wait
    try:
        async with asyncio.timeout_at(min(admitted_at, machine.next_deadline or 0.0)):
            data = await stream.read(1)
    except TimeoutError:
        return Admitted() if now() >= admitted_at else Tick()
    except OSError:
        return Closed()
    return Received(data) if data else Closed()


async def _next_event(stream: Stream, machine: Initiator | Responder) -> Event:
    try:
        async with asyncio.timeout_at(machine.next_deadline):
            data = await stream.read(machine.wants)
    except TimeoutError:
        return Tick()
    except OSError as error:
        if isinstance(error, ssl.SSLError) and isinstance(machine, Initiator):
            raise  # the other end says why, as when it does not take our certificate
        return Closed()
    return Received(data) if data else Closed()
