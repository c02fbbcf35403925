"""Checks the files that the configuration names: each must exist, be readable and be valid."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sidecar.config.diagnostics import Diagnostic
from sidecar.config.document import YamlNode
from sidecar.core.key_documents import load_key, load_key_set
from sidecar.core.keys import Key, check_algorithms, check_signing_keys
from sidecar.store.store_url import TLS_FILES, UnusableUrl, parse_store_url, place_files
from sidecar.store.tls import tls_context

_MAX_FILE_BYTES = 1024 * 1024


def files_named_in(root: YamlNode, directory: Path) -> Iterator[Path]:
    """Yield the certificates, keys and key sets that ``check_files`` reads, even missing ones."""
    sections: list[tuple[YamlNode | None, tuple[str, ...]]] = [
        (root.at("listen", "tls"), ("certificate", "private_key", "client_ca"))
    ]
    upstreams, issuers = root.at("upstreams"), root.at("jwt", "trusted_issuers")
    for upstream in (upstreams.entries() if upstreams is not None else {}).values():
        sections.append((upstream.at("tls"), ("certificate", "private_key", "ca")))
    sections += [
        (node, ("jwks_file",)) for node in (issuers.items() if issuers is not None else [])
    ]
    for section, keys in sections:
        for key in keys:
            name = _text(section.at(key)) if section is not None else None
            if name and "\0" not in name:
                yield directory / name
    store = _text(root.at("store", "url"))
    yield from _files_of_store(store, directory).values() if store is not None else ()


def check_files(root: YamlNode, directory: Path) -> Iterator[Diagnostic]:
    """Yield diagnostics of certificates, keys, key sets and the access log's directory.

    Reads files, relative to ``directory``, and changes nothing. No diagnostic holds a key.
    """
    tls = root.at("listen", "tls")
    if tls is not None:
        yield from _check_tls(tls, "listen.tls", directory, "client_ca")
    upstreams = root.at("upstreams")
    for name, upstream in (upstreams.entries() if upstreams is not None else {}).items():
        tls = upstream.at("tls")
        if tls is not None:
            yield from _check_tls(tls, f"upstreams.{name}.tls", directory, "ca")
    yield from _check_store(root, directory)
    yield from _check_signing_keys(root)
    yield from _check_issuers(root, directory)
    yield from _check_access_log(root, directory)


def _check_tls(tls: YamlNode, path: str, directory: Path, authorities: str) -> Iterator[Diagnostic]:
    files: dict[str, tuple[YamlNode, Path]] = {}
    for key in ("certificate", "private_key", authorities):
        node = tls.at(key)
        text = node.text() if node is not None else None
        if node is None or not text:
            continue
        problem = _unreadable(directory / text)
        if problem is None and key != "private_key" and not _has_certificate(directory / text):
            problem = "this file contains no PEM certificate; name one that does"
        if problem is not None:
            yield Diagnostic(*node.position, f"{path}.{key}: {problem}")
        else:
            files[key] = (node, directory / text)
    if "certificate" in files and "private_key" in files:
        problem = _mismatch(files["certificate"][1], files["private_key"][1])
        if problem is not None:
            yield Diagnostic(*files["private_key"][0].position, f"{path}.private_key: {problem}")


def _check_store(root: YamlNode, directory: Path) -> Iterator[Diagnostic]:
    """Check the TLS files of ``store.url``, and make the context that the store would use.

    A URL that can't be parsed is left to the model to report.
    """
    node = root.at("store", "url")
    url = _text(node)
    if node is None or url is None or not url.startswith("rediss"):
        return
    with suppress(UnusableUrl):
        options = parse_store_url(place_files(url, directory)).tls_options
        problem = _bad_store_files(_files_of_store(url, directory), options)
        if problem is not None:
            yield Diagnostic(*node.position, f"store.url: {problem}")


def _files_of_store(url: str, directory: Path) -> dict[str, Path]:
    """Return the files that a store's URL names, by option; none of a URL that can't be parsed."""
    try:
        options = parse_store_url(url).tls_options
    except UnusableUrl:
        return {}
    return {name: directory / options[name] for name in TLS_FILES if name in options}


def _bad_store_files(files: Mapping[str, Path], options: Mapping[str, Any]) -> str | None:
    for option, path in files.items():
        problem = _bad_store_file(option, path)
        if problem is not None:
            return f"{option} ({path}): {problem}"
    certificate = files.get("ssl_certfile")
    if certificate is not None:
        key = files.get("ssl_keyfile", certificate)
        problem = _mismatch(certificate, key, options.get("ssl_password", ""))
        if problem is not None:
            return f"ssl_keyfile ({key}): {problem}"
    try:
        tls_context(options)
    except OSError:
        return "ssl_ciphers names no cipher that OpenSSL knows; correct it, or remove it"
    return None


def _bad_store_file(option: str, path: Path) -> str | None:
    if option == "ssl_ca_path":
        return None if path.is_dir() else "there is no such directory; create it, or correct it"
    problem = _unreadable(path)
    if problem is None and option != "ssl_keyfile" and not _has_certificate(path):
        problem = "this file contains no PEM certificate; name one that does"
    return problem


def _unreadable(path: Path) -> str | None:
    """Return why a file can't be read; ``None`` if it can."""
    try:
        if not path.exists():
            return "there is no such file; create it, or correct the path"
        if not path.is_file():
            return "this is not a regular file; name one"
        with path.open("rb"):
            is_large = path.stat().st_size > _MAX_FILE_BYTES
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        return f"the file can't be read ({reason}); let the sidecar's user read it"
    return "the file is larger than 1 MiB; name another" if is_large else None


def _has_certificate(path: Path) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError):
        return False
    return bool(context.cert_store_stats()["x509"])


def _mismatch(certificate: Path, private_key: Path, password: str = "") -> str | None:
    """Return why a key does not fit a certificate, or ``None``. Never prompts for a password."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, private_key, password=lambda: password)
    except ssl.SSLError as error:
        return _why_unfit(error.reason)
    except OSError:
        return "the file can't be read; let the sidecar's user read it"
    return None


def _why_unfit(reason: str | None) -> str:
    if reason == "KEY_VALUES_MISMATCH":
        return (
            "this key does not belong to the certificate; name the one that does, "
            "or put that certificate first in its file"
        )
    if reason is not None and reason.startswith(("EE_", "CA_")):  # EE_KEY_TOO_SMALL, CA_MD_TOO_WEAK
        return f"OpenSSL refuses the certificate as too weak ({reason}); renew it with another key"
    return "this file contains no usable PEM private key; name one without a password"


def _check_signing_keys(root: YamlNode) -> Iterator[Diagnostic]:
    section = root.at("jwt", "keys")
    keys: list[Key] = []
    seen: set[str] = set()
    for index, node in enumerate(section.items() if section is not None else []):
        texts = [_text(node.at(name)) for name in ("id", "algorithm", "private_key")]
        key_id, algorithm, text = texts
        if key_id is not None and key_id in seen:
            where = f"jwt.keys[{index}].id"
            yield Diagnostic(
                *_position(node, "id"), f"{where}: another key has this id; choose a new one"
            )
        elif key_id is not None and text is not None:
            seen.add(key_id)
            try:
                keys.append(load_key(key_id, algorithm or "EdDSA", text))
            except ValueError as error:
                where = f"jwt.keys[{index}].private_key"
                advice = "create one with `sidecar key generate`"
                yield Diagnostic(*_position(node, "private_key"), f"{where}: {error}; {advice}")
    if section is not None and keys:
        try:
            check_signing_keys(tuple(keys))
        except ValueError as error:
            advice = "remove or reorder keys"
            yield Diagnostic(*section.position, f"jwt.keys: {error}; {advice}")


def _check_issuers(root: YamlNode, directory: Path) -> Iterator[Diagnostic]:
    section = root.at("jwt", "trusted_issuers")
    for index, node in enumerate(section.items() if section is not None else []):
        path = f"jwt.trusted_issuers[{index}]"
        listed = node.at("algorithms")
        algorithms: tuple[str, ...] = ("RS256", "ES256")
        if listed is not None:
            algorithms = tuple(text for item in listed.items() if (text := _text(item)))
        file = node.at("jwks_file")
        name = _text(file)
        try:
            check_algorithms(algorithms, is_local=file is not None)
        except ValueError as error:
            if listed is not None and algorithms and _are_known(algorithms):
                yield Diagnostic(*listed.position, f"{path}.algorithms: {error}; correct the list")
            continue
        if file is not None and name:
            problem = _bad_key_set(directory / name, algorithms)
            if problem is not None:
                yield Diagnostic(*file.position, f"{path}.jwks_file: {problem}")


def _are_known(algorithms: tuple[str, ...]) -> bool:
    """Tell whether every name is an algorithm; the model reports those that are not."""
    return all(name in ("EdDSA", "ES256", "RS256", "PS256", "HS256") for name in algorithms)


def _bad_key_set(path: Path, algorithms: tuple[str, ...]) -> str | None:
    problem = _unreadable(path)
    if problem is not None:
        return problem
    try:
        load_key_set(path.read_bytes(), algorithms, is_local=True)
    except ValueError as error:
        return f"{error}; correct the file"
    return None


def _check_access_log(root: YamlNode, directory: Path) -> Iterator[Diagnostic]:
    node = root.at("access_log", "path")
    name = _text(node)
    if node is None or not name or name == "-" or "\0" in name:
        return
    path = directory / name
    if not path.parent.is_dir():
        text = "access_log.path: there is no such directory; create it, or correct the path"
        yield Diagnostic(*node.position, text)
    elif path.is_dir():
        yield Diagnostic(*node.position, "access_log.path: this is a directory; name a file in it")


def _text(node: YamlNode | None) -> str | None:
    return node.text() if node is not None else None


def _position(node: YamlNode, key: str) -> tuple[int, int]:
    found = node.at(key)
    return found.position if found is not None else node.position
