"""Groups F and X at full size: whatever attackers send, honest callers are served as usual.

``make soak ARGS="tests/soak/test_fairness.py"`` runs only these tests (``-k F3``: one group) and
prints a table of the results; it takes a quarter of an hour. ``tests/fairness`` has small ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby

import pytest

from tests.e2e.conftest import redis_binary
from tests.fairness.attacks import ATTACKS, Attack
from tests.fairness.stage import STAGES, Service, Stage, running_stage
from tests.fairness.verdict import faults, row
from tests.redis_servers import running_redis
from tests.soak.conftest import FIGURES

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

IN_ORDER = sorted(ATTACKS.values(), key=lambda attack: STAGES.index(attack.stage))
"""All attacks on a stage, which is built once for them."""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.stop()


@pytest.fixture(scope="module", params=STAGES)
def stage(
    request: pytest.FixtureRequest, service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    with ExitStack() as stack:
        redis = running_redis(redis_binary(), tmp_path_factory.mktemp("redis"))
        directory = tmp_path_factory.mktemp("stage")
        server = stack.enter_context(redis)
        yield stack.enter_context(running_stage(request.param, server, service, directory))


def cases() -> list[object]:
    return [
        pytest.param(stage, attack, id=attack.name)
        for stage, attacks in groupby(IN_ORDER, lambda attack: attack.stage)
        for attack in attacks
    ]


@pytest.mark.parametrize(("stage", "attack"), cases(), indirect=["stage"])
def test_an_honest_caller_is_served_as_at_rest(
    stage: Stage, attack: Attack, request: pytest.FixtureRequest
) -> None:
    played = stage.play(attack)
    request.config.stash.setdefault(FIGURES, []).append(row(played))
    print(played.attack.says, played.account, played.log[-2000:], sep="\n")
    assert faults(played) == []
