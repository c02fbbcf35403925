"""The life of a request: read, judge, forward, answer."""
