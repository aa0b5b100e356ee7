"""Every call of the guide is run against a real web process, and every response matches the guide."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from core.management.commands.seed_demo import fill_catalogue
from tests.processes import Machine

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "api.md"
#: What is another value each time; everything else has to be as it is shown.
VARIES = {"id", "customer", "product", "collection", "placed_at", "access", "refresh"}
MARK = "=== end of call"

pytestmark = pytest.mark.processes


@pytest.fixture
def shop(transactional_db, tmp_path):
    machine = Machine(tmp_path)
    fill_catalogue()
    try:
        machine.start_web()
        yield f"http://127.0.0.1:{machine.web_port}"
    finally:
        machine.__exit__(None, None, None)


def comparable(value):
    """Return an answer with the kind of a value in the place of those that vary."""
    if isinstance(value, list):
        return [comparable(each) for each in value]
    if not isinstance(value, dict):
        return re.sub(r"Product \d+", "Product N", value) if isinstance(value, str) else value
    return {
        name: type(each).__name__ if name in VARIES and not isinstance(each, dict | list) else comparable(each)
        for name, each in value.items()
    }


def test_every_call_of_the_guide_is_answered_as_it_shows(shop):
    assert shutil.which("curl"), "The guide is written for curl, and there is none on this machine."
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    calls = [(code, blocks[n + 1 : n + 2]) for n, (language, code) in enumerate(blocks) if language == "shell"]
    assert len(calls) > 12
    script = f"\necho; echo '{MARK}'\n".join(code for code, _ in calls)

    run = subprocess.run(
        ["sh", "-eu", "-c", script],
        env={"SHOP": shop, "PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert run.returncode == 0, run.stdout[-2_000:] + run.stderr
    answers = run.stdout.split(MARK)
    assert len(answers) == len(calls)
    compared = 0
    for (code, following), answer in zip(calls, answers, strict=True):
        for language, expected in following:
            if language == "json":
                assert comparable(json.loads(answer)) == comparable(json.loads(expected)), code
            elif language == "text":
                assert answer.lower().split() == expected.lower().split(), code
            compared += language in {"json", "text"}
    assert compared > 11
