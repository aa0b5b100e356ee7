"""On a phone with a slow connection, the shop is usable in two seconds; the test prints the figures."""

import os

import pytest
from playwright.sync_api import expect

from tests.processes import best_of

pytestmark = pytest.mark.processes

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
#: Lighthouse's slow 4G: a round trip of 150 ms, 1.6 Mbit/s down, 750 kbit/s up, and a processor a quarter as fast.
ROUND_TRIP, DOWN, UP, SLOWER = 150, 1.6e6 / 8, 750e3 / 8, 4
#: Milliseconds until the catalogue is usable.
GOAL = 2000


@pytest.mark.fault("F111")
def test_f111_the_first_page_is_usable_in_two_seconds_on_a_slow_telephone(chromium, address):
    """
    The best of five loads with an empty cache, and of up to ten more if that is not enough.

    A machine whose processors each have two or more to do is allowed half as much again, which is less than the shop
    took before (3.1 to 3.8 s). Prints all; frontend/README.md says what they were.
    """
    usable, transferred = [], 0.0

    def load() -> float:
        nonlocal transferred
        telephone = chromium.new_context(base_url=address, **PHONE)
        page = telephone.new_page()
        line = telephone.new_cdp_session(page)
        line.send("Network.enable")
        line.send(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": ROUND_TRIP, "downloadThroughput": DOWN, "uploadThroughput": UP},
        )
        line.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
        page.goto("/", wait_until="commit")
        expect(page.get_by_role("button", name="Add to cart Enamel saucepan")).to_be_visible()
        usable.append(page.evaluate("performance.now()"))
        transferred = page.evaluate(
            "performance.getEntriesByType('resource').filter(({name}) => /[.](js|css)$/.test(name))"
            ".reduce((sum, {encodedBodySize}) => sum + encodedBodySize, 0)"
        )
        telephone.close()  # What is slowed down takes the processor from the next.
        return usable[-1]

    quickest = best_of(lambda: min(load() for _ in range(5)), below=GOAL)
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    print(f"On slow 4G usable after {', '.join(f'{each:.0f}' for each in usable)} ms; {transferred:.0f} B of code.")
    assert quickest < (GOAL if busy < 2 else 1.5 * GOAL)
