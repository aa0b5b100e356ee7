"""
Connections to the push services of browsers. Their addresses come from clients: all are treated as hostile.

Promises to connect only to known push services: over https on port 443, to a public address that the name has at that
moment, with the certificate checked. No redirect is followed, no proxy is used, no answer's body is read, and every
step ends after :data:`TIMEOUT` seconds.
"""

import http.client
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

#: Host names, or with a leading dot, their endings: Chrome and others, Firefox, Safari, Edge.
KNOWN: Final = (
    "fcm.googleapis.com",
    "updates.push.services.mozilla.com",
    ".push.services.mozilla.com",
    ".push.apple.com",
    ".notify.windows.com",
)
TIMEOUT: Final = 5.0  # seconds
MAX_RETRY_AFTER: Final = 3_600.0  # seconds
#: The IPv6 addresses in public use (RFC 4291). This excludes, among others, networks that lead into IPv4 (NAT64).
GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")


class NoPushServiceError(ValueError):
    """This is not the address of a supported push service."""


@dataclass(frozen=True)
class Answer:
    """The response of a push service. ``retry_after`` is in seconds."""

    status: int
    retry_after: float | None = None


def check_endpoint(endpoint: str) -> str:
    """
    Return the host of an endpoint.

    Raises:
        NoPushServiceError: it is not the https URL of a known push service.
    """
    if not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint or "\\" in endpoint:
        raise NoPushServiceError("The endpoint must be a plain URL.")
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError:
        raise NoPushServiceError("The endpoint must be a URL.") from None
    host = parts.hostname or ""
    is_plain = parts.username is None and parts.password is None and port in {None, 443} and not parts.fragment
    if parts.scheme != "https" or not is_plain or parts.netloc.lower() not in {host, f"{host}:443"}:
        raise NoPushServiceError("The endpoint must be an https URL, without a port or a user.")
    if not any(host.endswith(known) if known.startswith(".") else host == known for known in KNOWN):
        raise NoPushServiceError("This push service is not supported.")
    return host


def post(endpoint: str, body: bytes, headers: dict[str, str]) -> Answer:
    """
    Post to an endpoint.

    Raises:
        NoPushServiceError: it is not a push service, or its name has an address that is not public.
        OSError, http.client.HTTPException: the service did not answer in time.
    """
    host = check_endpoint(endpoint)
    parts = urlsplit(endpoint)
    connection = http.client.HTTPSConnection(host, timeout=TIMEOUT)
    try:
        connection.sock = connect(host)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, headers)
        response = connection.getresponse()
        return Answer(response.status, _seconds(response.getheader("Retry-After")))
    finally:
        connection.close()


def connect(host: str) -> socket.socket:
    """
    Return an encrypted connection to ``host``, at an address that was checked first.

    Raises:
        NoPushServiceError: one of the name's addresses is not public.
        OSError: the service cannot be reached.
    """
    addresses = [str(info[4][0]) for info in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)]
    if not addresses or not all(is_public(address) for address in addresses):
        raise NoPushServiceError("The host of this push service resolves to an address that is not public.")
    bare = socket.create_connection((addresses[0], 443), timeout=TIMEOUT)
    try:
        return ssl.create_default_context().wrap_socket(bare, server_hostname=host)
    except BaseException:
        bare.close()
        raise


def is_public(address: str) -> bool:
    """Whether an IP address is public, and does not lead to one that is not."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip not in GLOBAL_UNICAST or ip.sixtofour is not None or ip.teredo is not None:
            return False
    return ip.is_global and not ip.is_multicast


def _seconds(text: str | None) -> float | None:
    """Return ``Retry-After`` in seconds; dates are ignored, and the backoff applies."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        return None
    return min(float(text), MAX_RETRY_AFTER)
