"""The supervisor, its worker processes, and the protocol between them."""
