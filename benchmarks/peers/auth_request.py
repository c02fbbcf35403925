"""nginx ``auth_request``: nginx asks a small aiohttp service about every request."""

from __future__ import annotations

from benchmarks import nginx
from benchmarks.peers import Place, Running, decision_service
from benchmarks.peers.nginx import http_block
from benchmarks.processes import Program, free_port

EXTRA = """
  upstream decision {{
    server 127.0.0.1:{port};
    keepalive 512;
    keepalive_requests 1000000000;
  }}
"""

ACCESS = "auth_request /auth; auth_request_set $account $upstream_http_x_account;"

LOCATION = """
    location = /auth {
      internal;
      proxy_pass http://decision;
      proxy_http_version 1.1;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Connection "";
    }
"""


def start(place: Place) -> Running:
    """Start the service and the nginx in front of it, both on the peer's processor."""
    decider, decider_port = decision_service.start(
        place.directory, redis_port=place.redis_port, cores=place.cores
    )
    try:
        return _start_in_front(place, decider, decider_port)
    except BaseException:
        decider.stop()
        raise


def _start_in_front(place: Place, decider: Program, decider_port: int) -> Running:
    port = free_port()
    http = http_block(
        place, port, access=ACCESS, extra=EXTRA.format(port=decider_port), locations=LOCATION
    )
    program = nginx.start(place.directory, http=http, port=port, cores=place.cores)
    return Running(port, (program, decider))
