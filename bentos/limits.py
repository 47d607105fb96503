"""How often one key may ask: a token bucket a key."""

from __future__ import annotations

BURST_SECONDS = 2.0


class Limits:
    """At most `rate` requests a second on average and `BURST_SECONDS` times that at once; 0 is no limit.

    Buckets belong to accepted keys only, so there are never more of them than keys.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._most = max(1.0, rate * BURST_SECONDS)
        self._buckets: dict[bytes, tuple[float, float]] = {}

    def wait(self, key: bytes, now: float) -> float:
        """0 where the request may pass, else after how many seconds the next one may."""
        if not self.rate:
            return 0.0
        left, since = self._buckets.get(key, (self._most, now))
        left = min(self._most, left + (now - since) * self.rate)
        allowed = left >= 1.0
        self._buckets[key] = (left - 1.0 if allowed else left, now)
        return 0.0 if allowed else (1.0 - left) / self.rate
