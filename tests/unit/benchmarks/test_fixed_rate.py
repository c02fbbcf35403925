"""Which rate each peer gets: the sidecar's, and beside it a share of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.peers.registry import PEERS
from benchmarks.scenarios import OLD, fixed_rate

OURS, NGINX, LUA = (PEERS[name].title for name in ("sidecar", "nginx", "lua"))


class Plan:
    """A plan with peers that are their own highest rate; notes which case got which rate."""

    def __init__(self, stage: Any, highest: dict[str, float], suffix: str = "") -> None:
        self.stage, self._highest, self._suffix = stage, highest, suffix
        self.rates: dict[str, float] = {}

    def start(self, name: str) -> float | None:
        return self._highest.get(name)

    def add(self, label: str, rate: float) -> None:
        self.rates[label + self._suffix] = rate


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(fixed_rate, "_highest_rate", lambda _stage, highest: highest)
    monkeypatch.setattr(fixed_rate, "_at", lambda _stage, _highest, rate: rate)
    return SimpleNamespace(agreed={})


def rates(plan: Any, percent: int) -> dict[str, float]:
    fixed_rate.prepare_at(percent)(plan)
    found: dict[str, float] = plan.rates
    return found


def test_every_peer_gets_the_sidecars_rate_and_beside_it_a_share_of_its_own(stage: Any) -> None:
    plan = Plan(stage, {"sidecar": 1000.0, "nginx": 2000.0, "lua": 500.0})

    assert rates(plan, 60) == {
        OURS: 600.0,
        NGINX: 600.0,
        f"{NGINX}, 60 % of its own": 1200.0,
        LUA: 600.0,
        f"{LUA}, 60 % of its own": 300.0,
    }


def test_without_the_sidecar_each_peer_gets_a_share_of_its_own_rate(stage: Any) -> None:
    plan = Plan(stage, {"nginx": 2000.0, "lua": 500.0})

    assert rates(plan, 30) == {NGINX: 600.0, LUA: 150.0}


def test_an_old_tree_gets_the_rate_of_ours(stage: Any) -> None:
    rates(Plan(stage, {"sidecar": 1000.0}), 90)
    old = Plan(stage, {"sidecar": 700.0}, OLD)

    assert rates(old, 90) == {OURS + OLD: 900.0}
