"""Rules with two upstreams, one that gets credentials and one that does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sidecar.config.settings import Settings
from sidecar.proxy.rules import Rules
from sidecar.runtime.build import build_rules


@pytest.fixture
async def rules() -> Rules:
    """Return rules with a route to each of two upstreams."""
    upstreams = {
        "plain": {"url": "http://127.0.0.1:1"},
        "forwarding": {"url": "http://127.0.0.1:1", "forward_credentials": True},
    }
    routes = [{"path": f"/{name}", "upstream": name} for name in upstreams]
    settings = Settings.model_validate(
        {"upstreams": upstreams, "routes": routes}, context={"directory": Path()}
    )
    return build_rules(settings, asyncio.get_running_loop())
