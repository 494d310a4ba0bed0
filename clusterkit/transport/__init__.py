"""Links to other nodes over asyncio streams."""
