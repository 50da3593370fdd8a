"""Tickets: each good once, for a while, for one engine."""

from __future__ import annotations

import pytest

from speech_engine_local.cloud import tickets as tickets_module
from speech_engine_local.cloud.tickets import LIFETIME, Ticket, TicketError, Tickets


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tickets(clock: Clock) -> Tickets:
    return Tickets(clock=clock)


def test_a_ticket_tells_what_it_was_issued_for(tickets: Tickets) -> None:
    assert tickets.redeem(tickets.issue("seng_1"), "seng_1") == Ticket("seng_1", None)
    secret = tickets.issue("seng_1", "conv_7")
    assert tickets.redeem(secret, "seng_1") == Ticket("seng_1", "conv_7")


def test_no_two_are_alike_and_none_can_be_guessed(tickets: Tickets) -> None:
    secrets = {tickets.issue("seng_1") for _ in range(100)}
    assert len(secrets) == 100
    assert min(map(len, secrets)) >= 43  # 32 random bytes


def test_it_is_good_once(tickets: Tickets) -> None:
    secret = tickets.issue("seng_1")
    tickets.redeem(secret, "seng_1")
    with pytest.raises(TicketError, match="was used") as caught:
        tickets.redeem(secret, "seng_1")
    assert caught.value.reason == str(caught.value)


@pytest.mark.parametrize("secret", ["", "x", "\ud800", "x" * 1_000_000])
def test_an_unknown_one_is_refused(tickets: Tickets, secret: str) -> None:
    tickets.issue("seng_1")
    with pytest.raises(TicketError, match="expected one of this cloud"):
        tickets.redeem(secret, "seng_1")


def test_it_expires(tickets: Tickets, clock: Clock) -> None:
    early, late = tickets.issue("seng_1"), tickets.issue("seng_1")
    clock.now += LIFETIME - 0.001
    tickets.redeem(early, "seng_1")
    clock.now += 0.001
    with pytest.raises(TicketError, match="has expired"):
        tickets.redeem(late, "seng_1")


def test_that_of_another_engine_is_refused_and_stays_good(tickets: Tickets) -> None:
    secret = tickets.issue("seng_1")
    with pytest.raises(TicketError, match="another agent_id"):
        tickets.redeem(secret, "seng_2")
    assert tickets.redeem(secret, "seng_1").engine_id == "seng_1"


def test_expired_ones_are_forgotten(tickets: Tickets, clock: Clock) -> None:
    secret = tickets.issue("seng_1")
    clock.now += LIFETIME
    tickets.issue("seng_1")
    with pytest.raises(TicketError, match="expected one of this cloud"):
        tickets.redeem(secret, "seng_1")


def test_they_are_bounded(tickets: Tickets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets_module, "MAX_TICKETS", 3)
    oldest, *others = [tickets.issue("seng_1") for _ in range(4)]
    with pytest.raises(TicketError):
        tickets.redeem(oldest, "seng_1")
    for secret in others:
        tickets.redeem(secret, "seng_1")
