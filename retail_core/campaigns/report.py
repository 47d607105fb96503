"""Report of a campaign: buyers and revenue that contacting added, or that this is too small to tell."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from retail_core.campaigns import records
from retail_core.campaigns.detectable_effect import detectable_increase
from retail_core.campaigns.effect import Effect, Estimate, Group, estimate_effect
from retail_core.errors import DataError
from retail_core.store.mongo.connection import Document, Store
from retail_core.times import iso

_BATCH = 10_000


@dataclass(frozen=True)
class GroupCounts:
    """One cell of the comparison: users of one group, and of one half by probability."""

    half: str
    group: str
    users: int
    buyers: int
    share: float


@dataclass(frozen=True)
class CampaignReport:
    """What contacting changed within the window; intervals of 95 %.

    Attributes:
        name: of the campaign.
        sent_at: first contact, UTC; both groups are judged from then on.
        until: end of the window, UTC.
        contacted: users of the contact group, contacted or not (intention to treat).
        reached: how many of them are recorded as contacted.
        control: users of the control group.
        contaminated: how many of these were contacted.
        share_contacted: share of buyers of the contact group.
        share_control: share of buyers of the control group.
        incremental_buyers: buyers in the contact group that contacting added.
        relative: increase of the share of buyers; None without buyers in the control group.
        incremental_revenue: revenue that contacting added, in `currency`.
        cost: of all contacts; None where the plan states none.
        cost_per_buyer: cost of an added buyer; None where the effect is too small to tell.
        currency: of most purchases; those in others count as buyers without revenue.
        halves: the 2 x 2 of higher and lower probability by group.
        verdict: the result in words.
    """

    name: str
    sent_at: datetime
    until: datetime
    contacted: int
    reached: int
    control: int
    contaminated: int
    share_contacted: float
    share_control: float
    incremental_buyers: Estimate
    relative: Estimate | None
    incremental_revenue: Estimate
    cost: float | None
    cost_per_buyer: float | None
    currency: str | None
    halves: tuple[GroupCounts, ...]
    verdict: str


def campaign_report(store: Store, name: str, *, window: timedelta, data_until: datetime) -> CampaignReport:
    """Compare the purchases of both groups in the window after the first contact.

    Args:
        store: the open store.
        name: of the campaign.
        window: time in which a purchase counts.
        data_until: until when the events are complete, aware.

    Raises:
        DataError: there is no such campaign, it was not sent, has no control group, or its window has not
            ended in the data.
    """
    campaign = records.find_campaign(store, name)
    if campaign["state"] != records.SENT:
        raise DataError(
            f"Campaign {name} is not recorded as sent.", remedy=f'run `retail campaign sent "{name}"`.'
        )
    until = campaign["sent_at"] + window
    if data_until < until:
        raise DataError(
            f"The window of campaign {name} ends at {iso(until)}, and the events at {iso(data_until)}.",
            remedy="ingest the log of these days first, or choose a shorter window.",
        )
    members = list(records.read_members(store, name))
    if not {records.CONTACT, records.CONTROL} <= {member["group"] for member in members}:
        raise DataError(
            f"Campaign {name} has no control group, so nothing tells what contacting changed.",
            remedy="hold out a share of the users with --control.",
        )
    purchases = _Purchases.read(store, [member["user_id"] for member in members], campaign["sent_at"], until)
    return _compare(store, campaign, members, purchases, until)


@dataclass(frozen=True)
class _Purchases:
    """Amount by user who bought in the window, in hundredths of `currency`."""

    amounts: dict[str, int]
    currency: str | None

    @classmethod
    def read(cls, store: Store, users: list[str], start: datetime, end: datetime) -> _Purchases:
        by_currency: dict[str | None, Counter[str]] = defaultdict(Counter)
        for first in range(0, len(users), _BATCH):
            query = {
                "user_id": {"$in": users[first : first + _BATCH]},
                "event_type": "purchase",
                "event_time": {"$gte": start, "$lt": end},
            }
            fields = {"user_id": 1, "price_minor": 1, "quantity": 1, "currency": 1}
            for event in store.events.find(query, fields):
                amount = (event.get("price_minor") or 0) * (event.get("quantity") or 1)
                by_currency[event.get("currency")][event["user_id"]] += amount
        currency = max(by_currency, key=lambda name: len(by_currency[name]), default=None)
        bought = dict.fromkeys((user for counts in by_currency.values() for user in counts), 0)
        return cls(bought | dict(by_currency.get(currency, {})), currency)

    def group(self, users: list[str]) -> Group:
        """Counts of a group of users."""
        paid = [self.amounts[user] / 100 for user in users if user in self.amounts]
        return Group(len(users), len(paid), sum(paid), sum(amount**2 for amount in paid))


def _compare(
    store: Store, campaign: Document, members: list[Document], purchases: _Purchases, until: datetime
) -> CampaignReport:
    users = {
        group: [member["user_id"] for member in members if member["group"] == group]
        for group in (records.CONTACT, records.CONTROL)
    }
    contact, control = (purchases.group(users[group]) for group in (records.CONTACT, records.CONTROL))
    effect = estimate_effect(contact, control)
    reached = set(store.campaign_contacts.distinct("user_id", {"campaign": campaign["_id"]}))
    contacts, cost = len(reached), campaign.get("cost")
    incremental = effect.share.times(contact.users)
    total_cost = None if cost is None else cost * contacts
    is_shown = not effect.share.includes_zero and effect.share.value > 0
    return CampaignReport(
        name=campaign["_id"],
        sent_at=campaign["sent_at"],
        until=until,
        contacted=contact.users,
        reached=len(reached & set(users[records.CONTACT])),
        control=control.users,
        contaminated=len(reached & set(users[records.CONTROL])),
        share_contacted=contact.share,
        share_control=control.share,
        incremental_buyers=incremental,
        relative=effect.relative,
        incremental_revenue=effect.revenue.times(contact.users),
        cost=total_cost,
        cost_per_buyer=total_cost / incremental.value if total_cost is not None and is_shown else None,
        currency=purchases.currency,
        halves=_halves(members, purchases),
        verdict=_verdict(effect, contact, control),
    )


def _halves(members: list[Document], purchases: _Purchases) -> tuple[GroupCounts, ...]:
    middle = len(members) // 2
    halves: dict[str, list[Any]] = {"higher": members[:middle], "lower": members[middle:]}
    counts = []
    for half, of_half in halves.items():
        for name in (records.CONTACT, records.CONTROL):
            users = [member["user_id"] for member in of_half if member["group"] == name]
            buyers = sum(user in purchases.amounts for user in users)
            counts.append(GroupCounts(half, name, len(users), buyers, buyers / len(users) if users else 0.0))
    return tuple(counts)


def _verdict(effect: Effect, contact: Group, control: Group) -> str:
    share = effect.share
    buyers = share.times(contact.users)
    interval = f"95 % {buyers.interval[0]:+,.0f} to {buyers.interval[1]:+,.0f}"
    if not share.includes_zero:
        change = "added" if share.value > 0 else "cost"
        return f"Contacting {change} {abs(buyers.value):,.0f} buyers ({interval})."
    smallest = detectable_increase(control.share, contact.users, control.users)
    shown = "" if smallest is None else (
        f" With these groups an increase of {smallest * contact.users:,.0f} buyers would be shown with a "
        "probability of 80 %."
    )  # fmt: skip
    return f"Too small to tell: {buyers.value:+,.0f} buyers ({interval}).{shown}"
