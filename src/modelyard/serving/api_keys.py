"""Who may ask for predictions?

Keys are lines of a file, as `Authorization: Bearer KEY` carries them or as `sha256:` and the digest
of one. The file is read again when it changes: a key is added, both are used, the old one is
removed, and no replica has to start anew.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import time
from collections.abc import Callable
from pathlib import Path

from modelyard.errors import ConfigError

MIN_KEY_LENGTH = 16
_DIGEST = "sha256:"
_LOOK_SECONDS = 1.0
_log = logging.getLogger(__name__)


class ApiKeys:
    """The keys of a file."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raise ConfigError for a file that cannot be read, has no key, or too short a one."""
        self._path = path
        self._clock = clock
        self._stamp = self._stat()
        self._digests = read_keys(path)
        self._looked = clock()

    def allow(self, authorization: str | None) -> bool:
        """Say whether a header carries one of the keys; takes as long whichever it is."""
        self._look()
        scheme, _, key = (authorization or "").partition(" ")
        given = hashlib.sha256(key.strip().encode("utf-8", "surrogatepass")).digest()
        found = False
        for digest in self._digests:
            found |= hmac.compare_digest(given, digest)
        return found and scheme.lower() == "bearer"

    def _look(self) -> None:
        """Read the file again when it changed; a file that became unreadable changes nothing."""
        now = self._clock()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        try:
            stamp = self._stat()
            if stamp != self._stamp:
                self._digests = read_keys(self._path)
                self._stamp = stamp
                _log.info("%d API keys were read again from %s", len(self._digests), self._path)
        except (OSError, ConfigError) as err:
            _log.error("the API keys stay as they were: %s", err)

    def _stat(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as err:
            raise ConfigError(f"Cannot read the API keys {self._path}: {err.strerror}.") from err
        return found.st_mtime_ns, found.st_size, found.st_ino


def read_keys(path: Path) -> tuple[bytes, ...]:
    """Return the sha256 of each key of a file; blank lines and # comments are left out.

    Raises ConfigError that names the line, never the key.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"Cannot read the API keys {path}: {err}.") from err
    digests = []
    for number, line in enumerate(lines, 1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        digests.append(_digest(key, f"{path}, line {number}"))
    if not digests:
        raise ConfigError(f"{path} has no API key. Write one a line, `openssl rand -hex 32`.")
    return tuple(digests)


def _digest(key: str, where: str) -> bytes:
    if key.startswith(_DIGEST):
        try:
            digest = bytes.fromhex(key.removeprefix(_DIGEST))
        except ValueError:
            digest = b""
        if len(digest) != hashlib.sha256().digest_size:
            raise ConfigError(f"{where}: sha256: must be followed by 64 hexadecimal digits.")
        return digest
    if len(key) < MIN_KEY_LENGTH or " " in key:
        raise ConfigError(
            f"{where}: an API key has at least {MIN_KEY_LENGTH} characters and no space. Make one "
            "with `openssl rand -hex 32`."
        )
    return hashlib.sha256(key.encode()).digest()


def require_keys_beyond_loopback(host: str, *, has_keys: bool, open_to_all: bool) -> None:
    """Raise ConfigError for an address that others reach, where nobody has to show a key."""
    if has_keys or open_to_all or _is_loopback(host):
        return
    raise ConfigError(
        f"Refused to listen on {host} without API keys: whoever reaches the address could ask for "
        "predictions. Name a file of keys, listen on 127.0.0.1, or say that it is meant to be open."
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
