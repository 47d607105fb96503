"""Attribution of events to persons by identity links, by hand and against the definition."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_core.attribution import MAX_LINKED_IDS, MAX_TIME, MIN_TIME, IdPeriod, Link, resolve
from tests.examples import examples
from tests.identity_oracle import owner, random_links


def test_before_its_link_an_id_is_a_user_of_its_own_and_then_all_its_events_are_the_persons() -> None:
    identities = resolve([Link("a1", "k1", 100)])
    assert [identities.person("a1", 50, as_of) for as_of in (60, 100, 101, 200)] == ["a1", "a1", "k1", "k1"]
    assert identities.periods("k1", 100) == [IdPeriod("k1")]
    assert identities.periods("k1", 101) == [IdPeriod("k1"), IdPeriod("a1")]
    assert identities.periods("a1", 100) == [IdPeriod("a1")]


def test_each_event_of_a_shared_device_belongs_to_one_person() -> None:
    identities = resolve([Link("d", "k1", 100), Link("d", "k2", 200), Link("d", "k1", 300)])
    assert [identities.person("d", time, 250) for time in (50, 150, 199, 200, 240)] == ["k1"] * 3 + ["k2"] * 2
    assert identities.person("d", 240, 150) == "k1"
    assert identities.periods("k1", 400) == [IdPeriod("k1"), IdPeriod("d", MIN_TIME, 200)]
    assert identities.periods("k2", 400) == [IdPeriod("k2"), IdPeriod("d", 200, MAX_TIME)]


def test_chains_follow_the_links_that_are_known() -> None:
    identities = resolve([Link("k1", "k2", 200), Link("a1", "k1", 100)])
    assert [identities.person("a1", 50, as_of) for as_of in (100, 150, 201)] == ["a1", "k1", "k2"]
    assert identities.periods("k1", 150) == [IdPeriod("a1"), IdPeriod("k1")]
    assert identities.periods("k2", 201) == [IdPeriod("k2"), IdPeriod("a1"), IdPeriod("k1")]


def test_a_link_that_arrives_again_keeps_its_first_time() -> None:
    assert resolve([Link("a", "k", 300), Link("a", "k", 100)]).person("a", 0, 101) == "k"
    assert resolve([Link("a", "a", 100)]).attributions == ()


def test_a_cycle_is_not_applied_from_the_link_on_that_closes_it() -> None:
    identities = resolve([Link("a", "b", 100), Link("b", "a", 200), Link("c", "a", 300)])
    assert [identities.person("a", 0, as_of) for as_of in (150, 200, 201)] == ["b", "b", "a"]
    assert [identities.person(name, 0, 400) for name in "abc"] == ["a", "b", "c"]
    (group,) = identities.implausible
    assert (group.example, group.ids, group.links, group.cycle, group.since) == ("a", 3, 3, True, 200)


def test_more_ids_than_one_person_can_have_are_not_applied_from_then_on() -> None:
    links = [Link(f"a{n}", "unknown", n) for n in range(MAX_LINKED_IDS + 1)]
    identities = resolve([*links, Link("late", "unknown", 10_000), Link("b", "k", 5)])
    last = MAX_LINKED_IDS
    assert identities.person("a0", 0, last) == "unknown"
    assert identities.person("a0", 0, last + 1) == "a0"
    assert identities.person("late", 0, 20_000) == "late"
    assert identities.person("b", 0, last + 1) == "k"
    (group,) = identities.implausible
    assert (group.example, group.ids, group.links, group.cycle) == ("unknown", last + 3, last + 2, False)
    assert resolve(links[:-1]).implausible == ()


@given(links=random_links(), as_of=st.integers(0, 12), time=st.integers(-1, 12))
@settings(max_examples=examples(300), deadline=None)
def test_every_event_has_the_owner_of_the_definition(links: list[Link], as_of: int, time: int) -> None:
    identities = resolve(links)
    for user_id in "abcdefg":
        assert identities.person(user_id, time, as_of) == owner(links, user_id, time, as_of)
    owned = [
        user_id
        for person in "abcdefg"
        for user_id, start, end in identities.periods(person, as_of)
        if start <= time < end and owner(links, user_id, time, as_of) == person
    ]
    assert sorted(owned) == list("abcdefg")


@given(links=random_links(), as_of=st.integers(0, 12), order=st.randoms())
@settings(max_examples=examples(200), deadline=None)
def test_later_links_change_nothing_at_the_cutoff(links: list[Link], as_of: int, order: object) -> None:
    known = [link for link in links if link.linked_at < as_of]
    order.shuffle(known)  # type: ignore[attr-defined]
    before, after = resolve(known), resolve(links)
    for user_id in "abcdefg":
        assert sorted(before.periods(user_id, as_of)) == sorted(after.periods(user_id, as_of))


def test_the_attributions_of_an_id_cover_all_times_once() -> None:
    identities = resolve([Link("a", "b", 1), Link("b", "c", 3), Link("a", "c", 5), Link("c", "a", 9)])
    for user_id in "abc":
        rows = [row for row in identities.attributions if row.user_id == user_id]
        for as_of in range(12):
            owners = [
                row.person
                for row in rows
                if row.known_from < as_of <= row.known_until and row.start <= 4 < row.end
            ]
            assert len(owners) == 1


@pytest.mark.parametrize("links", [[], [Link("a", "a", 1)]])
def test_without_links_every_id_is_its_own_person(links: list[Link]) -> None:
    identities = resolve(links)
    assert identities.person("a", 0, 1) == "a"
    assert identities.periods("a", 1) == [IdPeriod("a")]
