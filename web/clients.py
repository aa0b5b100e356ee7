"""
Clients as limits count them: by IPv4 address, or by the first half of an IPv6 one.

A client with one IPv6 address usually has a whole /64 network, and could otherwise appear as a new client with each
request.
"""

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from rest_framework.throttling import BaseThrottle

#: The form that some proxies use: ``192.0.2.1:4711`` or ``[2001:db8::1]:4711``.
WITH_PORT: Final = re.compile(r"\[(?P<v6>[^\]]+)\](:[0-9]+)?|(?P<v4>[0-9.]+):[0-9]+")


def network_of(request: Any) -> IPv4Network | IPv6Network | None:
    """Return the client's network; None if it has no address, for example on a Unix socket."""
    text = str(BaseThrottle().get_ident(request) or "").strip()
    if with_port := WITH_PORT.fullmatch(text):
        text = with_port["v6"] or with_port["v4"]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return ip_network((int(address), 64), strict=False)
        address = address.ipv4_mapped
    return ip_network(address)


def client_of(request: Any) -> str:
    """Return the name under which a request is counted: ``192.0.2.1/32``, ``2001:db8::/64``, or ``unknown``."""
    return str(network_of(request) or "unknown")
