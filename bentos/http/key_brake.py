"""Limits how many wrong API keys a client address may try."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from functools import lru_cache

ATTEMPTS = 10
"""Wrong keys in a row that an address may send without a pause."""

ATTEMPTS_PER_SECOND = 1 / 6
"""Wrong keys per second beyond that: ten per minute."""

MAX_ADDRESSES = 10_000
MAX_KNOWN = 10_000
IPV6_PREFIX = 64
"""Addresses of one IPv6 network of this length are one client: providers assign networks, not addresses."""


class KeyBrake:
    """One token bucket of wrong keys per client address.

    An address without tokens is refused before its key is looked at, so that it cannot learn whether a guess
    was right. A key that was right from the same address before stays accepted: a client behind the same
    proxy as an attacker is not locked out. Both tables are bounded; the oldest entries are dropped.
    """

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._known: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def wait_seconds(self, address: str, digest: bytes, clock_seconds: float) -> float:
        """0 if this address may try this key now, else the seconds until it may."""
        if address not in self._buckets or (address, digest) in self._known:
            return 0.0
        tokens = self._tokens(address, clock_seconds)
        return 0.0 if tokens >= 1.0 else (1.0 - tokens) / ATTEMPTS_PER_SECOND

    def key_was_wrong(self, address: str, digest: bytes, clock_seconds: float) -> None:
        """Count a wrong key."""
        self._known.pop((address, digest), None)
        self._buckets[address] = (max(0.0, self._tokens(address, clock_seconds) - 1.0), clock_seconds)
        self._buckets.move_to_end(address)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)

    def key_was_right(self, address: str, digest: bytes) -> None:
        """Remember that this address has this key."""
        pair = (address, digest)
        if pair in self._known:
            return
        self._known[pair] = None
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def _tokens(self, address: str, clock_seconds: float) -> float:
        tokens, updated = self._buckets.get(address, (float(ATTEMPTS), clock_seconds))
        return min(float(ATTEMPTS), tokens + (clock_seconds - updated) * ATTEMPTS_PER_SECOND)


@lru_cache(maxsize=1024)
def client_network(address: str) -> str:
    """The client that an address counts as: itself, or its network of IPv6.

    >>> client_network("192.0.2.7"), client_network("2001:db8:1:2:3::4"), client_network("::ffff:192.0.2.7")
    ('192.0.2.7', '2001:db8:1:2::/64', '192.0.2.7')
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, IPV6_PREFIX), strict=False))
