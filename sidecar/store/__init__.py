"""Where tokens live: the port (``port``), the adapters (``redis``, ``memory``), an own server."""
