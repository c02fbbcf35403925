"""Caddy ``forward_auth``: Caddy, on one thread, asks the same service about every request."""

from __future__ import annotations

import shutil

from benchmarks.peers import Place, Running, decision_service
from benchmarks.processes import Program, UnavailableError, free_port, is_listening

CADDYFILE = """
{{
  admin off
  auto_https off
  log {{
    level ERROR
  }}
}}
http://127.0.0.1:{port} {{
  bind 127.0.0.1
  log {{
    output file {directory}/access.log {{
      roll_disabled
    }}
    format json
  }}
  forward_auth 127.0.0.1:{decider_port} {{
    uri /auth
    copy_headers X-Account
    transport http {{
      keepalive_idle_conns_per_host 512
    }}
  }}
  reverse_proxy 127.0.0.1:{upstream_port} {{
    header_up -Authorization
    header_up X-Request-Id {{http.request.uuid}}
    transport http {{
      keepalive_idle_conns_per_host 512
      compression off
    }}
  }}
}}
"""


def start(place: Place) -> Running:
    """Start the service and Caddy, both on the peer's processor. Raises ``UnavailableError``."""
    program = shutil.which("caddy")
    if program is None:
        raise UnavailableError("caddy is not installed")
    decider, decider_port = decision_service.start(
        place.directory, redis_port=place.redis_port, cores=place.cores
    )
    try:
        return _start_in_front(place, program, decider, decider_port)
    except BaseException:
        decider.stop()
        raise


def _start_in_front(place: Place, program: str, decider: Program, decider_port: int) -> Running:
    port = free_port()
    configuration = place.directory / "Caddyfile"
    configuration.write_text(
        CADDYFILE.format(
            port=port,
            directory=place.directory,
            decider_port=decider_port,
            upstream_port=place.upstream_port,
        )
    )
    caddy = Program(
        [program, "run", "--config", str(configuration), "--adapter", "caddyfile"],
        cores=place.cores,
        output=place.directory / "caddy.log",
        environment={"GOMAXPROCS": "1", "HOME": str(place.directory)},
    )
    caddy.wait_until(lambda: is_listening(port))
    return Running(port, (caddy, decider))
