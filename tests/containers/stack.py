"""The stack of docker-compose.yml, started under a separate name."""

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.processes import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 400  # seconds for a command; a build from nothing takes the longest


class Stack:
    """``docker compose`` with ports that are free; everything, with its volumes, is gone at the end."""

    def __init__(self, name: str, **environment: str) -> None:
        self.web_port, self.mail_port = free_port(), free_port()
        self.environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": name,
            "WEB_PORT": str(self.web_port),
            "MAIL_PORT": str(self.mail_port),
            "FLOWER_PORT": str(free_port()),
            **environment,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.run("logs", "--no-color", "--tail", "60", check=False).stdout)
        self.run("down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of compose; one that fails raises and shows what it said."""
        answer = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if check and answer.returncode:
            said = [answer.stdout, answer.stderr, *self.unhealthy()]
            raise AssertionError(f"docker compose {' '.join(arguments)}: " + "\n".join(said))
        return answer

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's containers, running or not."""
        return self.run("ps", "--all", "--quiet", service).stdout.split()

    def unhealthy(self) -> list[str]:
        """Return what the probes of containers said that are not healthy."""
        states = [inspect(id)["State"] for id in self.run("ps", "--quiet", check=False).stdout.split()]
        return [str(state["Health"]) for state in states if state.get("Health", {}).get("Status") == "unhealthy"]

    def kill(self, service: str) -> str:
        """Kill the first container of a service, see it dead, and return its id."""
        container = self.containers(service)[0]
        subprocess.run(["docker", "kill", "--signal", "KILL", container], check=True, capture_output=True)
        state = inspect(container)["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 137), f"{service} was not killed: {state}"
        return container

    def start(self, container: str) -> None:
        subprocess.run(["docker", "start", container], check=True, capture_output=True)

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of Django's commands in the web container."""
        return self.run("exec", "-T", "web", "python", "manage.py", *arguments, check=check)


def inspect(container: str) -> dict:
    """Return what Docker knows of a container."""
    answer = subprocess.run(["docker", "inspect", container], check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)[0]
