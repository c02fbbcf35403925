"""The ``sidecar`` command: ``main`` dispatches to one module per command group."""
