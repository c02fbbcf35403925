"""Every scenario by name, in the order in which they run."""

from __future__ import annotations

from benchmarks.scenarios import (
    Scenario,
    bodies,
    fixed_rate,
    forms,
    half,
    hit,
    idle,
    many,
    miss,
    neighbours,
    pipelined,
    refused,
    tls,
    two_workers,
)
from benchmarks.scenarios import revocation as revoked

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        hit.SCENARIO,
        miss.SCENARIO,
        refused.UNKNOWN,
        refused.BAD_CHECKSUM,
        pipelined.SCENARIO,
        forms.BASIC_AUTH,
        forms.SIGNED,
        bodies.POST,
        bodies.DOWNLOAD,
        bodies.UPLOAD,
        idle.SCENARIO,
        many.SCENARIO,
        half.SCENARIO,
        *fixed_rate.RATES,
        tls.HIT,
        tls.FULL,
        tls.RESUMED,
        neighbours.SCENARIO,
        two_workers.SCENARIO,
        revoked.SCENARIO,
    )
}
