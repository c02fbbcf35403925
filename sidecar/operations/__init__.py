"""What those who run the sidecar ask it: alive, ready. Its own listener, never the proxy's."""
