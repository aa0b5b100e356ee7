"""
Creates a stack's secrets, and the URLs that contain them, once: ``python deploy/keys.py FOLDER HANDED``.

For ``docker-compose.yml``: every container reads its own from a volume, such as
``SECRET_KEY_FILE=/run/keys/secret_key``, which is a folder of ``HANDED``. Existing files in ``FOLDER`` are kept, so
that a stack keeps its secrets or uses given ones. Standard library only.
"""

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

#: What each container receives: the folder, which is its volume, and the files in it.
FOR_APP = ("secret_key", "database_url", "redis_url", "rabbitmq_url")
HANDED: Mapping[str, tuple[str, ...]] = {
    "app": FOR_APP,
    "flower": (*FOR_APP, "flower_basic_auth"),
    "postgres": ("postgres_password",),
    "redis": ("redis_password", "redis.conf"),
    "rabbitmq": ("rabbitmq.conf",),
}


def hand_out(folder: Path, handed: Path) -> None:
    """Copy to each container its files of ``folder``; repeated at each start, so that changes arrive."""
    for name, files in HANDED.items():
        (handed / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            place(handed / name / file, (folder / file).read_text())


def make(folder: Path) -> list[str]:
    """Write the files missing from ``folder`` and return their names."""
    passwords = {}
    written = []
    for name in ("postgres_password", "redis_password", "rabbitmq_password", "secret_key", "flower_password"):
        if write(folder / name, secrets.token_urlsafe(48 if name == "secret_key" else 24)):
            written.append(name)
        passwords[name] = (folder / name).read_text()
    addresses = {
        "database_url": f"postgres://shopwire:{passwords['postgres_password']}@postgres:5432/shopwire",
        "redis_url": f"redis://:{passwords['redis_password']}@redis:6379/0",
        "rabbitmq_url": f"amqp://shopwire:{passwords['rabbitmq_password']}@rabbitmq:5672//",
        "flower_basic_auth": f"flower:{passwords['flower_password']}",
        "redis.conf": f"requirepass {passwords['redis_password']}\n",
        "rabbitmq.conf": f"default_user = shopwire\ndefault_pass = {passwords['rabbitmq_password']}\n"
        "loopback_users = none\n",
    }
    return written + [name for name, text in addresses.items() if write(folder / name, text)]


def write(path: Path, text: str) -> bool:
    """Write a new file. Containers with different users read it: the volume keeps it private."""
    if path.exists():
        return False
    place(path, text)
    return True


def place(path: Path, text: str) -> None:
    """Write a file atomically."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(text)
    draft.chmod(0o444)
    draft.replace(path)


if __name__ == "__main__":
    made = make(Path(sys.argv[1]))
    hand_out(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write(f"Made: {', '.join(made)}.\n" if made else "All secrets exist already.\n")
