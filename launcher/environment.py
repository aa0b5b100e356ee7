"""
The virtual environment ``.venv``: created once, and updated only when the requirements change.

A stamp inside it, the hash of the requirements file, records what was installed.
"""

import fcntl
import hashlib
import importlib.util
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from launcher.console import MovingLine, say
from launcher.places import LOGS, PYTHON, ROOT, VENV

PIP_INSTALL = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off", "-r")
#: Installs as pip does, from the same file with the same hashes, in a sixth of pip's CPU time.
UV_INSTALL = ("-m", "uv", "pip", "install", "--no-progress", "--require-hashes", "--python", ".venv", "-r")
UV_REQUIREMENTS = "requirements-uv.txt"


def ensure(requirements: str) -> None:
    """
    Install the file ``requirements`` into ``.venv``, unless that is done already.

    Raises:
        SystemExit: it cannot be made or filled; the sentence says what to do.
    """
    wanted = hashlib.sha256((ROOT / requirements).read_bytes()).hexdigest()
    stamp = VENV / f"{requirements}.sha256"
    if is_stamped(stamp, wanted):
        return
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Another process may have installed it: then nothing is left to do.
        if is_stamped(stamp, wanted):
            return
        if not has_pip():
            create()
        install(requirements)
        stamp.write_text(wanted)


def is_stamped(stamp: Path, wanted: str) -> bool:
    return PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted


def has_pip() -> bool:
    """Whether ``.venv`` has a working Python with pip; an interrupted start leaves it without."""
    if not PYTHON.exists():
        return False
    return subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def create() -> None:
    if VENV.is_symlink():
        sys.exit(f"{VENV} is a link to a directory without a working Python. Remove the link, then start again.")
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        sys.exit(
            "This Python lacks its venv and ensurepip modules: install them "
            "(on Debian and Ubuntu: `sudo apt install python3-venv`), then start again."
        )
    say(f"Creating {VENV.name} with Python {sys.version.split()[0]} ...")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        sys.exit(f"{VENV} could not be created:\n{made.stdout}{made.stderr}")


def install(requirements: str) -> None:
    """
    Install the requirements and show the progress; the installer's output goes to ``var/log/install.log``.

    uv does this if it can be installed and finds the packages. It does not read pip's configuration, so if only pip is
    configured for this machine's index or proxy, pip does it.
    """
    log = LOGS / "install.log"
    started = time.monotonic()
    line = MovingLine()
    with log.open("wb", buffering=0) as record:
        with_uv = run(PIP_INSTALL, UV_REQUIREMENTS, record, line) and run(UV_INSTALL, requirements, record, line)
        installed = with_uv or run(PIP_INSTALL, requirements, record, line)
    if not installed:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        sys.exit(f"\n{tail}\nInstalling {requirements} failed; the full output is in {log.relative_to(ROOT)}.")
    line.finish(f"Installed {requirements} in {time.monotonic() - started:.0f} s.")


def run(installer: Sequence[str], requirements: str, record: BinaryIO, line: MovingLine) -> bool:
    """Run an installer on a file of requirements, record its output, and return whether it succeeded."""
    progress = Progress(requirements)
    with subprocess.Popen(
        [PYTHON, *installer, ROOT / requirements], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout
        try:
            while True:
                if select.select([process.stdout], [], [], 0.5)[0]:
                    said = os.read(process.stdout.fileno(), 65536)
                    if not said:
                        break
                    record.write(said)
                    progress.heard(said.decode(errors="replace"))
                line.show(progress.text())
        finally:
            if process.poll() is None and sys.exc_info()[0]:
                process.terminate()
    return process.returncode == 0


class Progress:
    """The progress of an installer: pip names packages as it fetches them; unpacked packages are counted."""

    def __init__(self, requirements: str) -> None:
        pins = (ROOT / requirements).read_text().splitlines()
        self.total = sum(1 for pin in pins if re.match(r"\w\S*==", pin))
        self.present = self.installed()
        self.fetched = 0
        self.package = ""
        self.unpacking = False

    def heard(self, words: str) -> None:
        self.total -= len(re.findall(r"^Ignoring ", words, re.MULTILINE))
        for name in re.findall(r"^(?:Collecting|Processing|Requirement already satisfied:) (\S+)", words, re.MULTILINE):
            self.fetched += 1
            self.package = re.split(r"[=-]", name.rpartition("/")[2])[0]
        if re.search("^(Installing collected packages|Prepared )", words, re.MULTILINE):
            self.unpacking = True

    def text(self) -> str:
        if self.unpacking or self.installed() > self.present:
            return f"Installing {min(self.installed() - self.present, self.total)}/{self.total} packages ..."
        return f"Fetching {min(self.fetched, self.total)}/{self.total} {self.package} ..."

    @staticmethod
    def installed() -> int:
        return sum(1 for _ in VENV.glob("lib/python3*/site-packages/*.dist-info"))
