"""The configuration file: read once and wholly, then frozen, typed values.

``load`` reads a file into ``Settings``; ``json_schema`` describes it to editors. A *problem* is one
line about one mistake, with its place in the file; all of them are found in one run.
"""
