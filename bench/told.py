"""The other end of processes.Told: say that one is ready, wait to be told, answer, wait to be let go."""

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
