"""What operators and proxies in front ask for: health, metrics, keys, decisions.

It has its own listener, apart from the proxy's.
"""
