"""Basic and JWT, once the first request has been verified, compared with a bearer token."""

from __future__ import annotations

from benchmarks.peers import sidecar
from benchmarks.processes import UnavailableError
from benchmarks.scenarios import OURS, Plan, Scenario
from benchmarks.wrk import Load

BEARER = f"{OURS}, bearer"
BASIC = f"{OURS}, Basic"
JWT = f"{OURS}, JWT"


def prepare_basic(plan: Plan) -> None:
    """Add the sidecar with both, and plain nginx."""
    holder = plan.stage.holder
    ours = plan.start("sidecar")
    plan.add_load(BEARER, ours, Load(headers=(holder.bearer,)))
    plan.add_load(BASIC, ours, Load(headers=(holder.basic,)))
    plan.add_load("nginx, no check", plan.start("nginx"), Load(headers=(holder.basic,)))


def prepare_jwt(plan: Plan) -> None:
    """Add the sidecar with both, and plain nginx; nothing if this sidecar can't issue JWTs."""
    holder = plan.stage.holder
    ours = plan.start("sidecar")
    try:
        token = sidecar.create_jwt(ours, holder.account) if ours else ""
    except UnavailableError as reason:
        plan.left_out[JWT] = str(reason)
        return
    jwt = Load(headers=(f"Authorization: Bearer {token}",))
    plan.add_load(BEARER, ours, Load(headers=(holder.bearer,)))
    plan.add_load(JWT, ours, jwt)
    plan.add_load("nginx, no check", plan.start("nginx"), jwt)


BASIC_AUTH = Scenario("basic", "account and password again", prepare_basic, subjects=(BASIC,))
SIGNED = Scenario("jwt", "the same JWT again", prepare_jwt, subjects=(JWT,))
