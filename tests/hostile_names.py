"""
A separate network with a lying name server: a name can resolve to a different address each time.

Linux and root: the network is a namespace, and ``ip netns exec`` gives its processes a resolv.conf of their own, so
that it is the system's own resolver that asks. A socket stays in the namespace that it was made in, so that the
servers run in the test's process.
"""

import ctypes
import ipaddress
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import pytest

T = TypeVar("T")

KINDS: Final = {1: "A", 28: "AAAA"}
CNAME: Final = 5
#: What a name may have instead of addresses: no answer at all, and one that is none.
SILENCE, GARBAGE = "silence", "garbage"


class NameServer:
    """
    Answers by ``zone``: for each name a list of addresses for the first time that it is asked for them, for the second
    and so on; the last list stays. A name among them is a CNAME. ``asked`` counts.
    """

    def __init__(self, listener: socket.socket, zone: dict[str, list[list[str]]]) -> None:
        self.zone = zone
        self.asked: Counter[tuple[str, str]] = Counter()
        self._socket = listener
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):  # Closed.
            while True:
                query, client = self._socket.recvfrom(512)
                if answer := self._answer(query):
                    self._socket.sendto(answer, client)

    def _answer(self, query: bytes) -> bytes | None:
        name, end = _read_name(query, 12)
        kind = KINDS.get(struct.unpack_from("!H", query, end)[0], "")
        turns = self.zone.get(name, [[]])
        found = turns[min(self.asked[name, kind], len(turns) - 1)]
        self.asked[name, kind] += 1
        if SILENCE in found:
            return None
        if GARBAGE in found:
            return query[:2] + b"\x81\x80\0\1\xff\xff" + random.Random(name).randbytes(300)
        records = list(self._records(name, found, kind))
        head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, len(records), 0, 0)
        return head + query[12 : end + 4] + b"".join(records)

    def _records(self, name: str, found: list[str], kind: str) -> Iterator[bytes]:
        for each in found:
            if each in self.zone:
                yield _record(name, CNAME, _write_name(each))
                yield from self._records(each, self.zone[each][0], kind)
                continue
            address = ipaddress.ip_address(each)
            if (address.version == 4) == (kind == "A"):
                yield _record(name, 1 if kind == "A" else 28, address.packed)


def _record(name: str, kind: int, data: bytes) -> bytes:
    """Return a record that is good for no time at all."""
    return _write_name(name) + struct.pack("!HHIH", kind, 1, 0, len(data)) + data


def _write_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _read_name(message: bytes, at: int) -> tuple[str, int]:
    labels = []
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels).lower(), at + 1


class Network:
    """A network namespace that has these addresses besides its own loopback."""

    def __init__(self, addresses: list[str]) -> None:
        self.name = f"names-{os.getpid()}"
        self._settings = Path("/etc/netns", self.name)
        self._settings.mkdir(parents=True)
        (self._settings / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:20 attempts:1\n")
        (self._settings / "nsswitch.conf").write_text("hosts: files dns\n")
        _run("netns", "add", self.name)
        _run("-n", self.name, "link", "set", "lo", "up")
        for address in addresses:
            _run("-n", self.name, "address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else []))

    def close(self) -> None:
        _run("netns", "delete", self.name)
        shutil.rmtree(self._settings)

    def run(self, command: list[str]) -> list[str]:
        """Return a command that runs another in this network."""
        return ["ip", "netns", "exec", self.name, *command]

    def within(self, make: Callable[[], T]) -> T:
        """Return what is made in this network: sockets, for they stay there."""

        def enter() -> T:
            with Path("/run/netns", self.name).open() as network:
                if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), 0):
                    raise OSError(ctypes.get_errno(), "setns")
            return make()

        with ThreadPoolExecutor(1) as pool:  # For a thread that has been there is never used again.
            return pool.submit(enter).result()

    def listen(self, address: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return self.within(lambda: socket.create_server((address, port), family=family))


def _run(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def network(addresses: list[str]) -> Iterator[Network]:
    """Run a network as long as the block lasts; skip the test where there can be none."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace takes Linux, root and the command ip")
    made = Network(addresses)
    try:
        yield made
    finally:
        made.close()
