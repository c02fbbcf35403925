"""Refused requests: well-formed unknown tokens, and junk that fails the checksum."""

from __future__ import annotations

from benchmarks import tokens
from benchmarks.peers.registry import PEERS
from benchmarks.scenarios import LOAD_COLUMNS, OURS, Plan, Scenario
from benchmarks.scenarios.rotating import Rotation
from benchmarks.wrk import Load

HIT = f"{OURS}, hit"
SAME = f"{OURS}, the same unknown token"
EVER_NEW = f"{OURS}, ever new unknown tokens"
JUNK = f"{OURS}, bad checksum"
REFUSING = [name for name, peer in PEERS.items() if peer.authenticates and name != "sidecar"]


def prepare_unknown(plan: Plan) -> None:
    """Add the sidecar with a hit and both kinds of unknown tokens; the peers with one token."""
    stage = plan.stage
    unknown = tokens.mint(stage.settings.rotating_tokens)
    path = tokens.save(unknown, stage.directory / "unknown")
    load = _refused(unknown[0])
    ours = plan.start("sidecar", cache_tokens=stage.settings.cache_tokens)
    plan.add_load(HIT, ours, Load(headers=(stage.holder.bearer,)))
    plan.add_load(SAME, ours, load)
    if ours is not None:
        rotating = Load(tokens=path, is_refused=True)
        plan.add(EVER_NEW, Rotation(stage, ours, rotating, len(unknown)))
    for name in REFUSING:
        plan.add_load(PEERS[name].title, plan.start(name), load)


def prepare_junk(plan: Plan) -> None:
    """Add the sidecar with a hit and with junk, and the peers with junk."""
    junk = _refused(tokens.spoil(plan.stage.holder.token))
    ours = plan.start("sidecar")
    plan.add_load(HIT, ours, Load(headers=(plan.stage.holder.bearer,)))
    plan.add_load(JUNK, ours, junk)
    for name in REFUSING:
        plan.add_load(PEERS[name].title, plan.start(name), junk)


def _refused(token: str) -> Load:
    return Load(headers=(f"Authorization: Bearer {token}",), is_refused=True)


UNKNOWN = Scenario(
    "unknown",
    "well-formed tokens that do not exist (401)",
    prepare_unknown,
    columns=(*LOAD_COLUMNS, "lookups"),
    subjects=(SAME, EVER_NEW),
)
BAD_CHECKSUM = Scenario(
    "junk",
    "tokens with a wrong checksum (401)",
    prepare_junk,
    columns=(*LOAD_COLUMNS, "lookups"),
    subjects=(JUNK,),
)
