"""Without each of the optional packages, and without all of them, tasks are run, counted and pruned."""

import json
import subprocess
import sys

import pytest

from tests.package.project import ENVIRONMENT
from tests.package.without import OPTIONAL
from tests.processes import ROOT

pytestmark = pytest.mark.once

ABOUT_RESULTS = "Every result matches the ledger."


@pytest.mark.parametrize("missing", [*([name] for name in OPTIONAL), list(OPTIONAL)], ids=" ".join)
def test_the_package_runs_without(missing, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.package.without", tmp_path, *missing],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["statuses"] == ["dead", "succeeded"]
    assert said["counted"] == {"dead": 1, "succeeded": 1}
    assert said["broken"] == []
    assert said["pruned"] == 2
    keeps_results = "django_celery_results" not in missing
    assert said["results"] == (["FAILURE", "SUCCESS"] if keeps_results else None)
    assert said["results_left"] == ([] if keeps_results else None)
    assert (ABOUT_RESULTS in said["promises"]) == keeps_results
    assert not set(said["imported"]) & set(missing)
