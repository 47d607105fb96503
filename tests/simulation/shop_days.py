"""Days of a shop under faults: one seed decides what happens and what fails, and a seed replays them."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pymongo.errors import PyMongoError

from retail_core.errors import RetailError
from retail_core.settings import Settings
from tests.simulation.expected_shop import USERS, Delivery, ExpectedShop, make_delivery
from tests.simulation.fault_injection import Fault, FaultInjector, Interface, Kind, SimulatedKill
from tests.simulation.simulated_home import SimulatedHome, unequal_features, violations

FAULT_SHARE = 0.6
"""Share of the commands, also of repeated ones, that have a fault ahead."""

_MOST_ATTEMPTS = 6
_VERSIONS = ("1", "2", "3", "4")


@dataclass
class Findings:
    """What a simulation did and found.

    Attributes:
        days: simulated days.
        commands: number of commands by name.
        faults: number of faults that happened, by interface and kind.
        violations: one sentence each, with day and command.
    """

    days: int = 0
    commands: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


class ShopDays:
    """A shop of one seed; `settings` name an empty home with versions 1 to 4, of which 1 is in production."""

    def __init__(self, settings: Settings, folder: Path, seed: int) -> None:
        self.shop, self.home = ExpectedShop(), SimulatedHome(settings, folder)
        self.findings, self.injector = Findings(), FaultInjector()
        self._random = random.Random(seed)
        self._name = ""
        self._calls: defaultdict[str, Counter[Interface]] = defaultdict(Counter)
        self._files: dict[str, Path] = {}
        self._deliveries: dict[str, Delivery] = {}

    def live(self, days: int) -> Findings:
        """Simulate days; ends with the first violation."""
        with self.injector.installed():
            for _ in range(days):
                for _ in range(self._random.randint(1, 3)):
                    self._command()
                self._note("features", unequal_features(self.home, self.shop))
                if self.findings.violations:
                    break
                self.home.day += 1
                self.findings.days += 1
        return self._finished()

    def _finished(self) -> Findings:
        happened = self.injector.happened.items()
        self.findings.faults.update({f"{where}: {kind}": count for (where, kind), count in happened})
        return self.findings

    def _command(self) -> None:
        commands = {
            self._ingest: 8, self._post: 5, self._copy: 1, self._synchronize: 2,
            self._score: 2, self._undo: 2, self._erase: 2, self._promote: 1, self._roll_back: 1,
        }  # fmt: skip
        command = self._random.choices(list(commands), list(commands.values()))[0]
        self._name = name = command.__name__.strip("_")
        self.findings.commands[name] += 1
        self._note(name, command())
        self.injector.begin(None)
        self._note(name, violations(self.home, self.shop))

    def _note(self, name: str, found: list[str]) -> None:
        self.findings.violations += [f"day {self.home.day}, {name}: {sentence}" for sentence in found]

    def _run(self, command: Callable[[], None]) -> list[str]:
        """Repeat a command, as a person would, until it ends well; errors without a fault are violations."""
        for attempt in range(_MOST_ATTEMPTS):
            self.injector.begin(self._fault(self._name) if attempt < _MOST_ATTEMPTS - 1 else None)
            try:
                command()
            except (SimulatedKill, RetailError, PyMongoError, OSError) as error:
                if self.injector.fault is None:
                    return [f"{type(error).__name__} without a fault: {error}"]
            except Exception as error:  # noqa: BLE001 - which one is what the simulation finds out
                return [f"{type(error).__name__} after {self.injector.fault}: {error}"]
            else:
                self._calls[self._name] |= self.injector.calls
                return []
        return []

    def _fault(self, name: str) -> Fault | None:
        """A fault at a call that this command made when it ran before; each interface is as likely."""
        calls = {interface: count for interface, count in sorted(self._calls[name].items()) if count}
        if not calls or self._random.random() > FAULT_SHARE:
            return None
        interface = self._random.choice(list(calls))
        return Fault(
            interface,
            self._random.choice(list(Kind)),
            call=self._random.randrange(calls[interface]),
            after=self._random.random() < 0.5,
            repeats=self._random.choice((1, 1, 4)),
        )

    def _new_delivery(self) -> Delivery:
        name = f"delivery-{len(self._deliveries)}"
        delivery = make_delivery(self._random, self.shop, name, self.home.day)
        self._deliveries[name] = delivery
        return delivery

    def _ingest(self) -> list[str]:
        delivery = self._new_delivery()
        path = self.home.write_file(delivery, delivery.name)
        self._files[delivery.name] = path
        found = self._run(lambda: self.home.ingest(path))
        self.shop.add(delivery)
        return found

    def _copy(self) -> list[str]:
        """The same content under another name: nothing changes."""
        if not self._files:
            return []
        name = self._random.choice(sorted(self._files))
        path = self.home.write_file(self._deliveries[name], f"copy-of-{name}")
        return self._run(lambda: self.home.ingest(path))

    def _post(self) -> list[str]:
        delivery = self._new_delivery()
        found = self._run(lambda: self.home.post(delivery))
        self.shop.add(delivery)
        return found

    def _synchronize(self) -> list[str]:
        return self._run(self.home.synchronize)

    def _score(self) -> list[str]:
        return self._run(self.home.score)

    def _undo(self) -> list[str]:
        if not self._files:
            return []
        name = self._random.choice(sorted(self._files))
        path = self._files.pop(name)
        found = self._run(lambda: self.home.undo(path))
        self.shop.remove(name)
        return found

    def _erase(self) -> list[str]:
        user = self._random.choice(USERS)
        found = self._run(lambda: self.home.erase(user))
        self.shop.erase(user)
        return found

    def _promote(self) -> list[str]:
        version = self._random.choice([v for v in _VERSIONS if v != self.shop.champions[-1]])
        found = self._run(lambda: self.home.promote(version))
        self.shop.champions.append(version)
        return found

    def _roll_back(self) -> list[str]:
        if len(self.shop.champions) < 2:
            return []
        champion = self.shop.champions[-1]
        found = self._run(lambda: self.home.rollback(champion))
        self.shop.champions.pop()
        return found
