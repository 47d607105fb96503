"""Warnings about identity links that no person can have, and that are therefore not applied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from retail_core.attribution import ImplausibleLinks, resolve
from retail_core.sources.parse_notes import Example, ParseNotes, ValueWarning
from retail_core.sources.refusals import REMEDIES
from retail_core.sources.source import Source
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.identities import linked_ids_of_files, read_links

RULE = "identity_implausible"


def link_notes(store: Store, source: Source, file_ids: Sequence[str]) -> ParseNotes:
    """One warning for the links that are not applied, with the ids of the largest groups.

    Groups of connected ids count to which a link of one of the files belongs.
    """
    group_of = {member: group for group in resolve(read_links(store)).implausible for member in group.members}
    if not group_of:
        return ParseNotes()
    linked_ids = linked_ids_of_files(store, file_ids)
    groups = {group_of[user_id] for user_id in linked_ids if user_id in group_of}
    if not groups:
        return ParseNotes()
    largest = sorted(groups, key=lambda group: (-group.links, group.example))[:3]
    examples = tuple(Example(0, describe(group)) for group in largest)
    count = sum(group.links for group in groups)
    warning = ValueWarning(source.links.columns[0], RULE, count, examples, REMEDIES[RULE], personal=True)
    return ParseNotes((warning,))


def describe(group: ImplausibleLinks) -> str:
    """Which id it is about, and why its links are not applied."""
    reason = "links lead back to an id" if group.cycle else "more than a person has"
    return f"{group.example}: {group.ids:,} connected ids, {reason}"


def record_link_notes(store: Store, file_ids: Iterable[str], notes: ParseNotes) -> None:
    """Add the warnings to the summaries of ingested files, without ids."""
    warnings = notes.stored_documents()["warnings"]
    if warnings:
        query = {"_id": {"$in": list(file_ids)}, "summary": {"$exists": True}}
        store.ledger.update_many(query, {"$push": {"summary.warnings": {"$each": warnings}}})
