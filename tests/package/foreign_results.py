"""
django-celery-results' own tests, plain and alongside the package: ``make foreign-results``.

As ``foreign_beat``, of which this takes the plugin. Their settings name a PostgreSQL at localhost with the user
postgres, by a driver for PyPy; a module of that name has them take the one that is here.
"""

import sys
from importlib.metadata import version

from tests.package.foreign_beat import PINNED, count, prepare
from tests.package.told import run_on
from tests.processes import ROOT

FOLDER = ROOT / "var" / "foreign-results"
PAGE = ROOT / "docs" / "reference" / "foreign-results.md"
RESULTS = f"django-celery-results=={version('django-celery-results')}"
#: What its own ``requirements`` ask for.
TOOLS = ["pytest<8", "pytest-django<5", "pytest-benchmark", "pytz", "psycopg[binary]"]
SETTINGS = """
from t.proj.settings import *

INSTALLED_APPS += ["celery_ledger"]
"""
DRIVER = """
class compat:
    @staticmethod
    def register():
        pass
"""


def main() -> int:
    python, source = prepare(FOLDER, RESULTS, TOOLS, SETTINGS)
    (source / "psycopg2cffi.py").write_text(DRIVER)
    plain, failed_plain = count(python, source, "--create-db", "t/unit")
    options = ("--create-db", "--ds=t.proj.ledger_settings", "-p", "ledger_plugin", "t/unit")
    beside, failed_beside = count(python, source, *options)
    lines = [
        "| Tests of django-celery-results | Passed |",
        "| --- | --- |",
        f"| plain | {plain} |",
        f"| alongside the package | {beside} |",
    ]
    print(*lines, *sorted(failed_plain ^ failed_beside), sep="\n")
    names = ", ".join(requirement.replace("==", " ") for requirement in (RESULTS, *PINNED))
    PAGE.write_text(
        "# django-celery-results' own tests\n\n"
        "What `make foreign-results` found when it was last run: the unit tests of the source distribution, as they\n"
        "are, and with `celery_ledger` among the apps and `celery_ledger:Task` as the class of tasks of every app.\n"
        f"{'The same tests fail in both.' if failed_plain == failed_beside else 'Different tests fail.'}\n\n"
        f"Run on {run_on()}, with {names}, Python {'.'.join(map(str, sys.version_info[:2]))}.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    return int(bool(failed_beside - failed_plain))


if __name__ == "__main__":
    sys.exit(main())
