"""Where no webhook ever goes, with a name server that lies."""

import socket
import threading
import time

import pytest

from webhooks import destinations
from webhooks.destinations import ForbiddenDestinationError, check_url, open_connection


class Resolver:
    """A name server that answers what it likes, another time each time."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.real = socket.getaddrinfo

    def __call__(self, host, port, *args, **kwargs):
        if host[0].isdigit() or ":" in host:
            return self.real(host, port, *args, **kwargs)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [info for address in addresses for info in self.real(address, port, type=socket.SOCK_STREAM)]


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/",
        "ftp://shop.example/",
        "https://user:word@shop.example/",
        "https://shop.example:22/",
        "https://shop.example/ x",
        "https://shop.example\\@10.0.0.1/",
        "https://shop.example/#f",
        "https:///x",
        "https://shop.example:99999/",
        "https://sh\u00f6p.example/",
    ],
)
def test_an_address_that_is_none_of_the_webs_is_refused(url):
    with pytest.raises(ForbiddenDestinationError):
        check_url(url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
    ],
)
def test_no_name_leads_to_a_place_that_is_not_public(address, monkeypatch):
    def spoken_to(*_, **__):
        raise AssertionError(address)

    monkeypatch.setattr(socket, "create_connection", spoken_to)
    for addresses in ([address], ["93.184.216.34", address]):
        monkeypatch.setattr(socket, "getaddrinfo", Resolver(addresses))
        with pytest.raises(ForbiddenDestinationError):
            open_connection(check_url("https://receiver.example/"))
    written = f"[{address}]" if ":" in address else address
    monkeypatch.undo()
    monkeypatch.setattr(socket, "create_connection", spoken_to)
    with pytest.raises(ForbiddenDestinationError):
        open_connection(check_url(f"https://{written}/"))


def test_a_name_server_that_never_answers_is_left_and_what_is_no_name_is_an_ordinary_failure(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(destinations, "TIMEOUT", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(30) and [])
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        open_connection(check_url("https://receiver.example/"))
    assert time.monotonic() - began < 5
    released.set()
    monkeypatch.undo()
    with pytest.raises(OSError, match="The host name is invalid"):
        open_connection(check_url(f"https://{'a' * 64}.example/"))


def test_a_name_is_resolved_once_and_the_address_that_was_looked_at_is_spoken_to(monkeypatch):
    met = []

    def spoken_to(address, *_, **__):
        met.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", Resolver(["93.184.216.34"], ["127.0.0.1"]))
    monkeypatch.setattr(socket, "create_connection", spoken_to)
    with pytest.raises(ConnectionRefusedError):
        open_connection(check_url("https://receiver.example/"))
    assert met == [("93.184.216.34", 443)]
