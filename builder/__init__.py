"""How the package is built: compiled where that can be done, and as plain Python elsewhere.

`pyproject.toml` names `builder.backend`. docs/how-to/compile-it.md says what an administrator sees
of it, docs/explanation/compiled.md why it is done so.
"""
