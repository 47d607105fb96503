"""The definition of persons in `docs/identity.md`, written for clarity, and links to compare it on."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from retail_core.attribution import MAX_LINKED_IDS, Link


def owner(links: Iterable[Link], user_id: str, event_time: int, as_of: int) -> str:
    """The person to whom an event of `user_id` at `event_time` belongs at `as_of`."""
    known = [link for link in links if link.linked_at < as_of and link.from_id != link.to_id]
    if not _is_plausible(known, user_id):
        return user_id
    while own := sorted((_first(known, link), link.to_id) for link in known if link.from_id == user_id):
        earlier = [entry for entry in own if entry[0] <= event_time]
        user_id = (earlier or own[:1])[-1][1]
    return user_id


def _first(links: list[Link], link: Link) -> int:
    return min(other.linked_at for other in links if other[:2] == link[:2])


def _is_plausible(links: list[Link], user_id: str) -> bool:
    group = {user_id}
    while further := {i for link in links if group & {*link[:2]} for i in link[:2]} - group:
        group |= further
    return len(group) <= MAX_LINKED_IDS + 1 and not any(_leads_back(links, name) for name in group)


def _leads_back(links: list[Link], start: str) -> bool:
    reached = {link.to_id for link in links if link.from_id == start}
    while further := {link.to_id for link in links if link.from_id in reached} - reached:
        reached |= further
    return start in reached


def random_links(unit: int = 1, last: int = 11, names: str = "abcdefg") -> st.SearchStrategy[list[Link]]:
    """Up to ten links of the ids at times 0, `unit`, ... `last * unit`, with chains and cycles."""
    ids = st.sampled_from(names)
    link = st.builds(lambda a, b, at: Link(a, b, at * unit), ids, ids, st.integers(0, last))
    return st.lists(link, max_size=10)
