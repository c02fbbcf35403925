"""The ``sidecar`` command: one file a command group, and ``main`` that dispatches."""
