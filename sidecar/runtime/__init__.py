"""How a checked configuration becomes running parts, and how the next one replaces it."""
