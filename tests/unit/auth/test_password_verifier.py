"""Password checks at a bounded cost: shared attempts, equal work, and a fair queue."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.password_verifier import PasswordVerifier
from sidecar.core.errors import Overloaded
from sidecar.core.policy import Account


class Hasher:
    """Stands in for Argon2id: counts, and can be made to wait. ``hash:x`` is the hash of ``x``."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.released = asyncio.Event()
        self.released.set()

    async def verify(self, password: str, phc: str) -> bool:
        self.calls.append((password, phc))
        await self.released.wait()
        return phc == f"hash:{password}"


@pytest.fixture
def hasher() -> Hasher:
    return Hasher()


class Attempt:
    """Waits for the verdict; ``failures`` count against it."""

    clients = itertools.count()

    def __init__(self, failures: int = 0, is_allowed: bool = True, client: str = "") -> None:
        self.client = client or f"client {next(self.clients)}"
        self.answer: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        self.counted = failures
        self._is_allowed = is_allowed

    def failures(self) -> int:
        return self.counted

    def is_allowed(self) -> bool:
        return self._is_allowed

    def settle(self, is_right: bool | None) -> None:
        if not self.answer.done():
            self.answer.set_result(is_right)

    def fail(self, error: BaseException | None) -> None:
        if error is None:
            self.answer.cancel()
        elif not self.answer.done():
            self.answer.set_exception(error)


async def check(
    verifier: PasswordVerifier,
    accounts: dict[str, Account],
    name: str,
    password: str,
    *,
    failures: int = 0,
    is_allowed: bool = True,
    client: str = "",
) -> bool | None:
    """Submit an attempt, and wait for the verdict."""
    attempt = Attempt(failures, is_allowed, client)
    verifier.submit(accounts, name, password, attempt)
    return await attempt.answer


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def verifier(hasher: Hasher, clock: Clock) -> AsyncIterator[PasswordVerifier]:
    verifier = PasswordVerifier(
        hasher.verify, 2, now=clock, room=2, room_for_suspects=2, remembered=3
    )
    yield verifier
    verifier.close()


def accounts(**passwords: str | None) -> dict[str, Account]:
    return {
        name: Account(name, password_hash=None if password is None else f"hash:{password}")
        for name, password in passwords.items()
    }


ACME = accounts(acme="secret")


async def test_only_the_accounts_own_password_is_right(verifier: PasswordVerifier) -> None:
    known = accounts(acme="secret", other="hidden")
    assert await check(verifier, known, "acme", "secret")
    assert not await check(verifier, known, "acme", "hidden")
    assert not await check(verifier, known, "Acme", "secret")


async def test_a_right_answer_is_remembered_for_a_while(
    verifier: PasswordVerifier, hasher: Hasher, clock: Clock
) -> None:
    for _ in range(3):
        assert await check(verifier, ACME, "acme", "secret")
    assert len(hasher.calls) == 1
    assert verifier.cached_proof(ACME["acme"], "secret")
    clock.seconds = 301.0
    assert not verifier.cached_proof(ACME["acme"], "secret")
    assert await check(verifier, ACME, "acme", "secret")
    assert len(hasher.calls) == 2


async def test_a_wrong_answer_is_not_remembered(verifier: PasswordVerifier, hasher: Hasher) -> None:
    for _ in range(3):
        assert not await check(verifier, ACME, "acme", "wrong")
    assert len(hasher.calls) == 3


async def test_a_changed_hash_forgets_the_old_password_at_once(
    verifier: PasswordVerifier, hasher: Hasher
) -> None:
    assert await check(verifier, ACME, "acme", "secret")
    changed = accounts(acme="new")
    assert not verifier.cached_proof(changed["acme"], "secret")
    assert not await check(verifier, changed, "acme", "secret")
    assert await check(verifier, changed, "acme", "new")


async def test_an_account_that_is_gone_is_not_remembered(verifier: PasswordVerifier) -> None:
    assert await check(verifier, ACME, "acme", "secret")
    assert not await check(verifier, {}, "acme", "secret")


@pytest.mark.parametrize(
    ("name", "password"),
    [("acme", "wrong"), ("nobody", "secret"), ("nobody", "wrong"), ("passwordless", "secret")],
)
async def test_every_refusal_costs_one_verification(
    verifier: PasswordVerifier, hasher: Hasher, name: str, password: str
) -> None:
    assert not await check(verifier, accounts(acme="secret", passwordless=None), name, password)
    assert len(hasher.calls) == 1


async def test_no_password_is_right_for_a_decoy_even_if_it_fits(
    hasher: Hasher,
) -> None:
    verifier = PasswordVerifier(hasher.verify, make_decoys=lambda hashes: lambda name: "hash:guess")
    for _ in range(2):
        assert not await check(verifier, ACME, "nobody", "guess")


async def test_concurrent_attempts_with_the_same_password_share_one_verification(
    verifier: PasswordVerifier, hasher: Hasher
) -> None:
    hasher.released.clear()
    asking = [asyncio.create_task(check(verifier, ACME, "acme", "secret")) for _ in range(50)]
    await asyncio.sleep(0.05)
    hasher.released.set()
    assert await asyncio.gather(*asking) == [True] * 50
    assert len(hasher.calls) == 1


async def test_a_client_that_leaves_does_not_cancel_the_answer_of_others(
    verifier: PasswordVerifier, hasher: Hasher
) -> None:
    hasher.released.clear()
    leaving, staying = (
        asyncio.create_task(check(verifier, ACME, "acme", "secret")) for _ in range(2)
    )
    await asyncio.sleep(0.05)
    leaving.cancel()
    hasher.released.set()
    assert await staying
    assert leaving.cancelled()


async def test_beyond_the_queue_the_answer_is_overloaded(
    verifier: PasswordVerifier, hasher: Hasher
) -> None:
    assert await check(verifier, ACME, "acme", "secret")
    hasher.released.clear()
    asking = [asyncio.create_task(check(verifier, ACME, "acme", f"wrong {i}")) for i in range(4)]
    await asyncio.sleep(0.05)
    with pytest.raises(Overloaded):
        await check(verifier, ACME, "acme", "one more")
    assert await check(verifier, ACME, "acme", "secret"), "what is remembered needs no queue"
    hasher.released.set()
    assert await asyncio.gather(*asking) == [False] * 4
    assert not await check(verifier, ACME, "acme", "one more")


async def test_what_is_remembered_is_bounded(verifier: PasswordVerifier) -> None:
    many = accounts(**{f"a{i}": "secret" for i in range(5)})
    for name in many:
        assert await check(verifier, many, name, "secret")
    known = [verifier.cached_proof(account, "secret") is not None for account in many.values()]
    assert known == [*[False] * 2, *[True] * 3]


PARTS = st.text(max_size=8)


@given(st.tuples(PARTS, PARTS, PARTS), st.tuples(PARTS, PARTS, PARTS))
def test_two_different_pairs_never_share_a_key(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assert (one == other) == (KEYED._digest(*one) == KEYED._digest(*other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "bc", ""), ("ab", "c", "")),
        (("a:b", "c", ""), ("a", "b:c", "")),
        (("a", "", "b"), ("a", "b", "")),
        (("é", "x", ""), ("e\u0301", "x", "")),
    ],
)
def test_moving_a_letter_from_one_part_to_another_is_another_key(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assert KEYED._digest(*one) != KEYED._digest(*other)


async def never(password: str, phc: str) -> bool:
    raise AssertionError


KEYED = PasswordVerifier(never)


async def test_a_digest_means_nothing_in_another_process() -> None:
    other = PasswordVerifier(never)
    assert KEYED._digest("a", "b", "c") != other._digest("a", "b", "c")
    other.close()


async def test_nothing_of_a_password_is_shown_or_kept(verifier: PasswordVerifier) -> None:
    assert await check(verifier, ACME, "acme", "secret")
    assert "secret" not in repr(verifier)
    assert not [key for key in verifier._known if b"secret" in key]


async def test_who_may_not_know_any_more_costs_nothing(
    verifier: PasswordVerifier, hasher: Hasher
) -> None:
    hasher.released.clear()
    running = [asyncio.create_task(check(verifier, ACME, "acme", f"wrong {i}")) for i in range(2)]
    waiting = asyncio.create_task(check(verifier, ACME, "acme", "secret", is_allowed=False))
    await asyncio.sleep(0.05)
    hasher.released.set()
    assert await asyncio.gather(*running, waiting) == [False, False, None]
    assert len(hasher.calls) == 2
    assert not verifier.cached_proof(ACME["acme"], "secret")


async def test_a_hash_that_can_not_be_made_is_a_fault_and_blocks_nobody() -> None:
    faults = 3

    async def verify(password: str, phc: str) -> bool:
        nonlocal faults
        faults -= 1
        if faults >= 0:
            raise Overloaded("no process")
        return True

    verifier = PasswordVerifier(verify)
    for _ in range(3):
        with pytest.raises(Overloaded):
            await check(verifier, ACME, "acme", "secret")
    assert await check(verifier, ACME, "acme", "secret")


class Line:
    """One lane that is busy, and who waits behind it: ``enter`` names them by their password."""

    def __init__(self, hasher: Hasher) -> None:
        self.verifier = PasswordVerifier(hasher.verify, room=6, room_for_suspects=4)
        self._hasher = hasher
        self.waiting: dict[str, asyncio.Task[bool | None]] = {}

    async def enter(self, password: str, failures: int = 0, client: str = "") -> None:
        asked = check(self.verifier, ACME, "acme", password, failures=failures, client=client)
        self.waiting[password] = asyncio.create_task(asked)
        for _ in range(3):
            await asyncio.sleep(0)

    async def move(self) -> list[str]:
        """Let everybody have a turn; return in which order they had it, less the first."""
        self._hasher.released.set()
        await asyncio.gather(*self.waiting.values(), return_exceptions=True)
        return [password for password, _ in self._hasher.calls][1:]

    @property
    def refused(self) -> list[str]:
        return [
            password
            for password, task in self.waiting.items()
            if task.done() and isinstance(task.exception(), Overloaded)
        ]


@pytest.fixture
async def line(hasher: Hasher) -> AsyncIterator[Line]:
    hasher.released.clear()
    line = Line(hasher)
    await line.enter("at it")
    yield line
    line.verifier.close()


async def test_clients_without_failures_go_first_then_those_with_the_most(line: Line) -> None:
    for password, failures in [("a", 1), ("b", 0), ("c", 3), ("d", 3), ("e", 0)]:
        await line.enter(password, failures)
    assert await line.move() == ["b", "e", "c", "d", "a"]


async def test_what_else_one_client_has_waiting_makes_room_for_another_client(line: Line) -> None:
    for password in "abcdef":
        await line.enter(password, client="one")
    await line.enter("g")
    assert line.refused == ["b"], "what comes second counts like one failure"
    assert "g" in await line.move()


async def test_a_full_queue_refuses_the_verification_that_would_run_last(line: Line) -> None:
    for password, failures in [("a", 2), ("b", 1), ("c", 1), ("d", 3)]:
        await line.enter(password, failures)
    await line.enter("e", 1)
    await line.enter("f", 2)
    assert line.refused == ["c", "e"], "of those who failed least, the latest"
    for password in "ghij":
        await line.enter(password)
    assert line.refused == ["b", "c", "e", "f"]
    for password in "klm":
        await line.enter(password)
    assert line.refused == [*"abcdefm"], "nobody of those who wait has failed"
    assert await line.move() == [*"ghijkl"]


async def test_closing_drops_what_waits_and_what_is_hashed(
    verifier: PasswordVerifier, hasher: Hasher
) -> None:
    hasher.released.clear()
    asking = [asyncio.create_task(check(verifier, ACME, "acme", f"wrong {i}")) for i in range(4)]
    await asyncio.sleep(0.05)
    verifier.close()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 4
