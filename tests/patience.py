"""How long a test waits for something that must happen, before it gives up.

This is not a promise of the sidecar. It only bounds a test that would wait forever, so it is
generous: tests share their cores with each other and with whatever else the machine does, and
passwords are hashed at the lowest priority (``auth.hash_worker``), which on a saturated machine
takes many seconds.
"""

from __future__ import annotations

from typing import Final

PATIENCE_SECONDS: Final = 60.0
