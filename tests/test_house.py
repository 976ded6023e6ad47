"""Who makes room when a server's house is full."""

import pytest

from kedge.house import House


@pytest.fixture
def closed():
    return []


@pytest.fixture
def house(closed):
    """For four connections, two of one client."""
    return House(4, closed.append)


def enter(house, *ones):
    for one in ones:
        house.enter(one, one[0])


def test_the_longest_idle_connection_makes_room(house, closed):
    enter(house, "a1", "b1", "c1", "d1")
    house.begin("a1")
    house.rest("a1")  # just now
    enter(house, "e1", "f1")
    assert closed == ["b1", "c1"]
    assert house.begin("e1")


def test_of_a_client_with_more_than_its_share_its_own_makes_room(house, closed):
    enter(house, "b1", "a1", "a2", "a3")
    assert closed == ["a1"]


def test_where_all_are_at_work_a_new_one_is_not_served_until_one_is_gone(house, closed):
    enter(house, "a1", "b1", "c1", "d1")
    assert all(map(house.begin, ("a1", "b1", "c1", "d1")))
    enter(house, "e1")
    assert closed == []
    assert not house.begin("e1")
    house.leave("a1")
    assert house.begin("e1")


def test_a_client_whose_own_are_all_at_work_is_not_served_more(house):
    enter(house, "a1", "a2")
    assert house.begin("a1")
    assert house.begin("a2")
    enter(house, "a3", "b1")
    assert not house.begin("a3")
    assert house.begin("b1")


def test_who_leaves_twice_or_never_came_harms_nobody(house):
    enter(house, "a1")
    for _ in range(2):
        house.leave("a1")
    house.leave("never")
    house.rest("never")
    assert house.begin("never")
