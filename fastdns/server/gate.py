# SPDX-License-Identifier: Apache-2.0
"""What stands before the metrics where `prometheus { tls FILE }` asks for it: TLS, passwords, a rate, headers.

Strategy: the file and those that it names are looked at for every connection, and read again when one of them has
changed; so a renewed certificate is used at once, as in CoreDNS. What cannot be read then is logged, and what was read
before goes on. Passwords cost a bcrypt each; that runs in a thread, one at a time, and results are remembered.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import os
import ssl
import time
import warnings
from pathlib import Path
from typing import Any

from .. import metrics
from ..errors import StartError
from . import webconfig

REMEMBERED = 100
SECRET_MIN = 59  # octets of a bcrypt hash
# What an unknown user's password is compared with, so that the time tells nothing.
NOBODY = "$2b$10$Cn.0KUbjrbmtTI77ptf7gu7i9djWoYxAOj2X8MyZ7uoxKjvqczdUK"
LEVELS = {"TLS10": ssl.TLSVersion.TLSv1, "TLS11": ssl.TLSVersion.TLSv1_1, "TLS12": ssl.TLSVersion.TLSv1_2,
          "TLS13": ssl.TLSVersion.TLSv1_3}
REREAD_FAILURES = metrics.Counter(
    "fastdns_prometheus_tls_failures_total", "Web configurations that were changed into something that is no good.")
FILES = ("cert_file", "key_file", "client_ca_file")


def _part(tls: dict[str, Any], name: str) -> bytes:
    if path := tls.get(f"{name}_file"):
        try:
            return webconfig.read_octets(path)
        except StartError as error:
            raise StartError(f"failed to read {name}_file ({path}): {error}") from None
    return str(tls.get(name, "")).encode()


def _load_pair(context: ssl.SSLContext, cert: bytes, key: bytes) -> None:
    # The ssl module reads certificates from files only; these have been read already.
    fds = []
    try:
        for octets in (cert, key):
            fds.append(os.memfd_create("fastdns-tls", os.MFD_CLOEXEC))
            os.write(fds[-1], octets)
        context.load_cert_chain(f"/proc/self/fd/{fds[0]}", f"/proc/self/fd/{fds[1]}", password=lambda: b"")
    except ssl.SSLError as error:
        reason = "private key does not match public key" if error.reason == "KEY_VALUES_MISMATCH" else error.strerror
        raise StartError(f"failed to load X509KeyPair: tls: {reason}") from None
    finally:
        for fd in fds:
            os.close(fd)


def make_context(tls: dict[str, Any]) -> ssl.SSLContext | None:
    """The server's side of TLS by the `tls_server_config` of webconfig.load; None if it asks for none. StartError."""
    if not any(tls.get(name) for name in ("cert", "key", "client_ca", "client_auth_type", *FILES)):
        return None
    for name in ("cert", "key"):
        if not tls.get(name) and not tls.get(f"{name}_file"):
            raise StartError(f"missing one of {name} or {name}_file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_pair(context, _part(tls, "cert"), _part(tls, "key"))
    _choose(context, tls)
    _know_clients(context, tls)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _choose(context: ssl.SSLContext, tls: dict[str, Any]) -> None:
    low = tls.get("min_version", "TLS12")
    old = low in ("TLS10", "TLS11")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of old versions: the operator asked for them
        context.minimum_version = LEVELS[low]
        context.maximum_version = LEVELS[tls.get("max_version", "TLS13")]
    suites = [name for suite in tls.get("cipher_suites", ()) if (name := webconfig.CIPHERS[suite])]
    if suites or old:
        context.set_ciphers(":".join(suites or ["DEFAULT"]) + (":@SECLEVEL=0" if old else ""))
    if tls.get("prefer_server_cipher_suites", True):
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    curves = tls.get("curve_preferences", ())
    if len(curves) > 1:
        raise StartError("curve_preferences: this version of Python takes one curve only")
    if curves:
        context.set_ecdh_curve(webconfig.CURVES[curves[0]])


def _know_clients(context: ssl.SSLContext, tls: dict[str, Any]) -> None:
    kind = tls.get("client_auth_type", "")
    given = tls.get("client_ca_file") or tls.get("client_ca")
    if kind not in webconfig.AUTH:
        raise StartError(f"invalid ClientAuth: {kind}")
    if kind in ("", "NoClientCert"):
        if given:
            raise StartError("client CA's have been configured without a Client Auth Policy")
        return
    if not kind.endswith(("VerifyClientCert", "ClientCertIfGiven")):
        raise StartError(f"client_auth_type {kind}: a certificate that nobody verifies is not asked for")
    context.verify_mode = ssl.CERT_REQUIRED if kind.startswith("Require") else ssl.CERT_OPTIONAL
    if not given:
        context.set_default_verify_paths()
        return
    authorities = (webconfig.read_octets(tls["client_ca_file"]) if tls.get("client_ca_file")
                   else tls["client_ca"].encode())
    try:
        context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError) as error:
        raise StartError(f"client_ca: {error}") from None


def _names(certificate: Any) -> set[str]:
    """The subject's alternative names in a client's certificate."""
    return {str(value) for _, value in (certificate or {}).get("subjectAltName", ())}


class Gate:
    """`path` is the file that the Corefile names. StartError where that, or a file it names, is no good."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.log = logging.getLogger("prometheus")  # without the plugin's name, as CoreDNS logs these
        self._read()
        self._stamp = self._look(self.files)
        self.tls = self.context is not None
        self.tokens, self.filled = 0.0, time.monotonic()
        rate = self.config["rate_limit"]
        self.interval, self.burst = rate.get("interval", 0) / 1e9, rate.get("burst", 0)
        self.tokens = float(self.burst)
        self.one = asyncio.Lock()
        self.known: dict[tuple[str, str, str], bool] = {}

    def _read(self) -> None:
        config = webconfig.load(self.path)
        for secret in config["basic_auth_users"].values():
            if len(secret) < SECRET_MIN:
                raise StartError("crypto/bcrypt: hashedSecret too short to be a bcrypted password")
            if not secret.startswith("$2"):
                raise StartError("crypto/bcrypt: bcrypt hashes must start with '$2'")
        if config["basic_auth_users"]:
            check_password("", NOBODY)
        context = make_context(config["tls_server_config"])
        self.config, self.context = config, context
        tls = config["tls_server_config"]
        self.files = (self.path, *(tls[name] for name in FILES if tls.get(name)))
        self.sans = frozenset(tls["client_allowed_sans"]) if "client_allowed_sans" in tls else None

    @staticmethod
    def _look(files: tuple[str, ...]) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []
        for path in files:
            try:
                at = Path(path).stat()
                found.append((at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns))
            except OSError:
                found.append(())
        return found

    def refresh(self) -> None:
        """Reads the files again if one of them has changed. Whether there is TLS stays as it was at the start."""
        stamp = self._look(self.files)
        if stamp == self._stamp:
            return
        before = self.config, self.context, self.files, self.sans
        try:
            self._read()
            if (self.context is not None) != self.tls:
                raise StartError("TLS cannot be turned on or off without a reload")
            self._stamp = self._look(self.files)
        except Exception as error:
            # Whatever somebody has written there: a scrape must not end by it.
            self.config, self.context, self.files, self.sans = before
            self._stamp = stamp
            REREAD_FAILURES.inc()
            why = str(error) if isinstance(error, StartError) else f"{type(error).__name__}: {error}"
            self.log.error("%s: %s; what was read before goes on", self.path, why)

    def knows(self, certificate: Any) -> bool:
        """Whether a client may come in by its certificate; one that has none was let in by `client_auth_type`."""
        return self.sans is None or not certificate or bool(self.sans & _names(certificate))

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Fields of every answer."""
        return list(self.config["http_server_config"].get("headers", {}).items())

    def within_rate(self) -> bool:
        """Whether one more request is within the rate: a bucket of `burst` tokens, one more each `interval`."""
        if self.interval <= 0:
            return True
        now = time.monotonic()
        self.tokens = min(float(self.burst), self.tokens + (now - self.filled) / self.interval)
        self.filled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    async def admits(self, authorization: bytes) -> bool:
        """Whether the Authorization field names a user and its password; yes where no users are listed."""
        users = self.config["basic_auth_users"]
        if not users:
            return True
        user, password = credentials(authorization)
        if user is None:
            return False
        key = user, users.get(user, NOBODY), password
        if key not in self.known:
            async with self.one:
                right = await asyncio.get_running_loop().run_in_executor(None, check_password, password, key[1])
            while len(self.known) >= REMEMBERED:
                del self.known[next(iter(self.known))]
            self.known[key] = right and user in users
        return self.known[key]


def credentials(authorization: bytes) -> tuple[str | None, str]:
    """User and password of a field's value (RFC 7617); (None, "") where it has none."""
    scheme, _, value = authorization.partition(b" ")
    try:
        text = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None, ""
    user, colon, password = text.partition(":")
    return (user, password) if colon and scheme.lower() == b"basic" else (None, "")


def check_password(password: str, secret: str) -> bool:
    """Whether `secret` is the bcrypt hash of `password`, whose first 72 octets count. StartError without bcrypt."""
    try:
        import bcrypt
    except ImportError:
        raise StartError("basic_auth_users needs bcrypt: pip install 'fastdns[tls]'") from None
    try:
        return bool(bcrypt.checkpw(password.encode()[:72], secret.encode()))
    except ValueError:
        return False
