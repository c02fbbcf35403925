"""``python -m website``: writes what is made from the code, builds the site and checks it."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from website import build, diagrams, generated, links, versions
from website.pages import ROOT, Unbuilt

SITE = ROOT / "build" / "site"


def main(argv: Sequence[str] | None = None) -> int:
    """Do what ``argv`` (default: the process's arguments) says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m website", description=__doc__)
    parser.add_argument("--write", action="store_true", help="only write what is made from code")
    parser.add_argument("--draw", action="store_true", help="only draw diagrams (needs npm)")
    parser.add_argument("--serve", action="store_true", help="then serve it on 127.0.0.1:8000")
    parser.add_argument("--version", type=_version, help="which version this is, such as 0.1")
    parser.add_argument(
        "--pages", metavar="DIR", type=Path, help="then add it to the versions of the site in DIR"
    )
    parser.add_argument(
        "--url", default="", help="where all versions will be, for sitemaps and canonical links"
    )
    arguments = parser.parse_args(argv)
    if arguments.pages is not None and not arguments.version:
        parser.error("--pages needs --version")
    for path in generated.write():
        print(f"wrote {path.relative_to(ROOT)}")
    if arguments.write:
        return 0
    if arguments.draw:
        print(f"drew {len(diagrams.draw())} diagrams")
        return 0
    try:
        return _build(arguments)
    except Unbuilt as error:
        print(error, file=sys.stderr)
        return 1


def _build(arguments: argparse.Namespace) -> int:
    version = arguments.version or ""
    address = f"{arguments.url.rstrip('/')}/{version}".rstrip("/") if arguments.url else ""
    place = ROOT / "build" / "docs"
    built = build.build(place, has_versions=bool(version), address=address)
    faults = links.faults(built, address)
    if faults:
        raise Unbuilt("\n".join(faults))
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.move(built, SITE)
    pages, followed = links.count(SITE)
    print(f"{SITE.relative_to(ROOT)}: {pages} pages, {followed} links followed, none dead")
    if arguments.pages is not None:
        listed = versions.add(SITE, arguments.pages, version)
        print(f"{arguments.pages}: {', '.join(listed)}")
    return build.serve(SITE) if arguments.serve else 0


def _version(text: str) -> str:
    try:
        return versions.check_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
