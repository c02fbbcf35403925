"""What an account may be called: this module alone decides, and all others ask it.

E-mail addresses are names. A name has no colon, because HTTP Basic ends the name at the first one
(RFC 7617 section 2), and nothing that would need quoting in a header, a Redis key or a JWT's claim.
"""

from __future__ import annotations

import re
from typing import Final

ACCOUNT_NAME: Final = r"[A-Za-z0-9._@+-]{1,128}"
"""A regular expression that the whole name matches."""
ACCOUNT_NAME_ADVICE: Final = "use 1 to 128 of A-Z a-z 0-9 . _ @ + -"

is_account_name: Final = re.compile(ACCOUNT_NAME).fullmatch
