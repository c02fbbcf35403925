"""Connections to other machines: which addresses a name has, and which of them accepts."""
