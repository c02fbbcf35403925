"""Long exchanges, and how they end when their caller loses the authorization.

A tunnel, an event stream, an upload or a long answer continues after its request was judged, and so
does a request that waits a long time for its answer. Each is judged again when its token changes,
is revoked or expires, when the store's notifications were missed for a while, and when the
configuration changes. An exchange that may no longer pass is ended on both sides.

Tokens that are not known to be good are looked up again within a second. These are all tokens if
the store sends no notifications, and a token that was revoked before its answer had begun.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from time import monotonic, time
from typing import Any, Final

from sidecar.core.errors import Fault
from sidecar.core.model import Credential, Denial, TokenCredential, TokenKind, TokenRecord
from sidecar.core.policy import Principal
from sidecar.core.policy import judge as judge_policy
from sidecar.core.targets import Target
from sidecar.core.tokens import Shape, classify
from sidecar.proxy.rules import Rules
from sidecar.store.port import TokenLookup

_log = logging.getLogger("sidecar")

_RETRY_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.75
_ASKED_AT_ONCE: Final = 64
_SLICE_SECONDS: Final = 0.004
_LONGEST_TIMER_SECONDS: Final = 86400.0
_TOKEN_ENDED: Final = Denial("invalid_token", "The token ended while the request was under way.")
_PASSWORD_CHANGED: Final = Denial(
    "invalid_password", "The account's password changed while the request was under way."
)
_FORM_REFUSED: Final = Denial("not_allowed", "This form of credential is no longer accepted here.")


class Stream:
    """One long exchange: who began it, with which credential, under which rules, and how to end it.

    ``path`` is the request's path as sent.
    """

    __slots__ = ("credential", "cut", "method", "path", "principal", "rules", "timer")

    def __init__(
        self,
        principal: Principal,
        credential: Credential,
        rules: Rules,
        method: str,
        path: str,
        cut: Callable[[Denial], None],
    ) -> None:
        """``cut`` ends the exchange; its argument says why."""
        self.principal = principal
        self.credential = credential
        self.rules = rules
        self.method = method
        self.path = path
        self.cut = cut
        self.timer: asyncio.TimerHandle | None = None

    @property
    def digest(self) -> str:
        """The store's key for the token, or for the denial of a foreign JWT.

        Empty if the store has no say in whether the exchange may continue.
        """
        record = self.principal.record
        return "" if record is None else record.digest or record.denied_at


class LiveStreams:
    """The long exchanges of one process. ``now`` gives Unix seconds."""

    def __init__(self, tokens: TokenLookup, now: Callable[[], float] = time) -> None:
        self._tokens = tokens
        self._now = now
        self._streams: dict[str, set[Stream]] = {}
        self._rejudging: dict[asyncio.Task[None], str] = {}
        self._to_ask: dict[str, None] = {}
        self._to_judge: list[Stream] = []
        self._look: asyncio.TimerHandle | None = None
        self._rules: Rules | None = None

    def __len__(self) -> int:
        return sum(map(len, self._streams.values()))

    def enter(self, stream: Stream) -> None:
        """Watch an exchange until ``leave``."""
        self._streams.setdefault(stream.digest, set()).add(stream)
        record = stream.principal.record
        if record is not None:
            self._set_timer(stream, record.expires_at)
        if self._rules is not None and self._rules is not stream.rules:
            self._judge_by(self._rules, stream)
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look_again)

    def leave(self, stream: Stream) -> None:
        """Forget an exchange that has ended."""
        if stream.timer is not None:
            stream.timer.cancel()
        streams = self._streams.get(stream.digest)
        if streams is not None:
            streams.discard(stream)
            if not streams:
                del self._streams[stream.digest]

    def on_tokens_changed(self, digests: Sequence[str] | None) -> None:
        """Look these tokens up again; ``None``: all tokens."""
        if not self._streams:
            return
        for digest in [*self._streams] if digests is None else digests:
            if digest and digest in self._streams:
                self._to_ask[digest] = None
        self._ask_some()

    def on_rules_changed(self, rules: Rules) -> None:
        """Judge every exchange by the new rules, a slice at a time; end those they would deny."""
        self._rules = rules
        self._to_judge = [stream for streams in self._streams.values() for stream in streams]
        self._judge_some()

    async def close(self) -> None:
        """Stop looking tokens up, and leave the exchanges alone."""
        if self._look is not None:
            self._look.cancel()
        self._to_ask = {}
        self._to_judge = []
        for task in self._rejudging:
            task.cancel()
        await asyncio.gather(*self._rejudging, return_exceptions=True)

    def _ask_some(self) -> None:
        """Look up as many of the pending tokens as may be looked up at once."""
        while self._to_ask and len(self._rejudging) < _ASKED_AT_ONCE:
            digest = next(iter(self._to_ask))
            del self._to_ask[digest]
            self._start(self._rejudge(digest), digest)

    def _judge_some(self) -> None:
        until = monotonic() + _SLICE_SECONDS
        while self._to_judge and self._rules is not None:
            stream = self._to_judge.pop()
            if stream in self._streams.get(stream.digest, ()):
                self._judge_by(self._rules, stream)
            if monotonic() >= until:
                asyncio.get_running_loop().call_soon(self._judge_some)
                return

    def _judge_by(self, rules: Rules, stream: Stream) -> None:
        """Cut the stream unless ``rules`` let it continue; verify its JWT again if keys changed.

        The token's expiry and its record are handled elsewhere (``_on_timer``, ``_rejudge``).
        """
        denial = _denial_under(rules, stream)
        if denial is not None:
            self._cut(stream, denial)
            return
        record, credential = stream.principal.record, stream.credential
        if (
            record is not None
            and isinstance(credential, TokenCredential)
            and rules.jwt is not stream.rules.jwt
            and _is_jwt(record.kind, credential.secret)
        ):
            self._start(self._verify_again(stream, credential.secret, rules), "")
        stream.rules = rules

    async def _verify_again(self, stream: Stream, token: str, rules: Rules) -> None:
        """Cut the stream if these keys refuse its JWT; retry for as long as that can't be known."""
        while stream in self._streams.get(stream.digest, ()) and stream.rules is rules:
            try:
                denial = await rules.jwt.verify_again(token, stream.principal, self._now())
            except Fault:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if denial is not None and stream in self._streams.get(stream.digest, ()):
                self._cut(stream, denial)
            return

    def _set_timer(self, stream: Stream, expires_at: float | None) -> None:
        """Have the stream end with its token, at ``expires_at``; ``None``: never."""
        if stream.timer is not None:
            stream.timer.cancel()
            stream.timer = None
        if expires_at is None:
            return
        wait = min(max(0.0, expires_at - self._now()), _LONGEST_TIMER_SECONDS)
        loop = asyncio.get_running_loop()
        stream.timer = loop.call_later(wait, self._on_timer, stream, expires_at)

    def _on_timer(self, stream: Stream, expires_at: float) -> None:
        if expires_at <= self._now():
            self._cut(stream)
        else:
            self._set_timer(stream, expires_at)

    def _look_again(self) -> None:
        """Look up every token that isn't known to be good and isn't being looked up."""
        self._look = None
        busy = {*self._rejudging.values(), ""}
        for digest in self._streams:
            if digest not in busy and self._tokens.get(digest) is None:
                self._to_ask[digest] = None
        self._ask_some()
        if self._streams:
            self._look = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look_again)

    async def _rejudge(self, digest: str) -> None:
        """Cut the token's exchanges unless it's still good; retry if that can't be known."""
        while digest in self._streams:
            try:
                record = await self._tokens.look_up(digest)
            except Fault:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            for stream in [*self._streams.get(digest, ())]:
                self._follow(stream, record)
            return

    def _follow(self, stream: Stream, found: TokenRecord | None) -> None:
        """Cut the stream, or let it continue until its token ends, as ``found`` says."""
        begun_with = stream.principal.record
        if begun_with is not None and begun_with.denied_at:
            if found is not None:
                self._cut(stream)
        elif found is None or found.account != stream.principal.account:
            self._cut(stream)
        else:
            self._set_timer(stream, found.expires_at)

    def _cut(self, stream: Stream, denial: Denial = _TOKEN_ENDED) -> None:
        self.leave(stream)
        account = stream.principal.account
        _log.info("an exchange of account %s ended: it may no longer pass", account)
        stream.cut(denial)

    def _start(self, work: Coroutine[Any, Any, None], digest: str) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._rejudging[task] = digest
        task.add_done_callback(self._on_asked)

    def _on_asked(self, task: asyncio.Task[None]) -> None:
        del self._rejudging[task]
        if not task.cancelled():
            self._ask_some()


def _is_jwt(kind: TokenKind, secret: str) -> bool:
    """Return whether a token is a JWT, an imported one included."""
    return kind is TokenKind.JWT or (
        kind is TokenKind.IMPORTED and classify(secret, "") is Shape.JWT
    )


def _denial_under(rules: Rules, stream: Stream) -> Denial | None:
    """Return the denial that ``rules`` have for the exchange's request, or ``None``."""
    principal = stream.principal
    account = rules.accounts.get(principal.account)
    before = stream.rules.accounts.get(principal.account)
    if principal.record is None and (
        account is None or before is None or account.password_hash != before.password_hash
    ):
        return _PASSWORD_CHANGED
    matched = rules.routes.match_target(stream.method, Target(stream.path, None, None))
    if isinstance(matched, Denial):
        return matched
    _, path, route, readings = matched
    if route.public and not route.identifies:
        return None
    if principal.form not in route.forms:
        return _FORM_REFUSED
    return judge_policy(route, account, principal.record, path, readings)
