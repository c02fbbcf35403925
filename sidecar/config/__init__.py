"""The configuration file, read once as a whole into frozen, typed values.

``load`` reads a file into ``Settings``; ``json_schema`` describes the file to editors. A
*diagnostic* is one line about one mistake, with its position in the file; one run finds them all.
"""
