"""Makes C of the modules that every request passes, where ``SIDECAR_COMPILE=1`` asks for it.

Everything else is in setup.cfg. Compiling needs mypyc and a C compiler (docs/how-to/compile-it.md);
without them the same modules run as Python, and do the same.
"""

import os
import sys
from typing import Any

from setuptools import setup

COMPILED = (
    "auth/authenticator",
    "auth/credential_cache",
    "auth/password_auth",
    "auth/password_verifier",
    "auth/lookup_rate_limit",
    "auth/throttle",
    "core/basic_auth",
    "core/cors",
    "core/credentials",
    "core/forwarded",
    "core/headers",
    "core/histogram",
    "core/masking",
    "core/memo",
    "core/model",
    "core/passwords",
    "core/path_index",
    "core/patterns",
    "core/policy",
    "core/problems",
    "core/proxy_protocol",
    "core/readings",
    "core/referers",
    "core/request_heads",
    "core/response_heads",
    "core/routes",
    "core/targets",
    "core/tokens",
    "core/trace_context",
    "core/trusted_proxies",
    "eager",
    "observability/access_log",
    "observability/metrics",
    "proxy/answers",
    "proxy/exchange",
    "proxy/gateway",
    "proxy/header_cache",
    "proxy/health_probe",
    "proxy/rules",
    "proxy/tracing",
    "store/cache",
    "store/fair_queue",
    "store/cache_entry",
    "store/layout",
    "store/lookups",
    "store/outage_memory",
    "store/record",
    "store/redis",
    "store/resp",
    "tokens/last_use",
    "wire/accepting",
    "wire/body_rate",
    "wire/buffers",
    "wire/chunked",
    "wire/client",
    "wire/deadlines",
    "wire/destination",
    "wire/head_reader",
    "wire/loose_heads",
    "wire/not_implemented",
    "wire/pool",
    "wire/proxy_header",
    "wire/relay",
    "wire/repeated_fields",
    "wire/requests",
    "wire/responses",
    "wire/server",
    "wire/shares",
    "wire/turn_queue",
    "wire/upstream",
)


# The path calls itself directly, not through a table that lets others take a function's place.
_DIRECT_CALLS = () if sys.platform == "win32" else ("-fno-semantic-interposition", "-fno-plt")


def compile_path() -> list[Any]:
    """Return the extension modules; a type error ends the build."""
    from mypyc.build import mypycify

    files = [f"sidecar/{name}.py" for name in COMPILED]
    modules = mypycify(files, opt_level="3", debug_level="0", group_name="sidecar_path")
    for module in modules:
        module.extra_compile_args += _DIRECT_CALLS
    return list(modules)


is_asked_for = os.environ.get("SIDECAR_COMPILE") == "1"
is_building = not {"build_ext", "bdist_wheel"}.isdisjoint(sys.argv)  # and not asking for metadata
setup(ext_modules=compile_path() if is_asked_for and is_building else [])
