r"""What one check of a rate limit costs (decision 0007).

    uv pip install --no-deps --target /some/folder \
        limits pyrate-limiter aiolimiter token-bucket throttled-py deprecated wrapt
    PYTHONPATH=.:/some/folder python -m tests.benchmarks.decisions.rate_limits

Ten keys in turn, a limit that is never reached, CPU time of the best of twenty rounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from bentos.http.guard import RateLimiter

CHECKS, ROUNDS = 5_000, 20
KEYS = [f"key{number}" for number in range(10)]


def report(title: str, check: Callable[[str], object]) -> None:
    best = min(_round(check) for _ in range(ROUNDS))
    print(f"{title:44} {best / CHECKS * 1e9:6.0f} ns a check")


def _round(check: Callable[[str], object]) -> float:
    started = time.thread_time()
    for number in range(CHECKS):
        check(KEYS[number % 10])
    return time.thread_time() - started


def project_bucket() -> Callable[[str], object]:
    limiter, keys = RateLimiter(1e9), {key: key.encode() for key in KEYS}
    return lambda key: limiter.wait_seconds(keys[key], time.monotonic())


def limits_library(strategy: str) -> Callable[[str], object]:
    import limits.storage
    import limits.strategies

    limiter = getattr(limits.strategies, strategy)(limits.storage.MemoryStorage())
    item = limits.RateLimitItemPerSecond(10**6)
    return lambda key: limiter.hit(item, key)


def pyrate() -> Callable[[str], object]:
    from pyrate_limiter import Duration, Limiter, Rate

    limiters = {key: Limiter(Rate(10**6, Duration.SECOND)) for key in KEYS}
    return lambda key: limiters[key].try_acquire(key, blocking=False)


def token_bucket() -> Callable[[str], object]:
    from token_bucket import Limiter, MemoryStorage

    limiter = Limiter(10**7, 10**7, MemoryStorage())
    keys = {key: key.encode() for key in KEYS}
    return lambda key: limiter.consume(keys[key])


def throttled() -> Callable[[str], object]:
    from throttled import Throttled, rate_limiter, store

    quota = rate_limiter.per_sec(10**7, burst=10**7)
    limiter = Throttled(using="token_bucket", quota=quota, store=store.MemoryStore())
    return limiter.limit


async def aiolimiter_round() -> float:
    from aiolimiter import AsyncLimiter

    limiters = {key: AsyncLimiter(10**7, 1) for key in KEYS}
    started = time.thread_time()
    for number in range(CHECKS):
        limiter = limiters[KEYS[number % 10]]
        if limiter.has_capacity():
            await limiter.acquire()
    return time.thread_time() - started


def main() -> None:
    report("the project's token bucket", project_bucket())
    for strategy in ("FixedWindowRateLimiter", "MovingWindowRateLimiter", "SlidingWindowCounterRateLimiter"):
        report(f"limits, {strategy}", limits_library(strategy))
    report("pyrate-limiter, a limiter a key", pyrate())
    report("token-bucket", token_bucket())
    report("throttled-py, token bucket", throttled())
    best = min(asyncio.run(aiolimiter_round()) for _ in range(ROUNDS))
    print(f"{'aiolimiter, a limiter a key':44} {best / CHECKS * 1e9:6.0f} ns a check")


if __name__ == "__main__":
    main()
