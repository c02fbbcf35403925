"""The benchmark: what a request costs in the sidecar, compared with the proxies used instead of it.

Terms: a *peer* is a proxy under test (the sidecar is one of them); the *stage* is everything that
is started for a run: Redis, the upstream and the peers; a *case* is one peer under one load; a
*scenario* is a few cases that run in turns, A B C A B C, so that a machine that becomes slower
slows all of them equally; a *round* is one turn of all cases; a *sample* is what one case measured
in one round.
"""
