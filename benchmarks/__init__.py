"""The bench: what a request costs in the sidecar, beside the proxies one would put there instead.

The words used here: a *peer* is a proxy under test (ours is one of them); the *stage* is
everything started for a run: Redis, the upstream and the peers; a *case* is one peer under one
load; a *scenario* is a few cases that are run in turns, A B C A B C, so that a drift of the
machine meets all alike; a *round* is one turn of all of them; a *sample* is what one case gave in
one round.
"""
