"""Passwords and bad tokens: bans are checked before the work, and failures are counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sidecar.auth.password_auth import INVALID_PASSWORD, PasswordAuth, too_many_failures
from sidecar.auth.password_verifier import PasswordVerifier
from sidecar.auth.throttle import Throttle, ThrottleLimits
from sidecar.core.errors import Overloaded
from sidecar.core.model import Denial
from sidecar.core.policy import Account
from sidecar.observability.audit import Actor, AuditLog
from sidecar.store.memory import MemoryFailureCounters

HERE, THERE = "192.0.2.1", "198.51.100.7"
ACCOUNTS = {"acme": Account("acme", password_hash="hash:right")}
INVALID_TOKEN = Denial("invalid_token", "It is bad.")
FAILURES, BAN_SECONDS = 3, 300


class House:
    """An admission with a real throttle, one lane, and a hash that can be made to wait."""

    def __init__(self, room: int = 128) -> None:
        self.now = 1_800_000_000.0
        self.hashed: list[str] = []
        self.released = asyncio.Event()
        self.released.set()
        self.lines: list[bytes] = []
        self.sign_in = PasswordVerifier(self.verify, room=room, room_for_suspects=room)
        self.throttle = Throttle(
            MemoryFailureCounters(lambda: self.now),
            ThrottleLimits(FAILURES, 60, BAN_SECONDS),
            lambda *_: None,
            now=lambda: self.now,
        )
        audit = AuditLog(lambda lines, _: self.lines.append(lines), ACCOUNTS.__contains__)
        self.password_auth = PasswordAuth(self.sign_in, self.throttle, audit)

    async def verify(self, password: str, phc: str) -> bool:
        self.hashed.append(password)
        await self.released.wait()
        return phc == f"hash:{password}"

    async def authenticate(
        self, password: str, client: str = HERE, name: str = "acme"
    ) -> Denial | None:
        return await self.password_auth.authenticate(ACCOUNTS, name, password, client, Actor.PROXY)

    def cached_proof(self, password: str, client: str) -> bool:
        return self.password_auth.cached_proof(ACCOUNTS["acme"], password, client) is not None

    def ban(self, client: str) -> None:
        for _ in range(FAILURES):
            assert self.password_auth.refuse_token(INVALID_TOKEN, client) is INVALID_TOKEN


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    house.sign_in.close()


async def test_the_failure_that_reaches_the_limit_is_the_last_401(house: House) -> None:
    answers = [await house.authenticate(f"wrong {i}") for i in range(FAILURES)]
    assert answers == [INVALID_PASSWORD] * FAILURES
    assert await house.authenticate("right") == too_many_failures(BAN_SECONDS)
    assert len(house.hashed) == FAILURES, "nothing is hashed for who is banned"
    house.now += BAN_SECONDS
    assert await house.authenticate("right") is None


async def test_a_bad_token_counts_until_its_client_is_banned(house: House) -> None:
    house.ban(HERE)
    assert house.password_auth.refuse_token(INVALID_TOKEN, HERE) == too_many_failures(BAN_SECONDS)
    assert house.password_auth.refuse_token(INVALID_TOKEN, THERE) is INVALID_TOKEN


async def test_a_remembered_password_reveals_nothing_to_a_banned_guesser(house: House) -> None:
    assert await house.authenticate("right", THERE) is None
    assert house.cached_proof("right", THERE)
    house.ban(HERE)
    assert not house.cached_proof("right", HERE)
    assert await house.authenticate("right", HERE) == await house.authenticate("wrong", HERE)
    assert house.hashed == ["right"]


async def test_who_has_signed_in_from_there_is_not_shut_out_by_others(house: House) -> None:
    assert await house.authenticate("right", THERE) is None
    for i in range(FAILURES):
        await house.authenticate(f"wrong {i}", HERE)
    house.ban(THERE)
    assert house.cached_proof("right", THERE)
    assert await house.authenticate("right", THERE) is None
    assert await house.authenticate("right", "203.0.113.1") == too_many_failures(BAN_SECONDS)


async def test_a_remembered_password_makes_each_client_that_uses_it_welcome(house: House) -> None:
    assert await house.authenticate("right", THERE) is None
    assert house.cached_proof("right", HERE)
    house.ban(HERE)
    assert house.cached_proof("right", HERE)


async def test_a_password_that_waits_asks_again_when_its_turn_comes(house: House) -> None:
    house.released.clear()
    waiting = [asyncio.ensure_future(house.authenticate(f"wrong {i}")) for i in range(10)]
    await asyncio.sleep(0.01)
    house.ban(HERE)
    house.released.set()
    assert await asyncio.gather(*waiting) == [too_many_failures(BAN_SECONDS)] * 10
    assert house.hashed == ["wrong 0"], "one was at it when the ban came"


async def test_of_many_at_once_no_more_than_the_limit_learn_that_they_are_wrong(
    house: House,
) -> None:
    answers = await asyncio.gather(*(house.authenticate("wrong") for _ in range(20)))
    assert [answer and answer.code for answer in answers] == [
        *["invalid_password"] * FAILURES,
        *["too_many_failures"] * (20 - FAILURES),
    ]


async def test_a_verification_runs_while_one_of_its_clients_is_allowed(house: House) -> None:
    house.released.clear()
    first = asyncio.ensure_future(house.authenticate("wrong", THERE))
    both = [asyncio.ensure_future(house.authenticate("right", client)) for client in (HERE, THERE)]
    await asyncio.sleep(0.01)
    house.ban(HERE)
    house.released.set()
    assert await first is INVALID_PASSWORD
    assert await asyncio.gather(*both) == [None, None]
    assert house.hashed == ["wrong", "right"]


async def test_who_hangs_up_is_counted_all_the_same(house: House) -> None:
    house.released.clear()
    leaving = [asyncio.ensure_future(house.authenticate("wrong")) for _ in range(FAILURES)]
    await asyncio.sleep(0.01)
    for caller in leaving:
        caller.cancel()
    house.released.set()
    async with asyncio.timeout(10):
        while house.throttle.check(HERE, "acme") is None:
            await asyncio.sleep(0.01)


async def test_a_wrong_password_is_audited_and_never_shown(house: House) -> None:
    await house.authenticate("wrong")
    await house.authenticate("wrong", name="nobody")
    assert [b'"account":"acme"' in line for line in house.lines] == [True, False]
    assert not [line for line in house.lines if b"wrong" in line or b"nobody" in line]


async def test_overload_does_not_count_as_a_failure() -> None:
    house = House(room=0)
    for _ in range(FAILURES + 1):
        with pytest.raises(Overloaded):
            await house.authenticate("wrong")
    assert house.throttle.check(HERE, "acme") is None


@pytest.mark.parametrize("spelling", ["ACME", "a.c.m.e", "acme.", "ａｃｍｅ", "Ａcme"])
async def test_another_spelling_does_not_get_round_a_ban(house: House, spelling: str) -> None:
    clients: Any = iter(range(100))
    for i in range(FAILURES):
        await house.authenticate(f"wrong {i}", f"198.51.100.{next(clients)}")
    denial = await house.authenticate("right", f"198.51.100.{next(clients)}", spelling)
    assert denial == too_many_failures(BAN_SECONDS)


async def test_an_accent_written_in_two_ways_is_one_account(house: House) -> None:
    for i in range(FAILURES):
        await house.authenticate(f"wrong {i}", f"198.51.100.{i}", "caf\u00e9")
    denial = await house.authenticate("wrong", "198.51.100.99", "cafe\u0301")
    assert denial == too_many_failures(BAN_SECONDS)
