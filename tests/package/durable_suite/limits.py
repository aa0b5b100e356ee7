"""
A plugin of pytest: Celery's own tests have five minutes each and five tries. Here they have less, on both sides.

``SUITE_POOL`` is the pool of their worker, in place of the one that their ``conftest`` names. The worker is a thread
of the process of the tests. With a pool other than prefork it does not end, with plain Celery either, and the tests
after it hang: there, each test runs in a process of its own, has one try, and is ended when its time is over.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

SECONDS = 90
TRIES_MORE = 1
#: In a process of its own, with the start of the process.
SECONDS_APART = 45
POOL = os.environ["SUITE_POOL"]
#: The file to which a test in a process of its own reports.
REPORTS = os.environ.get("SUITE_REPORTS")


def pytest_collection_modifyitems(items):
    for item in items:
        item.own_markers = [mark for mark in item.own_markers if mark.name not in {"timeout", "flaky"}]
        item.add_marker(pytest.mark.timeout(SECONDS, func_only=True))  # Else a second try has no limit.
        item.add_marker(pytest.mark.flaky(reruns=0 if REPORTS else TRIES_MORE))


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    if fixturedef.argname != "celery_worker_pool":
        return None
    fixturedef.cached_result = (POOL, fixturedef.cache_key(request), None)
    return POOL


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    if POOL == "prefork" or REPORTS:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in run_apart(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def run_apart(item):
    """Run a test in a process of its own, and return its reports."""
    path = Path.cwd() / f"reports-{os.getpid()}.jsonl"
    path.write_text("")
    plugins = [word for plugin in item.config.option.plugins for word in ("-p", plugin)]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, item.nodeid]
    environment = os.environ | {"SUITE_REPORTS": str(path)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        with suppress(subprocess.TimeoutExpired):  # It may still have reported, and hang at the end of its worker.
            process.wait(SECONDS_APART)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    hook = item.config.hook
    reports = [
        hook.pytest_report_from_serializable(config=item.config, data=json.loads(line))
        for line in path.read_text().splitlines()
    ]
    for report in reports:
        if report.skipped and isinstance(report.longrepr, list):
            report.longrepr = tuple(report.longrepr)  # JSON has no tuples.
    if not any(report.when == "call" or not report.passed for report in reports):
        words = f"It has not ended after {SECONDS_APART} seconds." if process.returncode < 0 else "It said nothing."
        reports.append(pytest.TestReport(item.nodeid, item.location, {}, "failed", words, "call"))
    return reports


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if REPORTS:
        data = item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
        with Path(REPORTS).open("a") as file:
            file.write(json.dumps(data) + "\n")
    return report
