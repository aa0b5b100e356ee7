"""A value that cannot be read stops the start with one line that names it, whichever command it is."""

import os
import subprocess
import sys

import pytest

BARE = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
WORTHY = {"SECRET_KEY": "x" * 60, "ALLOWED_HOSTS": "shop.example", "REDIS_URL": "redis://127.0.0.1:1/0"}


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.path.insert(0, '.'); import environ; environ.Env.read_env = lambda *a, **k: None; "
    code += f"sys.argv = ['manage.py', {', '.join(map(repr, arguments))}]; "
    code += "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'core.settings'; "
    code += "from django.core.management import execute_from_command_line as go; go(sys.argv)"
    return subprocess.run(
        [sys.executable, "-c", code], env={**BARE, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "SECRET_KEY"),
        ({"SECRET_KEY": "x" * 60}, "ALLOWED_HOSTS"),
        ({"DEBUG": "perhaps"}, "DEBUG"),
        ({**WORTHY, "DATABASE_URL": "mysql://root@127.0.0.1/shop"}, "DATABASE_URL"),
        ({**WORTHY, "CELERY_BROKER_URL": "kafka://127.0.0.1"}, "CELERY_BROKER_URL"),
        ({**WORTHY, "EMAIL_URL": "pigeon://"}, "EMAIL_URL"),
        ({**WORTHY, "PORT": "eighty"}, "PORT"),
        ({**WORTHY, "LEDGER_QUEUE_WINDOW": "0"}, "LEDGER_QUEUE_WINDOW"),
    ],
)
def test_a_value_that_cannot_be_read_is_named_in_one_line(environment, named):
    run = start("check", **environment)
    assert run.returncode == 1
    (line,) = [line for line in run.stderr.splitlines() if "Warning" not in line and not line.startswith("  ")]
    assert line.startswith("Shopwire cannot start: ")
    assert named in line


def test_production_settings_pass_the_deployment_checks():
    run = start(
        "check", "--deploy", "--fail-level", "WARNING", **{**WORTHY, "SECRET_KEY": "k3y-" * 5 + "aBcDeFgHiJ" * 4}
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("environment", "id"),
    [
        ({"FAULT": "relay.after_claim"}, "celery_ledger.E006"),
        ({"REDIS_URL": "redis://redis.example/0"}, "core.E010"),
        ({"WEBHOOKS_TO_LOCALHOST": "1"}, "webhooks.E001"),
    ],
)
def test_what_is_unsafe_in_production_is_refused(environment, id):
    run = start("check", **{**WORTHY, **environment})
    assert run.returncode == 1
    assert id in run.stderr
