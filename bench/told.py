"""The counterpart of processes.Told: report readiness, wait for the command, answer, wait for the end."""

import json
import sys
from collections.abc import Callable
from typing import Any


def work_when_told(work: Callable[[], dict[str, Any]]) -> None:
    """Run ``work`` on command and print its result."""
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(work()), flush=True)
    sys.stdin.readline()
