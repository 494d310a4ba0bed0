"""Pure values and state machines: no asyncio, no socket, no clock, no chance, no logging."""
