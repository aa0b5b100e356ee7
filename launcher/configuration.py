"""
The shop's configuration, and ``var/run.env``, which passes it on to other commands.

A value comes from the environment, then from ``.env``, then from the launcher. The file of the last start is read only
for its secrets, so that sessions and passwords survive a restart.
"""

import os
import re
import secrets
import socket
from pathlib import Path

from launcher.console import say
from launcher.places import ROOT, VAR

RUN_ENV = VAR / "run.env"
#: What another terminal needs to use the same database, broker and mail, if they were given.
PASSED_ON = ("DATABASE_URL", "CELERY_BROKER_URL", "EMAIL_URL")


def read_env(path: Path) -> dict[str, str]:
    """Return the variables of an env file; empty if the file does not exist."""
    if not path.exists():
        return {}
    pairs = re.findall(r"^(?:export )?([A-Za-z_0-9]+)=(.*?)\s*$", path.read_text(), re.MULTILINE)
    return {
        name: value[1:-1] if value[:1] in {"'", '"'} and value[-1:] == value[:1] else value for name, value in pairs
    }


def given(name: str) -> str:
    """Return the user's value for variable ``name``, or an empty string."""
    return os.environ.get(name) or read_env(ROOT / ".env").get(name, "")


def write_private(path: Path, text: str) -> None:
    """Write a file atomically, readable only by its owner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def compose(redis_url: str) -> dict[str, str]:
    """Return the variables for this start, and write them to ``var/run.env``. Ports are free ones."""
    before = read_env(RUN_ENV)
    web_port = choose_port("The shop", given("PORT") or "8000", not_these=set())
    flower_port = choose_port("Flower", given("FLOWER_PORT") or "5555", not_these={web_port})
    catcher_port = choose_port("The catcher", given("CATCHER_PORT") or "8026", not_these={web_port, flower_port})
    values = {
        "DEBUG": given("DEBUG") or "1",
        "SECRET_KEY": given("SECRET_KEY") or before.get("SECRET_KEY") or secrets.token_urlsafe(48),
        "REDIS_URL": redis_url,
        "PORT": str(web_port),
        "FLOWER_PORT": str(flower_port),
        "CATCHER_PORT": str(catcher_port),
        "FLOWER_BASIC_AUTH": given("FLOWER_BASIC_AUTH")
        or before.get("FLOWER_BASIC_AUTH")
        or f"flower:{secrets.token_urlsafe(12)}",
    }
    if values["DEBUG"] == "1":  # The catcher is on this machine.
        values["WEBHOOKS_TO_LOCALHOST"] = given("WEBHOOKS_TO_LOCALHOST") or "1"
    values |= {name: given(name) for name in PASSED_ON if given(name)}
    lines = [f"{name}='{value}'" for name, value in values.items()]
    write_private(RUN_ENV, "# Written by run.py at each start.\n" + "\n".join(lines) + "\n")
    return values


def choose_port(who: str, wanted: str, not_these: set[int]) -> int:
    """
    Return port ``wanted``, or the next free one with a message.

    Raises:
        SystemExit: ``wanted`` is not a port.
    """
    if not wanted.isdecimal() or not 0 < int(wanted) < 65536:
        raise SystemExit(f"{who} was given the port {wanted!r}; a port is a whole number from 1 to 65535.")
    for port in range(int(wanted), 65536):
        if port not in not_these and is_free(port):
            if port != int(wanted):
                say(f"Port {wanted} is taken: {who} answers on {port}.")
            return port
    raise SystemExit(f"{who} found no free port from {wanted} up.")


def is_free(port: int) -> bool:
    """Whether the port is free on the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
