"""The other end of processes.Told: say that this process is ready, wait for the word, answer, wait for the end."""

import json
import sys
from collections.abc import Callable
from typing import Any


def work_when_told(work: Callable[[], dict[str, Any]]) -> None:
    """Do ``work`` when told and print what it returns."""
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(work()), flush=True)
    sys.stdin.readline()
