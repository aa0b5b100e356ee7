"""
Connections to receivers. Addresses come from users and foreign name servers: all are treated as hostile.

Promises to connect only to public addresses, over https with the certificate checked: a name is resolved once, within
five seconds, each of its addresses is checked, and the connection is made to one of the checked addresses. The one
exception is a development shop with ``WEBHOOKS_TO_LOCALHOST``, which may also connect to this machine, over http too.
"""

import http.client
import ipaddress
import queue
import socket
import ssl
import threading
from typing import Final
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from notifications.push_services import is_public

#: Seconds for a connection, and for each step of its encryption.
TIMEOUT: Final = 5.0
#: Ports below this one belong to services other than the web.
FIRST_FREE_PORT: Final = 1024


class ForbiddenDestinationError(ValueError):
    """The shop must not connect to this address."""


def check_url(url: str) -> SplitResult:
    """
    Return the parts of a receiver's URL.

    Raises:
        ForbiddenDestinationError: webhooks must not be sent there, whatever the name resolves to.
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ForbiddenDestinationError("The URL must be printable ASCII, without spaces or backslashes.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ForbiddenDestinationError("Enter a valid URL.") from None
    if parts.scheme != "https" and not (settings.WEBHOOKS_TO_LOCALHOST and parts.scheme == "http"):
        raise ForbiddenDestinationError("The URL must begin with https://.")
    if not parts.hostname or parts.username is not None or parts.password is not None or parts.fragment:
        raise ForbiddenDestinationError("The URL must have a host, and no user or fragment.")
    if port is not None and port != _default_port(parts) and port < FIRST_FREE_PORT:
        raise ForbiddenDestinationError("The port must be 443, or 1024 or higher.")
    return parts


def open_connection(parts: SplitResult) -> http.client.HTTPConnection:
    """
    Return a connection to a receiver, at an address that was checked first.

    Raises:
        ForbiddenDestinationError: one of the name's addresses is not public.
        OSError: the name has no address, or cannot be reached.
    """
    host, port = parts.hostname or "", parts.port or _default_port(parts)
    addresses = _resolve(host, port)
    if not addresses or not all(_is_allowed(address) for address in addresses):
        raise ForbiddenDestinationError("This host name resolves to an address that is not public.")
    bare = socket.create_connection((addresses[0], port), timeout=TIMEOUT)
    try:
        if parts.scheme == "http":
            connection = http.client.HTTPConnection(host, port)
            connection.sock = bare
        else:
            connection = http.client.HTTPSConnection(host, port)
            connection.sock = ssl.create_default_context().wrap_socket(bare, server_hostname=host)
    except BaseException:
        bare.close()
        raise
    connection.auto_open = 0  # A lost connection is not opened again by name.
    return connection


def _resolve(host: str, port: int) -> list[str]:
    """
    Return the addresses of a host.

    Raises:
        OSError: it has none, or its name server did not answer in time.
    """
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([str(info[4][0]) for info in found])
        except UnicodeError:  # A label of more than 63 characters, or an empty one.
            answers.put(OSError("The host name is invalid."))
        except OSError as error:
            answers.put(error)

    # The system's resolver has its own timeout, which cannot be changed.
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=TIMEOUT)
    except queue.Empty:
        raise TimeoutError("Its name server does not answer.") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _is_allowed(address: str) -> bool:
    if settings.WEBHOOKS_TO_LOCALHOST and ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return True
    return is_public(address)


def _default_port(parts: SplitResult) -> int:
    return 443 if parts.scheme == "https" else 80
