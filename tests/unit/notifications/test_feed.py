"""A stream ends when its client is gone, also if something comes for it in that very moment."""

import asyncio

import pytest

from notifications.feed import Event, Feed, Reader


@pytest.mark.parametrize("ticks", range(6))
def test_a_stream_that_is_cancelled_as_its_bell_rings_is_cancelled(ticks):
    async def scene():
        feed, reader = Feed(), Reader(0)

        async def carry():
            async for event in feed._carry(reader):
                seen.append(event)

        seen = []
        stream = asyncio.create_task(carry())
        await asyncio.sleep(0.01)  # It waits for the bell.
        reader.hand(Event(1, "{}"))
        for _ in range(ticks):
            await asyncio.sleep(0)
        stream.cancel()
        done, _ = await asyncio.wait({stream}, timeout=1)
        assert done, f"It goes on, and has seen {seen}."
        assert stream.cancelled()

    asyncio.run(scene())
