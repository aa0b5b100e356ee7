"""Machines whose clocks are thirty seconds ahead and behind: only the database's clock counts."""

import shutil
import subprocess
from collections import Counter

import psycopg
import pytest

from tests.drills.count import count, one, settle
from tests.faults.buyers import Buyers
from tests.processes import wait_until

pytestmark = [pytest.mark.drill, pytest.mark.processes, pytest.mark.postgresql, pytest.mark.timeout(600)]
APART = 30
COUNTDOWN = 5
CALL = f"from tests import probe; probe.make_collection.apply_async(('{{}}',), countdown={COUNTDOWN})"
#: The time of day alone: what is waited for by the steady clock takes as long as ever.
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*ask)(clockid_t, struct timespec *);
    if (!ask) ask = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = ask(clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += atoi(getenv("AHEAD"));
    return failed;
}
"""
WAITED = """
    SELECT extract(epoch FROM completed_at - created_at)
    FROM celery_ledger_durabletask WHERE name = 'tests.make_collection'
"""


@pytest.fixture
def clock(tmp_path):
    """Return what a process has in its environment whose clock is so many seconds ahead."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path / "clock.so"
    command = [compiler, "-shared", "-fPIC", "-O", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(command, input=CLOCK, text=True, check=True)
    return lambda seconds: {"LD_PRELOAD": str(library), "AHEAD": str(seconds)}


def test_machines_whose_clocks_are_apart_share_the_work(machine, mail_server, clock, say):
    url = machine.environment["DATABASE_URL"]
    ahead, behind = clock(APART), clock(-APART)
    machine.start_web(**ahead)
    processes = [machine.start_relay(**ahead), machine.start_relay(**behind), machine.start_worker(**behind)]
    dying = machine.start_worker(**ahead)
    buyers = Buyers(150)
    buyers.begin(machine.web_url, at_once=2, pause=0.2)
    wait_until("orders are placed", lambda: len(buyers.told) >= 30)
    dying.kill()
    machine.start_worker(**ahead)
    for name, environment in (("ahead", ahead), ("behind", behind)):
        called = machine.run_command("shell", "-c", CALL.format(name), **environment)
        assert called.returncode == 0, called.stderr
    buyers.join()
    settle(url)
    found = count(url, buyers, mail_server.received)
    with psycopg.connect(url, autocommit=True) as link:
        waited = [float(seconds) for (seconds,) in link.execute(WAITED)]
    rescued = one(url, "SELECT coalesce(sum(rows), 0) FROM celery_ledger_tally WHERE outcome = 'rescued'")
    say(f"{found}; {rescued} rescued; a countdown of {COUNTDOWN} s took {waited}; answers {dict(buyers.statuses())}")
    assert says_the_time_wrong(processes[0], processes[1]), "the clocks were not apart"
    assert all(process.is_alive for process in processes)
    assert found.is_clean
    assert buyers.statuses() == Counter({201: 150})
    assert len(waited) == 2
    assert all(COUNTDOWN <= seconds < COUNTDOWN + 5 for seconds in waited)


def says_the_time_wrong(ahead, behind):
    """Whether two processes that started one after the other logged that in the other order."""
    first, second = (process.log.read_text().splitlines()[0][:19] for process in (ahead, behind))
    return first > second
