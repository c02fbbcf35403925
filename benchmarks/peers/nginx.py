"""Plain nginx, which forwards everything: what proxying costs at least."""

from __future__ import annotations

from benchmarks import nginx
from benchmarks.peers import LOG_FIELDS, Place, Running
from benchmarks.processes import free_port

PROXYING = """
      proxy_pass http://upstream;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_buffering on;
      proxy_buffers 8 64k;
      proxy_busy_buffers_size 128k;
      proxy_max_temp_file_size 0;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header Authorization "";
      proxy_set_header X-Account $account;
      proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
"""
"""How each nginx forwards: kept-alive, nothing spooled to disk, no credential."""

HTTP = """
  log_format line escape=json '{fields}';
  access_log {directory}/access.log line buffer=64k flush=1s;
  client_max_body_size 0;
  client_body_buffer_size 128k;
  upstream upstream {{
    server 127.0.0.1:{upstream_port};
    keepalive 512;
    keepalive_requests 1000000000;
  }}
  {extra}
  server {{
    listen 127.0.0.1:{port}{listening};
{forwarding}
    {locations}
  }}
"""

LOCATION = """
    location {base} {{
      {access}
{proxying}
    }}
"""

TLS = """ ssl backlog=4096;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {certificate};
    ssl_certificate_key {private_key}"""

NO_ACCOUNT = 'set $account "anyone";'


def http_block(
    place: Place, port: int, *, access: str, extra: str = "", locations: str = ""
) -> str:
    """Return the ``http`` block of an nginx peer; they differ in how a call gets access."""
    bases = ("/", *(f"{base}/" for base in place.neighbours.bases))
    forwarding = "".join(
        LOCATION.format(base=base, access=access, proxying=PROXYING) for base in bases
    )
    return HTTP.format(
        fields=LOG_FIELDS,
        directory=place.directory,
        upstream_port=place.upstream_port,
        port=port,
        listening=_listening(place),
        forwarding=forwarding,
        extra=extra,
        locations=locations,
    )


def start(place: Place) -> Running:
    """Start nginx as a proxy that checks nothing."""
    port = free_port()
    http = http_block(place, port, access=NO_ACCOUNT)
    return run(place, port, http)


def run(place: Place, port: int, http: str, modules: tuple[str, ...] = ()) -> Running:
    """Start nginx with this ``http`` block. Raises ``UnavailableError`` without a module."""
    program = nginx.start(
        place.directory,
        http=http,
        port=port,
        cores=place.cores,
        modules=modules,
        workers=place.workers,
    )
    return Running(port, (program,), certificate=place.certificate)


def _listening(place: Place) -> str:
    made = place.certificate
    if made is None:
        return " backlog=4096"
    return TLS.format(certificate=made.certificate, private_key=made.private_key)
