"""The house rules, held by a machine: layout, import direction, size, what may not be written."""

from __future__ import annotations

import ast
import importlib
import re
import statistics
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

import pytest
import yaml

from sidecar.core.cors import CorsPolicy
from sidecar.core.credentials import CredentialRules
from sidecar.core.masking import hide_tokens
from sidecar.core.password_schemes import sha_crypt
from sidecar.core.patterns import compile_pattern
from sidecar.core.referers import RefererRules
from sidecar.proxy.header_cache import HeaderCache
from sidecar.wire.chunked import mixed_data, mixed_run, tiny_run
from sidecar.wire.requests import RequestLimits

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sidecar"
MODULES = sorted(PACKAGE.rglob("*.py"))

TOP_LEVEL = [
    ".ci/run",
    ".dockerignore",
    ".github/PULL_REQUEST_TEMPLATE.md",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "RELEASE.md",
    "SECURITY.md",
    "config/sidecar.yaml",
    "docs/architecture.md",
    "docs/reference/behaviour.md",
    "docs/reference/configuration.md",
    "docs/reference/errors.md",
    "pyproject.toml",
    "ruff.toml",
    "setup.cfg",
    "sidecar",
    "tests",
    "website",
]

FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "base", "manager", "misc"}

# What each package, and each module that needs more or less than its package, may import of ours;
# the longest name that fits a module is its rule. `proxy` drives the connections of `wire` itself,
# as nothing may stand between them on the hot path; it sees Redis as a port, and the configuration
# as `rules`. Only `runtime` and the command line know of everything.
MAY_IMPORT = {
    "": set(),  # the package itself: its version
    "__main__": {"cli.main", "cli.standard_streams", "workers.held_signals"},
    "eager": set(),
    "program": {"core.tokens", "__version__"},
    "timeouts": set(),
    "core": {"core"},
    "config": {"config", "core"},
    "config.files": {"config", "core", "store.store_url", "store.tls"},
    "config.values": {"config", "core", "store.store_url"},
    "store": {"store", "core", "eager", "outgoing", "timeouts"},
    "outgoing": {"outgoing", "timeouts"},
    "wire": {"wire", "core", "eager", "outgoing", "timeouts"},
    "auth": {"core"},
    "auth.authenticator": {
        *("auth.credential_cache", "auth.jwt_verifier", "auth.password_auth", "core"),
        *("observability.audit", "store.port"),
    },
    "auth.hash_worker": {"core", "workers.held_signals"},
    "auth.bounded_get": {"outgoing"},
    "auth.issuers": {"core", "auth.bounded_get", "outgoing"},
    "auth.jwt_verifier": {"core", "auth.issuers"},
    "auth.password_auth": {"core", "auth.password_verifier", "observability.audit"},
    "auth.password_verifier": {"core", "auth.hash_pool"},
    "auth.throttle": {"core", "auth.lookup_rate_limit", "store.port"},
    "tokens": {"core", "store.port"},
    "tokens.bulk_import": {"core", "store.port", "tokens"},
    "tokens.staging": {"tokens.import_rows"},
    "proxy.answers": {"core"},
    "proxy.tracing": {"core"},
    "proxy": set(),
    "proxy.health_probe": {"core", "proxy.answers"},
    "proxy.header_cache": {"auth.credential_cache", "core", "proxy.rules", "wire.requests"},
    "proxy.rules": {
        *("auth.assertion", "auth.authenticator", "auth.credential_cache", "core"),
        *("proxy.answers", "proxy.tracing", "wire"),
    },
    "proxy.streams": {"core", "proxy.rules", "store.port"},
    "proxy.exchange": {
        *("auth.credential_cache", "core", "observability.access_log"),
        *("observability.fault_log", "proxy", "wire"),
    },
    "proxy.gateway": {
        *("auth.authenticator", "auth.credential_cache", "core", "observability.access_log"),
        *("observability.fault_log", "proxy", "tokens.last_use", "wire"),
    },
    "observability": {"core", "observability"},
    "operations": {
        *("core", "observability", "operations", "proxy", "workers.overview"),
        # `/auth` is read by the proxy's own parser
        *("wire.repeated_fields", "wire.requests", "wire.web_runner"),
    },
    "portal": {
        *("auth.password_auth", "auth.password_verifier", "config.units", "core", "portal"),
        *("observability.audit", "tokens", "wire.web_runner"),
    },
    "workers": {"core", "observability.metric_families", "wire.listening", "workers"},
    "workers.held_signals": set(),
    "runtime.addresses": {"config", "core", "runtime.bind_advice", "wire.listening"},
    "runtime.bind_advice": {"config", "core"},
    "runtime.build": {
        *("auth", "config", "core", "proxy.answers", "proxy.header_cache", "proxy.rules"),
        *("proxy.tracing", "wire"),
    },
    "runtime.certificate_watch": {"config"},
    "runtime.reload": {"config", "core", "proxy.rules"},
    "runtime.signing": {"config", "core", "runtime.build", "tokens.lifecycle"},
    "runtime.worker_agent": {
        *("observability.metric_families", "operations.health", "runtime.reload", "workers"),
    },
    "runtime.parts": {
        *("auth", "config", "core", "observability", "proxy", "runtime.build", "store"),
        *("tokens", "wire.descriptors", "wire.server", "__version__"),
    },
    "runtime.start_report": {
        *("config", "core", "program", "runtime.addresses", "store.store_url"),
    },
    "runtime.store_watch": {"core"},
    "runtime.swap": {
        *("auth", "config", "core", "observability", "operations.exposition", "portal.context"),
        *("program", "proxy", "runtime.build", "runtime.parts", "runtime.reload"),
        "runtime.signing",
        *("tokens.lifecycle", "wire"),
        "__version__",
    },
    "runtime.listeners": {
        *("config", "operations", "portal", "runtime.addresses", "runtime.parts"),
        *("runtime.reload", "runtime.swap", "wire.listening", "workers"),
    },
    "runtime.serve": {
        *("config", "core", "observability", "operations.health", "proxy.gateway", "runtime"),
        *("wire.listening", "wire.server", "workers"),
    },
    "runtime.run": {
        *("config", "core", "observability", "operations.exposition", "runtime"),
        *("store.embedded_data", "wire.descriptors", "wire.listening", "workers"),
    },
    "runtime": set(),
    "cli": {
        *("auth", "cli", "config", "core", "observability", "proxy", "runtime", "store", "tokens"),
        *("program", "wire", "workers.held_signals", "__version__"),
    },
}
ADAPTERS = (
    *(
        "store.archive",
        "store.redis",
        "store.embedded",
        "store.memory",
        "store.portal_secret",
        "store.counters",
    ),
    *("wire.server", "operations.listener", "portal.app"),
)
KEPT_OUT_OF_CORE = {"asyncio", "aiohttp", "redis", "yaml", "socket", "uvloop", "httptools"}

MOST_LINES = 660
MOST_MEDIAN_FUNCTION_LINES = 12

# Spelt in pieces, so that this file does not hold what it looks for.
UNWANTED = re.compile(
    "|".join([r"pypi" r"\.org", r"files\." r"pythonhosted", r"registry\." r"npmjs", r"/work" r"/"])
)


def name_of(module: Path) -> str:
    """Return the dotted name within the package, such as ``core.model``."""
    parts = module.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def imports_of(module: Path) -> Iterator[str]:
    """Yield every absolute name imported anywhere in the module, lazily or not."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def committed_files() -> list[Path]:
    """Return what git tracks, or every file where there is no git (a source archive)."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode == 0:
        return [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return [
        path
        for folder in ("sidecar", "tests", "docs", "config")
        for path in (ROOT / folder).rglob("*")
    ]


def rule_of(module: str) -> set[str] | None:
    """Return what the module may import, by the longest name in ``MAY_IMPORT`` that fits it."""
    parts = module.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((MAY_IMPORT[name] for name in names if name in MAY_IMPORT), None)


def is_allowed(imported: str, rule: set[str]) -> bool:
    ours = imported.removeprefix("sidecar.")
    return any(f"{ours}.".startswith(f"{allowed}.") for allowed in rule)


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_the_layout_is_the_one_described(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_imports_go_one_way(module: Path) -> None:
    rule = rule_of(name_of(module))
    assert rule is not None, "say in MAY_IMPORT what this module may import"
    ours = [name for name in imports_of(module) if name.startswith("sidecar.")]
    assert [name for name in ours if not is_allowed(name, rule)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even for the type checker alone: then one of the two knows more than it needs."""
    names = {f"sidecar.{name_of(module)}": module for module in MODULES}
    imported = {
        name: {
            found
            for text in imports_of(module)
            for found in (text, text.rpartition(".")[0])
            if found in names and found != name
        }
        for name, module in names.items()
    }
    while done := {name for name, others in imported.items() if not others & imported.keys()}:
        for name in done:
            del imported[name]
    assert imported == {}, "each of these is in a circle, or imports one that is"


def test_only_the_composition_root_names_the_adapters() -> None:
    named = {
        (name_of(module), adapter)
        for module in MODULES
        for imported in imports_of(module)
        for adapter in ADAPTERS
        if f"{imported}.".startswith(f"sidecar.{adapter}.") and name_of(module) != adapter
    }
    assert {user for user, adapter in named if not shares_part(user, adapter)} == {
        "runtime.listeners",
        "runtime.parts",
    }


def shares_part(one: str, other: str) -> bool:
    return one.split(".")[0] == other.split(".")[0]


@pytest.mark.parametrize("module", sorted((PACKAGE / "core").rglob("*.py")), ids=name_of)
def test_the_core_never_waits_and_knows_no_library_that_does(module: Path) -> None:
    assert {name.split(".")[0] for name in imports_of(module)} & KEPT_OUT_OF_CORE == set()
    assert not any(isinstance(node, ast.AsyncFunctionDef) for node in ast.walk(tree_of(module)))


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_says_its_decision_first_and_has_a_name_that_means_something(module: Path) -> None:
    assert ast.get_docstring(tree_of(module)), (
        "the first line says the one decision the module makes"
    )
    assert set(name_of(module).split(".")) & FORBIDDEN_NAMES == set()


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_file_can_be_read_in_one_sitting(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


# What `re` before Python 3.11.5 gets wrong around look-arounds, groups and backtracking.
BROKEN = {_constants.POSSESSIVE_REPEAT, _constants.ATOMIC_GROUP}
RE_FUNCTIONS = {"compile", "search", "match", "fullmatch", "split", "findall", "finditer", "sub"}


def patterns_of(module: Path) -> Iterator[str | bytes | None]:
    """Yield the regular expressions that a module uses; ``None`` for one that is made later on."""
    calls = [
        node
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"StringRule", *(f"re.{name}" for name in RE_FUNCTIONS)}
    ]
    names = vars(importlib.import_module(f"sidecar.{name_of(module)}")) if calls else {}
    for call in calls:
        try:
            yield eval(ast.unparse(call.args[0]), dict(names))
        except NameError:
            yield None


def parts_of(pattern: Iterable[Any]) -> Iterator[Any]:
    """Yield every operation of a parsed regular expression, however deep it lies."""
    for part in pattern:
        if isinstance(part, _parser.SubPattern | list | tuple):
            yield from parts_of(part)
        else:
            yield part


def uses_what_is_broken(pattern: str | bytes) -> bool:
    return not BROKEN.isdisjoint(parts_of(_parser.parse(pattern)))


MAKERS: dict[str, Callable[[], object]] = {
    "core.patterns": lambda: [
        compile_pattern(text).regex for text in ("/*ab*c*/{x}/d*/**", "/a", "/*", "/{x}")
    ],
    "core.cors": lambda: CorsPolicy(("https://a.b:1", "https://*.a.b", "null", "*")),
    "core.credentials": lambda: CredentialRules(("a",), ("a-b", "c"), ("a-b", "")),
    "core.password_schemes": lambda: sha_crypt("SHA-256-crypt", 5, 43),
    "core.referers": lambda: RefererRules(("a", "b-c")),
    "core.masking": lambda: hide_tokens("/made_up_prefix_", "made_up_prefix_"),
    "proxy.header_cache": lambda: HeaderCache(RequestLimits(), ["a-b", "c"], ["a-b", ""]),
    "wire.chunked": lambda: (tiny_run(3), mixed_run(), mixed_data()),
}


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_no_pattern_uses_what_some_versions_of_re_get_wrong(module: Path) -> None:
    found = [*patterns_of(module)]
    assert [text for text in found if text is not None and uses_what_is_broken(text)] == []
    if None in found:
        # A pattern of config.values stands in a StringRule, and is looked at where that is made.
        assert name_of(module) in {*MAKERS, "config.values"}, "say how its patterns are made"


@pytest.mark.parametrize("module", MAKERS)
def test_no_pattern_made_later_on_uses_it_either(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str | bytes] = []
    compile_really = re.compile

    def note(pattern: str | bytes, flags: int = 0) -> re.Pattern[Any]:
        made.append(pattern)
        return compile_really(pattern, flags)

    monkeypatch.setattr(re, "compile", note)
    MAKERS[module]()
    assert made
    assert [text for text in made if uses_what_is_broken(text)] == []


@pytest.mark.parametrize("pattern", ["a*+", "a(?:b(?!c))++", "(?>a)", "(?:a|(x(?>b)))", b"a?+"])
def test_the_rule_sees_what_it_looks_for(pattern: str | bytes) -> None:
    assert uses_what_is_broken(pattern)
    assert not uses_what_is_broken("(?:a(?!b)|[*+]+|a{2}?)*")


def test_functions_are_short() -> None:
    lengths = [
        node.end_lineno - node.lineno + 1
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]
    assert statistics.median(lengths) <= MOST_MEDIAN_FUNCTION_LINES


def test_nothing_committed_names_a_registry_host_or_a_place_on_someones_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in committed_files()
        if path.is_file()
        and (match := UNWANTED.search(path.read_text(encoding="utf-8", errors="ignore")))
    ]
    assert found == []


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^\.PHONY: (.+)$", makefile, re.M)[0].split())
    assert targets >= set(re.findall(r"^([a-z]+):", makefile, re.M))
    answer = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {
        line.split()[0] for line in answer.stdout.splitlines() if line.startswith("  ")
    } == targets


def test_no_failed_test_is_run_again() -> None:
    for name in ("Makefile", "setup.cfg", ".ci/run", ".ci/newest"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert re.findall(r"re" r"runs?failures|--re" r"runs|flaky", text) == [], name


def test_the_hooks_before_a_commit_need_no_network() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert {repository["repo"] for repository in yaml.safe_load(text)["repos"]} == {"local"}


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]), ids=lambda p: p.name
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [
        link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link
    ]
    assert [link for link in targets if link and not (page.parent / link).exists()] == []
