"""Where tokens live: the port (``port``), its adapters (``redis``, ``memory``), a private Redis."""
