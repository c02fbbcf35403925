"""Every peer by name, in the order of the table."""

from __future__ import annotations

from benchmarks.peers import Peer, auth_request, caddy, envoy, naive, nginx, nginx_lua, sidecar

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("sidecar", "the sidecar", sidecar.start, is_ours=True),
        Peer("interpreted", "the sidecar, interpreted", sidecar.start_interpreted, is_ours=True),
        Peer("nginx", "nginx, no check", nginx.start, authenticates=False),
        Peer("lua", "nginx + Lua + Redis", nginx_lua.start),
        Peer("envoy", "Envoy api_key_auth", envoy.start, has_store=False),
        Peer("auth_request", "nginx auth_request + aiohttp", auth_request.start),
        Peer("caddy", "Caddy forward_auth + aiohttp", caddy.start),
        Peer("naive", "aiohttp proxy", naive.start),
    )
}

VERSATILE = ("sidecar", "interpreted", "nginx", "lua", "envoy")
"""The peers that can have TLS, neighbours and several workers (see ``Place``)."""
