"""Alerts about changes of the version in production and about a certificate that it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retail_core.alerts.alert import Alert, AlertKind
from retail_core.alerts.raising import store_alert
from retail_core.errors import RetailError
from retail_core.model.spec import ModelSpec
from retail_core.registry import versions as registry
from retail_core.registry.promotion_record import ROLLBACK, Entry
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store


def store_change_alerts(store: Store, entry: Entry) -> None:
    """Store the alerts of an entry of the promotion record; repeating it adds none."""
    store_alert(store, change_alert(entry), at=entry["at"])
    if entry["previous"] is None:
        return
    before, now = (_spec(store.settings, entry[name]) for name in ("previous", "version"))
    if before and now and before.certificate and not now.certificate:
        withdrawn = certificate_alert(entry, before.certificate, now.reasons.get(now.primary))
        store_alert(store, withdrawn, at=entry["at"])


def change_alert(entry: Entry) -> Alert:
    """The alert of a promotion or rollback."""
    version, previous = entry["version"], entry["previous"]
    text = f"By {entry.get('actor') or 'an unknown user'}. Reason: {entry.get('reason')}."
    key = str(entry["_id"])
    if entry["kind"] == ROLLBACK:
        return Alert(
            AlertKind.ROLLED_BACK,
            key,
            f"Version {previous} was rolled back; version {version} is in production",
            text,
            f"find out what was wrong with version {previous}: `retail models show {previous}`, `retail "
            f"monitor`. `retail models promote {previous}` puts it back.",
        )
    instead = f" instead of version {previous}" if previous else ""
    return Alert(
        AlertKind.PROMOTED,
        key,
        f"Version {version} is in production{instead}",
        text,
        "nothing, if this was expected; `retail models history` shows the evidence, and `retail models "
        "rollback` undoes it.",
    )


def certificate_alert(entry: Entry, certificate: Mapping[str, Any], reason: str | None) -> Alert:
    """The alert that the version in production certifies no recall, while the one before it did."""
    return Alert(
        AlertKind.CERTIFICATE_WITHDRAWN,
        str(entry["_id"]),
        f"Version {entry['version']} has no certified recall",
        f"Version {entry['previous']} certified that its list finds at least "
        f"{certificate['lower_bound']:.1%} of the buyers. Version {entry['version']} does not: "
        f"{reason or 'no reason is recorded'}.",
        "do not promise a recall for the lists of this version. More days with purchases allow a "
        "certificate: `retail models recalibrate`, or `retail train`.",
    )


def _spec(settings: Settings, version: str) -> ModelSpec | None:
    """The specification of a version; None where it cannot be read, which must not stop a promotion."""
    try:
        return registry.version_spec(settings, version)
    except RetailError:
        return None
