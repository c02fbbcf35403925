"""The documentation site: the Markdown of this repository, made into pages by Zensical."""
