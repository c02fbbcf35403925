"""nginx, Caddy, HAProxy and Envoy before one service, reached in three ways.

Each forwards ``/tcp/``, ``/tls/`` and ``/unix/`` as the upload arrives, and keeps connections;
Envoy ``/tcp/`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.interop.decision_fronts import find_envoy


@dataclass(frozen=True)
class Hops:
    """Where the service is: two ports and a path."""

    tcp: int
    tls: int
    unix: Path


_NGINX = """
daemon off; master_process off; pid {place}/pid; error_log {place}/error;
events {{ worker_connections 1024; }}
http {{
    access_log off; client_max_body_size 0;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering {buffering};
    upstream tcp {{ server 127.0.0.1:{tcp}; keepalive 8; }}
    upstream tls {{ server 127.0.0.1:{tls}; keepalive 8; }}
    upstream unix {{ server unix:{unix}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        location /tcp/ {{ proxy_pass http://tcp; }}
        location /tls/ {{ proxy_pass https://tls; }}
        location /unix/ {{ proxy_pass http://unix; }}
    }}
}}
"""
_CADDY = """
{{
    admin off
    auto_https off
}}
http://:{port} {{
    reverse_proxy /tcp/* 127.0.0.1:{tcp}
    reverse_proxy /tls/* 127.0.0.1:{tls} {{
        transport http {{
            tls_insecure_skip_verify
        }}
    }}
    reverse_proxy /unix/* unix/{unix}
}}
"""
_HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    http-reuse always
frontend all
    bind 127.0.0.1:{port}
    use_backend tls if {{ path_beg /tls/ }}
    use_backend unix if {{ path_beg /unix/ }}
    default_backend tcp
backend tcp
    server s 127.0.0.1:{tcp}
backend tls
    server s 127.0.0.1:{tls} ssl verify none
backend unix
    server s {unix}
"""
_ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
HttpConnectionManager
          stat_prefix: all
          upgrade_configs: [{{upgrade_type: websocket}}]
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: /}}, route: {{cluster: tcp}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: tcp
    type: STATIC
    load_assignment:
      cluster_name: tcp
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {tcp}}}}}}}
"""


def place_envoy(place: Path, port: int, hops: Hops) -> list[str]:
    """Write Envoy's configuration, of ``/tcp/`` alone; return the command that runs it."""
    (place / "envoy.yaml").write_text(_ENVOY.format(port=port, **vars(hops)))
    quiet = ["-l", "error", "--concurrency", "1", "--disable-hot-restart"]
    return [find_envoy(), "-c", str(place / "envoy.yaml"), *quiet]


def place_nginx(place: Path, port: int, hops: Hops, *, is_buffering: bool = False) -> list[str]:
    """Write nginx's configuration; return the command that runs it."""
    buffering = "on" if is_buffering else "off"
    text = _NGINX.format(place=place, port=port, buffering=buffering, **vars(hops))
    (place / "nginx.conf").write_text(text)
    return ["nginx", "-p", str(place), "-c", str(place / "nginx.conf")]


def place_caddy(place: Path, port: int, hops: Hops) -> list[str]:
    """Write Caddy's configuration; return the command that runs it."""
    (place / "Caddyfile").write_text(_CADDY.format(port=port, **vars(hops)))
    return ["caddy", "run", "--config", str(place / "Caddyfile"), "--adapter", "caddyfile"]


def place_haproxy(place: Path, port: int, hops: Hops) -> list[str]:
    """Write HAProxy's configuration; return the command that runs it."""
    (place / "haproxy.cfg").write_text(_HAPROXY.format(port=port, **vars(hops)))
    return ["haproxy", "-db", "-q", "-f", str(place / "haproxy.cfg")]
