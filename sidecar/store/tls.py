"""The TLS context for connections to Redis, made of the ``ssl_`` options of ``store.url``.

The check of the configuration makes it too, so that files which don't load are found there.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

_VERIFY_MODES: Final = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


def tls_context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """Return the context that ``StoreUrl.tls_options`` describe, as redis-py would make it.

    ``ssl_ca_certs`` and ``ssl_ca_path`` are trusted in addition to the system's authorities.
    Raises ``OSError`` (``ssl.SSLError`` is one) for files that can't be read, are not PEM or don't
    match, and for unknown ciphers. Never asks for the password of a key.
    """
    context = ssl.create_default_context()
    context.check_hostname = options.get("ssl_check_hostname", True)
    context.verify_mode = _VERIFY_MODES[options.get("ssl_cert_reqs", "required")]
    if "ssl_certfile" in options:
        password = options.get("ssl_password", "")
        context.load_cert_chain(
            options["ssl_certfile"], options.get("ssl_keyfile"), password=lambda: password
        )
    if "ssl_ca_certs" in options or "ssl_ca_path" in options:
        context.load_verify_locations(options.get("ssl_ca_certs"), options.get("ssl_ca_path"))
    if "ssl_ciphers" in options:
        context.set_ciphers(options["ssl_ciphers"])
    return context
