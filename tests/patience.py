"""How long a test waits for something that must happen, before it gives up.

This is not a promise of the sidecar. It only bounds a test that would wait forever, so it is
generous: tests share their cores with each other and with whatever else the machine does, and
passwords are hashed at the lowest priority (``auth.hash_worker``), which on a saturated machine
takes many seconds.
"""

from __future__ import annotations

from typing import Final

PATIENCE_SECONDS: Final = 60.0

BUDGET_SECONDS: Final = 10.0
"""For each call of a store in a test that is not about its budget.

The default is a quarter of a second, which a busy machine does not always keep: "I don't know" is
the right answer then, and not what the test asks for.
"""
