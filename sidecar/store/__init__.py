"""Where tokens live: the port (``port``), its adapters (``redis``, ``memory``) and the private server (``embedded``)."""
