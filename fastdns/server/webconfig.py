# SPDX-License-Identifier: Apache-2.0
"""The file that `prometheus { tls FILE }` names: a web configuration of Prometheus's exporter toolkit, as in CoreDNS.

Strategy: YAML's nodes are walked along tables of fields, so that an unknown field, a field twice and a value of the
wrong kind are all reported with their lines, in the toolkit's words. Files that are named stand relative to this one.
PyYAML (the extra `tls`) is imported only here, so only where a Corefile asks for it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..corefile.units import parse_duration_ns, quote
from ..errors import StartError

FILE_MAX = 1 << 20  # octets
VERSIONS = ("TLS13", "TLS12", "TLS11", "TLS10")
AUTH = ("", "NoClientCert", "RequestClientCert", "RequireAnyClientCert", "RequireClientCert", "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert")
CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
# Go's names of the suites that it has for this, and OpenSSL's; those of TLS 1.3 cannot be chosen, there as here.
CIPHERS = {
    "TLS_AES_128_GCM_SHA256": "", "TLS_AES_256_GCM_SHA384": "", "TLS_CHACHA20_POLY1305_SHA256": "",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
HEADERS: Mapping[str, tuple[str, ...]] = {
    "Strict-Transport-Security": (), "X-Content-Type-Options": ("nosniff",), "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (), "Content-Security-Policy": (),
}
TRUE, FALSE = ("y", "yes", "on", "true"), ("n", "no", "off", "false")
TAG = "tag:yaml.org,2002:"


class Wrong(Exception):
    """One value of the wrong kind; the walk goes on and reports them together."""


def _wrong(node: Any, kind: str) -> Wrong:
    tag = "!!" + node.tag.removeprefix(TAG)
    value = f" `{node.value}`" if isinstance(node.value, str) else ""
    return Wrong(f"  line {node.start_mark.line + 1}: cannot unmarshal {tag}{value} into {kind}")


def _text(node: Any) -> str:
    if not isinstance(node.value, str):
        raise _wrong(node, "string")
    return node.value


def _truth(node: Any) -> bool:
    word = node.value.lower() if isinstance(node.value, str) else ""
    if word not in TRUE + FALSE:
        raise _wrong(node, "bool")
    return word in TRUE


def _integer(node: Any) -> int:
    if node.tag != TAG + "int":
        raise _wrong(node, "int")
    try:
        return int(node.value.replace("_", ""), 0)
    except ValueError:  # YAML has integers to the base of sixty, and octal ones without an o
        raise _wrong(node, "int") from None


def _nanoseconds(node: Any) -> int:
    """A duration as Go writes it; a bare number is nanoseconds."""
    try:
        return int(node.value, 10) if node.tag == TAG + "int" else parse_duration_ns(_text(node))
    except ValueError:
        raise _wrong(node, "time.Duration") from None


def _choice(known: Any, what: str) -> Callable[[Any], str]:
    def read(node: Any) -> str:
        if (word := _text(node)) not in known:
            raise StartError(f"unknown {what}: {word}")
        return word

    return read


def _list(read: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def read_all(node: Any) -> list[Any]:
        if isinstance(node.value, str) or node.tag != TAG + "seq":
            raise _wrong(node, "[]string")
        return [read(item) for item in node.value]

    return read_all


def _texts(node: Any) -> dict[str, str]:
    if node.tag != TAG + "map":
        raise _wrong(node, "map[string]string")
    return {_text(key): _text(value) for key, value in node.value}


Fields = dict[str, Callable[[Any], Any]]
TLS: Fields = {
    "cert": _text, "key": _text, "client_ca": _text, "cert_file": _text, "key_file": _text, "client_auth_type": _text,
    "client_ca_file": _text, "cipher_suites": _list(_choice(CIPHERS, "cipher")),
    "curve_preferences": _list(_choice(CURVES, "curve")), "min_version": _choice(VERSIONS, "TLS version"),
    "max_version": _choice(VERSIONS, "TLS version"), "prefer_server_cipher_suites": _truth,
    "client_allowed_sans": _list(_text),
}
HTTP: Fields = {"http2": _truth, "headers": _texts}
RATE: Fields = {"burst": _integer, "interval": _nanoseconds}


def _table(node: Any, fields: Fields, kind: str, problems: list[str]) -> dict[str, Any]:
    """The fields of a mapping that are there and not null."""
    if node.tag != TAG + "map":
        problems.append(str(_wrong(node, kind)))
        return {}
    found: dict[str, Any] = {}
    for key, value in node.value:
        line = f"  line {key.start_mark.line + 1}: field {key.value}"
        if key.value not in fields:
            problems.append(f"{line} not found in type {kind}")
        elif key.value in found:
            problems.append(f"{line} already set in type {kind}")
        elif value.tag != TAG + "null":
            try:
                found[key.value] = fields[key.value](value)
            except Wrong as wrong:
                problems.append(str(wrong))
    return found


def parse(text: str) -> dict[str, dict[str, Any]]:
    """The four sections of a web configuration, each with what it says. StartError."""
    try:
        import yaml
    except ImportError:
        raise StartError("tls needs PyYAML: pip install 'fastdns[tls]'") from None
    problems: list[str] = []
    sections: Fields = {
        "tls_server_config": lambda node: _table(node, TLS, "web.TLSConfig", problems),
        "http_server_config": lambda node: _table(node, HTTP, "web.HTTPConfig", problems),
        "rate_limit": lambda node: _table(node, RATE, "web.RateLimiterConfig", problems),
        "basic_auth_users": _texts,
    }
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark, why = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        raise StartError(f"yaml: {f'line {mark.line + 1}: ' if mark else ''}{why}") from None
    except RecursionError:
        raise StartError("yaml: nested too deeply") from None
    found = {} if root is None or root.tag == TAG + "null" else _table(root, sections, "web.Config", problems)
    if problems:
        raise StartError("yaml: unmarshal errors:\n" + "\n".join(problems))
    config = {name: found.get(name, {}) for name in sections}
    _check_headers(config["http_server_config"].get("headers", {}))
    return config


def _check_headers(headers: dict[str, str]) -> None:
    for name, value in headers.items():
        if name not in HEADERS:
            raise StartError(f'HTTP header "{name}" can not be configured')
        if HEADERS[name] and value not in HEADERS[name]:
            words = " ".join(quote(word) for word in HEADERS[name])
            raise StartError(f"invalid value for {name}. Expected one of: [{words}], but got: {quote(value)}")
        if any((ord(letter) < 32 and letter != "\t") or ord(letter) > 126 for letter in value):
            raise StartError(f"invalid value for {name}: {quote(value)}")


def read_octets(path: str) -> bytes:
    """A file of at most FILE_MAX octets. StartError with Go's text."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
        raise StartError(f"open {path}: {reason}") from None
    if len(data) > FILE_MAX:
        raise StartError(f"open {path}: more than {FILE_MAX} octets")
    return data


def load(path: str) -> dict[str, dict[str, Any]]:
    """Reads a web configuration; the files that it names become relative to where the server runs. StartError."""
    config = parse(read_octets(path).decode("utf-8", "replace"))
    tls = config["tls_server_config"]
    for name in ("cert_file", "key_file", "client_ca_file"):
        if tls.get(name):
            tls[name] = posixpath.normpath(posixpath.join(posixpath.dirname(path), tls[name]))
    return config
