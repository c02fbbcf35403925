"""Whatever the order of answers, words, losses and clocks: no answer is staler than promised.

A model of Redis keeps the history of every token. Its link is a queue in each direction; what is
in a queue is on its way, and the rules decide when it arrives, is lost with the link, or hangs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import TokenRecord
from sidecar.store.cache import TokenCache
from sidecar.store.cache_entry import times_of
from sidecar.store.port import HEARD_SECONDS
from sidecar.store.record import encode
from sidecar.store.revalidation import Revalidation
from tests.contract.records import make_record, read_record

GRACE_SECONDS = 5.0
MAX_AGE_SECONDS = 20.0
RECORDS = [make_record(number, days=0) for number in range(2)]
records = st.sampled_from([RECORDS[0], RECORDS[0], RECORDS[1]])

Question = tuple["asyncio.Future[TokenRecord | None]", str, float]
Answer = tuple["asyncio.Future[TokenRecord | None]", TokenRecord | None, float]


@dataclass
class Link:
    """What is on its way to Redis, and back: answers, changed digests, ``None`` for a flush."""

    questions: deque[Question] = field(default_factory=deque)
    words: deque[Answer | str | None] = field(default_factory=deque)


class Noting:
    """A cache as ``Revalidation`` sees it, which tells when something was confirmed."""

    def __init__(self, cache: TokenCache, note: Callable[[str], None]) -> None:
        self._cache = cache
        self._note = note

    @property
    def is_asked(self) -> bool:
        return self._cache.is_asked

    @property
    def may_confirm(self) -> bool:
        return self._cache.may_confirm

    def remembered(self) -> list[str]:
        return self._cache.remembered()

    async def confirm(self, digest: str) -> None:
        await self._cache.confirm(digest)
        self._note(digest)


async def a_turn(seconds: float) -> None:
    """Sleep in no time, so that runs repeat exactly."""
    await asyncio.sleep(0)


@dataclass
class Asked:
    """A look-up that runs: what was asked, and when."""

    task: asyncio.Task[TokenRecord | None]
    record: TokenRecord
    at: float


class CacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 1e6
        self.cache = TokenCache(
            most_tokens=2,
            max_age_seconds=MAX_AGE_SECONDS,
            outage_grace_seconds=GRACE_SECONDS,
            now=lambda: self.now,
        )
        self.cache.connect(self._fetch, read_record)
        noting = Noting(self.cache, self._note_lease)
        self.revalidation = Revalidation(noting, a_turn, lambda: self.now)
        self.revalidating: asyncio.Task[None] | None = None
        self.link: Link | None = None
        # When each token began to be, and ceased to be, live: [since, until, since, ...].
        self.history: dict[str, list[float]] = {record.digest: [] for record in RECORDS}
        self.running: list[Asked] = []
        # Until when each token is accepted in an outage, by what was kept, told and found.
        self.heard_at = self.now
        self.lease: dict[str, float] = {}
        self.connect()
        for record in RECORDS[:1]:
            self.create_or_revoke(record)
            self.exchange(record)

    def teardown(self) -> None:
        for asked in self.running:
            asked.task.cancel()
        if self.revalidating is not None:
            self.revalidating.cancel()
        self._settle()
        self.loop.close()

    def _settle(self) -> None:
        for _ in range(4):
            self.loop.run_until_complete(asyncio.sleep(0))

    async def _fetch(self, digest: str, asker: str) -> bytes | None:
        record = await self._look_up(digest)
        return None if record is None else encode(record)

    async def _look_up(self, digest: str) -> TokenRecord | None:
        if self.link is None:
            raise StoreUnavailable("away")
        answer: asyncio.Future[TokenRecord | None] = self.loop.create_future()
        self.link.questions.append((answer, digest, self.now))
        return await answer

    def _is_live(self, digest: str) -> bool:
        return len(self.history[digest]) % 2 == 1

    def _was(self, digest: str, *, live: bool, since: float) -> bool:
        """Tell whether the token was live (or was not) at some moment from ``since`` to now."""
        changes = self.history[digest]
        return self._is_live(digest) is live or (bool(changes) and changes[-1] >= since)

    def _change(self, digest: str) -> None:
        self.history[digest].append(self.now)
        if self.link is not None:
            self.link.words.append(digest)

    # What happens in Redis.

    @rule(record=records)
    def create_or_revoke(self, record: TokenRecord) -> None:
        self._change(record.digest)

    @rule()
    def flush(self) -> None:
        for digest in self.history:
            if self._is_live(digest):
                self.history[digest].append(self.now)
        if self.link is not None:
            self.link.words.append(None)

    # What happens on the way.

    @rule()
    def answer_one(self) -> None:
        """Have Redis answer the next question; the answer is then on its way."""
        if self.link is None or not self.link.questions:
            return
        answer, digest, asked_at = self.link.questions.popleft()
        record = next(record for record in RECORDS if record.digest == digest)
        self.link.words.append((answer, record if self._is_live(digest) else None, asked_at))

    @rule()
    def deliver_one(self) -> None:
        """Hand the next word on, before anyone who waits for it has run."""
        if self.link is None or not self.link.words:
            return
        word = self.link.words.popleft()
        if not isinstance(word, tuple):
            self._revoke_leases([*self.history] if word is None else [word])
            self.cache.on_changed(None if word is None else [word])
            return
        answer, record, asked_at = word
        self.heard_at = asked_at
        self.cache.on_heard(self.now - asked_at)
        if not answer.done():
            answer.set_result(record)

    def connect(self) -> None:
        self.link = Link()
        self.heard_at = self.now
        self.revalidation.begin()
        self.cache.on_watching()

    @rule()
    def lose_or_connect(self) -> None:
        if self.link is None:
            self.connect()
            return
        link, self.link = self.link, None
        for digest, kept in self.cache._entries.items():
            self.lease[digest] = max(times_of(kept)[0], self.heard_at) + GRACE_SECONDS
        self.cache.on_blind()
        answers = [question[0] for question in link.questions]
        answers += [word[0] for word in link.words if isinstance(word, tuple)]
        for answer in answers:
            if not answer.done():
                answer.set_exception(StoreUnavailable("lost"))

    def _lose_while_it_changes(self, record: TokenRecord) -> None:
        self.lose_or_connect()
        self.create_or_revoke(record)
        self.lose_or_connect()

    # What happens here.

    @rule(record=records)
    def ask(self, record: TokenRecord) -> None:
        task = self.loop.create_task(self.cache.look_up(record.digest))
        self.running.append(Asked(task, record, self.now))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 9))
    def leave(self, which: int) -> None:
        self.running[which % len(self.running)].task.cancel()

    @rule()
    def run(self) -> None:
        """Let everyone run, and judge the answers that have come."""
        self._settle()
        for asked in [*self.running]:
            if asked.task.done():
                self.running.remove(asked)
                self._judge(asked)

    @rule(record=records)
    def exchange(self, record: TokenRecord) -> None:
        """Ask, and have everything delivered and run, as on a good day."""
        self.ask(record)
        self.deliver_all()

    def deliver_all(self) -> None:
        self.run()
        while self.link is not None and (self.link.questions or self.link.words):
            if self.link.words:
                self.deliver_one()
            else:
                self.answer_one()
            self.run()

    @rule(
        record=records,
        disturb=st.sampled_from(["change", "flush", "lose"]),
        order=st.permutations(["answer", "disturb", "deliver", "deliver", "run"]),
    )
    def race(self, record: TokenRecord, disturb: str, order: list[str]) -> None:
        """Ask for what is not kept, and have something happen at any moment of the exchange."""
        self._revoke_leases([record.digest])
        self.cache.on_changed([record.digest])
        self.ask(record)
        self.run()
        acts: dict[str, Callable[[], None]] = {
            "answer": self.answer_one,
            "deliver": self.deliver_one,
            "run": self.run,
            "change": lambda: self.create_or_revoke(record),
            "flush": self.flush,
            "lose": lambda: self._lose_while_it_changes(record),
        }
        for act in order:
            acts[disturb if act == "disturb" else act]()
        self.run()

    @rule(record=records, seconds=st.sampled_from([0.1, 1.0, 3.0]))
    def lose_unnoticed(self, record: TokenRecord, seconds: float) -> None:
        """Ask, then let time pass while nothing that is on its way arrives."""
        self.exchange(record)
        self.create_or_revoke(record)
        self.wait(seconds)
        self.ask(record)

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def revalidate(self) -> None:
        """Have a process look up again what it remembers, from now on."""
        if self.revalidating is None:
            self.revalidating = self.loop.create_task(self.revalidation.run())

    @rule(record=records, change=st.sampled_from([None, "away", "back"]))
    def rest_between_two_outages(self, record: TokenRecord, change: str | None) -> None:
        """Redis is away, back for as long as it takes to look up what rests, and away again."""
        self.revalidate()
        if self.link is None:
            self.connect()
        self.exchange(record)
        may_have_grace = change is None and self._is_live(record.digest)
        for moment in ("away", "back", "away again"):
            self.lose_or_connect()
            self.wait(3.0)
            if change == moment:
                self.create_or_revoke(record)
            self.deliver_all()
        # That it does have it where it may is in test_revalidation.
        assert may_have_grace or self.cache._get_in_outage(record.digest) is None

    @rule(record=records)
    def go_away_twice(self, record: TokenRecord) -> None:
        """Redis is away, back for a second in which nobody asks, and away again."""
        if self.link is None:
            self.connect()
        self.exchange(record)
        for _ in range(3):
            self.lose_or_connect()
            self.wait(1.0)
            self.run()
        self.ask(record)
        self.run()

    # What is promised.

    def _revoke_leases(self, digests: list[str]) -> None:
        for digest in digests:
            self.lease.pop(digest, None)

    @invariant()
    def what_held_good_is_accepted_until_its_grace_is_over(self) -> None:
        for digest, end in self.lease.items():
            if self.link is None:
                assert (self.cache._get_in_outage(digest) is not None) == (self.now < end)

    def _note_lease(self, digest: str) -> None:
        """Note what an answer leaves for an outage, beside what a watch leaves at its end."""
        answer = self.cache._outage._answers.get(digest)
        if answer is not None:  # it came after its watch was lost
            self.lease[digest] = times_of(answer)[0] + GRACE_SECONDS
        elif not self.cache.is_familiar(digest):
            self.lease.pop(digest, None)

    def _judge(self, asked: Asked) -> None:
        if asked.task.cancelled() or asked.task.exception() is not None:
            return
        found = asked.task.result()
        if found is None:
            self.lease.pop(asked.record.digest, None)
            oldest = asked.at - HEARD_SECONDS
            assert self._was(asked.record.digest, live=False, since=oldest)
        else:
            assert found == asked.record
            oldest = asked.at - max(HEARD_SECONDS, GRACE_SECONDS)
            assert self._was(asked.record.digest, live=True, since=oldest)

    @invariant()
    def nothing_is_recalled_that_is_stale(self) -> None:
        for record in RECORDS:
            if self.cache.get(record.digest) is None:
                continue
            assert self.link is not None, "recalled without a link"
            if not self._is_live(record.digest):
                told = record.digest not in self.link.words and None not in self.link.words
                assert not told, "recalled though its end was told"
                assert self.now - self.history[record.digest][-1] < HEARD_SECONDS

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.cache._entries) <= 2
        assert len(self.cache._absent) <= 1
        assert len(self.cache._outage) <= 4
        assert self.cache._asking <= len(self.running) + 2 * len(RECORDS)  # and revalidation's own
        assert len(self.revalidation._left) <= 2
        assert self.cache._asking or not self.cache._changed


CacheMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=25)
TestCache = CacheMachine.TestCase
