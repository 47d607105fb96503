"""False alarms and detection of the triggers `schema` and `freshness`, on simulated shops and real logs.

Example: python -m tests.benchmarks.bench_data_checks --shops 40
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np

from retail_core.arrays import IntArray
from retail_core.features.arrival_minutes import active_minutes
from retail_core.features.engine import LakeReader, open_engine
from retail_core.log_rhythm import MIN_LIMIT, RHYTHM_PERIOD, learn_rhythm
from retail_core.monitoring.profiles.day_profile import DayProfile, PlatformDay
from retail_core.monitoring.profiles.profile_queries import compute_profiles
from retail_core.monitoring.schema_changes import find_schema_changes
from retail_core.times import EPOCH
from tests.benchmarks.simulated_lake import START, simulated_days
from tests.benchmarks.source_lake import SHARED_DATA, write_lake

ONE_DAY = timedelta(days=1)
CHANGED_DAYS = 3
FIRST_CHECK = 15
DAY_MINUTES = 24 * 60
Edit = Callable[[PlatformDay], PlatformDay]


def profiles_of(lake: LakeReader, first: date, days: int, zone_name: str = "UTC") -> list[DayProfile]:
    with open_engine() as engine:
        return compute_profiles(engine, lake, (first, first + ONE_DAY * days), zone_name)


def shop_profiles(users: int, days: int, seed: int, drift: str | None = None) -> list[DayProfile]:
    with tempfile.TemporaryDirectory() as folder:
        lake, _ = simulated_days(Path(folder), users, days, seed, drift)
        return profiles_of(lake, START, days)


def without_field(name: str) -> Edit:
    def edit(platform: PlatformDay) -> PlatformDay:
        types = {
            kind: replace(counts, filled={**counts.filled, name: 0})
            for kind, counts in platform.types.items()
        }
        return replace(platform, types=types)

    return edit


def renamed(old: str, new: str) -> Edit:
    def edit(platform: PlatformDay) -> PlatformDay:
        return replace(
            platform, types={new if kind == old else kind: counts for kind, counts in platform.types.items()}
        )

    return edit


def without_type(name: str) -> Edit:
    def edit(platform: PlatformDay) -> PlatformDay:
        return replace(platform, types={k: v for k, v in platform.types.items() if k != name})

    return edit


EDITS: Mapping[str, tuple[Edit, str]] = {
    "price empty, every platform": (without_field("price_minor"), ""),
    "category empty on ios": (without_field("category"), "ios"),
    "add_to_cart renamed, every platform": (renamed("add_to_cart", "addToBasket"), ""),
    "purchase renamed on web": (renamed("purchase", "order"), "web"),
    "begin_checkout no longer sent by android": (without_type("begin_checkout"), "android"),
    "search no longer sent": (without_type("search"), ""),
}


def edited(profile: DayProfile, edit: Edit, platform: str) -> DayProfile:
    platforms = {
        name: edit(day) if platform in {"", name} else day for name, day in profile.platforms.items()
    }
    return replace(profile, platforms=platforms)


def without_platform(profile: DayProfile, platform: str) -> DayProfile:
    platforms = {name: day for name, day in profile.platforms.items() if name != platform}
    lost = profile.platforms[platform].users if platform in profile.platforms else 0
    return replace(profile, users=max(1, profile.users - lost), platforms=platforms)


def first_detection(profiles: Sequence[DayProfile], changed_days: int) -> int | None:
    """The whole day after the change at which the trigger first fires; None if it does not."""
    for day in range(1, changed_days + 1):
        if find_schema_changes(profiles[: len(profiles) - changed_days + day]).changes:
            return day
    return None


def quiet_shops(shops: int, users: int, days: int, first_seed: int) -> None:
    """Daily checks of quiet shops, and of the same shops with a change on the last three days."""
    alarms, checks = 0, 0
    detected: dict[str, Counter[int | None]] = {name: Counter() for name in [*EDITS, "ios lost"]}
    for seed in range(first_seed, first_seed + shops):
        profiles = shop_profiles(users, days, seed)
        for end in range(FIRST_CHECK, len(profiles) + 1):
            changes = find_schema_changes(profiles[:end]).changes
            checks += 1
            if changes:
                alarms += 1
                print(f"  seed {seed}, {profiles[end - 1].day}: {'; '.join(map(str, changes))}")
        past, newest = profiles[:-CHANGED_DAYS], profiles[-CHANGED_DAYS:]
        for name, (edit, platform) in EDITS.items():
            changed = [*past, *(edited(profile, edit, platform) for profile in newest)]
            detected[name][first_detection(changed, CHANGED_DAYS)] += 1
        lost = [*past, *(without_platform(profile, "ios") for profile in newest)]
        detected["ios lost"][first_detection(lost, CHANGED_DAYS)] += 1
        print(f"  seed {seed}: {checks:,} checks so far, {alarms} alarms", flush=True)
    print(
        f"schema, {shops} quiet shops of {users:,} users, {days} days: {alarms} alarms in {checks:,} checks"
    )
    for name, days_after in detected.items():
        print(f"  {name}: detected after {_by_day(days_after)}")


def changed_shops(shops: int, users: int, days: int, first_seed: int) -> None:
    """The drift `schema` of the simulator."""
    detected: Counter[int | None] = Counter()
    for seed in range(first_seed, first_seed + shops):
        profiles = shop_profiles(users, days, seed, "schema")
        changed = days - -(-2 * days // 3)
        detected[first_detection(profiles[: len(profiles) - changed + CHANGED_DAYS], CHANGED_DAYS)] += 1
    print(f"schema, {shops} shops with the drift `schema`: detected after {_by_day(detected)}")


def _by_day(days: Mapping[int | None, int]) -> str:
    texts = {day: f"day {day}" if day else "more than three days" for day in (1, 2, 3, None)}
    return ", ".join(f"{text} {days[day]}" for day, text in texts.items() if days.get(day))


def late_logs(minutes: IntArray, zone_name: str, name: str, closed: Sequence[date] = ()) -> None:
    """Silences of each day against the rhythm of the 56 days before it, checked at every minute."""
    alarms, days, limits = 0, 0, []
    period = RHYTHM_PERIOD // timedelta(minutes=1)
    for day in range(int(minutes[0]) // DAY_MINUTES + 57, int(minutes[-1]) // DAY_MINUTES):
        begin = day * DAY_MINUTES
        rhythm = learn_rhythm(minutes[(minutes >= begin - period) & (minutes < begin)], zone_name, closed)
        if rhythm is None:
            continue
        days += 1
        first, last = np.searchsorted(minutes, [begin, begin + DAY_MINUTES])
        current = minutes[max(0, int(first) - 1) : int(last)]
        limits.append(rhythm.lateness(_instant(int(current[0])), _instant(begin)).limit_hours)
        for number in np.flatnonzero(np.diff(current) >= MIN_LIMIT / timedelta(minutes=1)):
            newest, following = _instant(int(current[number])), _instant(int(current[number + 1]))
            silence = rhythm.lateness(newest, following)
            if silence.is_late:
                alarms += 1
                print(f"  {newest} to {following}: {silence.hours:.1f} h, limit {silence.limit_hours:.1f} h")
    print(f"freshness, {name}: {alarms} alarms in {days} days, median limit {np.median(limits):.1f} h")


def _instant(minute: int) -> datetime:
    return EPOCH + timedelta(minutes=minute)


def simulated_logs(shops: int, days: int) -> None:
    for users in (30, 100, 300, 1_000, 3_000):
        for seed in range(shops):
            with tempfile.TemporaryDirectory() as folder:
                lake, _ = simulated_days(Path(folder), users, days, seed)
                minutes = active_minutes(lake, _instant(0), _instant(10**8))
            late_logs(minutes, "Europe/London", f"quiet shop of {users:,} users, seed {seed}")


def real_logs(closed: Sequence[date]) -> None:
    """Both years of Online Retail: one shop, purchases and cancellations."""
    files = sorted(
        path
        for year in ("online_retail_2010", "online_retail")
        for path in (SHARED_DATA / year).glob("*.csv.gz")
    )
    with tempfile.TemporaryDirectory() as folder:
        lake = write_lake(files, "online_retail", Path(folder))
        first, last = (date.fromisoformat(Path(lake.files()[n]).stem) for n in (0, -1))
        profiles = profiles_of(lake, first, (last - first).days + 1, "Europe/London")
        minutes = active_minutes(lake, _instant(0), _instant(10**8))
    checks = range(FIRST_CHECK, len(profiles) + 1)
    for end in checks:
        if changes := find_schema_changes(profiles[max(0, end - 120) : end], closed).changes:
            print(f"  {profiles[end - 1].day}: {'; '.join(map(str, changes))}")
    print(f"schema, Online Retail: {len(checks)} checks")
    late_logs(minutes, "Europe/London", "Online Retail", closed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shops", type=int, default=4)
    parser.add_argument("--users", type=int, default=3_000)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1_000)
    parser.add_argument("--log-shops", type=int, default=0, help="Shops a size whose silences are checked.")
    parser.add_argument("--log-days", type=int, default=420)
    parser.add_argument("--real", action="store_true", help="Also the real logs.")
    parser.add_argument("--closed", default="", help="Closed days of the real log, separated by commas.")
    args = parser.parse_args()
    if args.shops:
        quiet_shops(args.shops, args.users, args.days, args.seed)
        changed_shops(max(1, args.shops // 2), args.users, args.days, args.seed)
    if args.log_shops:
        simulated_logs(args.log_shops, args.log_days)
    if args.real:
        real_logs([date.fromisoformat(day) for day in args.closed.split(",") if day])


if __name__ == "__main__":
    main()
