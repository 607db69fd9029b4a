"""What the local API needs where others than this device can reach it: TLS, keys, and names.

Without all of them the agent refuses to start. A key is asked of every request but `GET /livez`,
which tells a prober nothing but that a process answers.
"""

from __future__ import annotations

import hmac
import os
import re
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from starlette.types import Scope

from sprat_agent.api.addresses import Address, ListenError, parse
from sprat_agent.api.faults import ApiError
from sprat_agent.config import NetworkConfig

MIN_KEY_LENGTH: Final = 32
OPEN_PATHS: Final = frozenset({"/livez"})
_KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MAX_FILE_BYTES: Final = 1 << 20
_OTHERS: Final = 0o077
# Root may let a service read by group or by an access list, as systemd's credentials are.
_OTHERS_OF_ROOT: Final = 0o037


class ApiKeys:
    """The keys that applications may show; their digests are all that stays in memory."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """Know keys, each with its name; one without is called by the beginning of its digest."""
        self._names = tuple((_digest(key), name or _digest_name(key)) for key, name in keys.items())

    def name_of(self, shown: str) -> str | None:
        """Return the name of a key, in a time that does not depend on how alike they are.

        None: it is none of them.
        """
        digest = _digest(shown)
        found = [name for one, name in self._names if hmac.compare_digest(digest, one)]
        return found[0] if found else None


@dataclass(frozen=True)
class Network:
    """Where others can reach this device, and what guards it there."""

    address: Address
    tls: ssl.SSLContext
    keys: ApiKeys
    names: tuple[str, ...]  # of this device, in lower case, IPv6 in brackets; at least one

    def refusal(self, path: str, headers: Mapping[str, str]) -> ApiError | None:
        """Return why a request without a known key may not come in, or None."""
        if path in OPEN_PATHS:
            return None
        shown = shown_key(headers)
        if self.keys.name_of(shown) is not None:
            return None
        what = "another one" if shown else "none"
        message = (
            "expected one of this device's API keys in the header Authorization (as `Bearer KEY`)"
            f" or x-api-key, found {what}"
        )
        return ApiError(401, "invalid_api_key", message)


def shown_key(headers: Mapping[str, str]) -> str:
    """Return the key that a request shows, as OpenAI's and Ollama's clients or as Anthropic's."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    bearer = key.strip() if scheme.lower() == "bearer" else ""
    return bearer or headers.get("x-api-key", "")


def prepare(config: NetworkConfig) -> Network | None:
    """Return where to listen beyond loopback and what guards it; None: nowhere.

    Raises:
        ListenError: Something of it is missing or cannot be used.
    """
    certificate, private_key, api_keys = config.certificate, config.private_key, config.api_keys
    given = {
        "--network": config.listen,
        "--tls-certificate": certificate,
        "--tls-key": private_key,
        "--api-keys": api_keys,
        "--host-name": config.names,
    }
    if not any(given.values()):
        return None
    if not (config.listen and certificate and private_key and api_keys and config.names):
        missing = ", ".join(option for option, value in given.items() if not value)
        raise ListenError(
            "to listen beyond loopback takes an address, TLS, API keys and names; missing are"
            f" {missing}"
        )
    return Network(
        parse(config.listen),
        tls_context(certificate, private_key),
        ApiKeys(read_keys(api_keys)),
        tuple(_name(one) for one in config.names),
    )


def tls_context(certificate: Path, private_key: Path) -> ssl.SSLContext:
    """Return a server's TLS, 1.2 or newer.

    Raises:
        ListenError: A file cannot be used, or the private key is open to others.
    """
    read_secret(private_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a passphrase OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, private_key, password="")
    except OSError as error:  # also ssl.SSLError
        raise ListenError(
            f"the certificate {certificate} with the unencrypted key {private_key} cannot be used:"
            f" {error.strerror or error}"
        ) from error
    return context


def read_keys(file: Path) -> dict[str, str]:
    """Return the API keys of a file, each with its name: one a line; `#` begins a comment's line.

    A line is `KEY` or `NAME KEY`; several keys may have one name, so that one can follow another.

    Raises:
        ListenError: It cannot be read, is open to others, has no key, or one that is no good.
    """
    lines = [line.strip() for line in read_secret(file).decode("utf-8", "replace").splitlines()]
    said = [line.split() for line in lines if line and not line.startswith("#")]
    if not said or not all(_is_key(words) for words in said):
        raise ListenError(
            f"expected API keys of {MIN_KEY_LENGTH} or more letters and digits in {file}, one a"
            " line, each with a name of up to 63 letters, digits, `.`, `_` and `-` before it if you"
            f" like, found {'another line' if said else 'none'}: `openssl rand -hex 32` makes a key"
        )
    return {words[-1]: words[0] if words[1:] else "" for words in said}


def read_secret(file: Path) -> bytes:
    """Return what is in a file that nobody else may read.

    Raises:
        ListenError: It cannot be read, or others can read or change it.
    """
    try:
        with file.open("rb") as opened:
            found = os.fstat(opened.fileno())
            data = opened.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise ListenError(f"{file} cannot be read: {error.strerror}") from error
    mode = stat.S_IMODE(found.st_mode)
    is_ours = found.st_uid == os.geteuid()
    if not is_ours and found.st_uid != 0:
        raise ListenError(f"{file} belongs to somebody else: the agent's user or root must own it")
    if mode & (_OTHERS if is_ours else _OTHERS_OF_ROOT):
        raise ListenError(f"{file} is open to others (mode {mode:o}): run `chmod 600 {file}`")
    return data


def headers_of(scope: Scope) -> dict[str, str]:
    """Return a request's headers by their names, which are in lower case."""
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}


def _is_key(words: list[str]) -> bool:
    key = words[-1]
    is_named = len(words) == 1 or (len(words) == 2 and _KEY_NAME.fullmatch(words[0]) is not None)  # noqa: PLR2004 - name and key
    return is_named and len(key) >= MIN_KEY_LENGTH and key.isascii()


def _digest_name(key: str) -> str:
    return f"sha256-{_digest(key).hex()[:8]}"


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def _name(given: str) -> str:
    name = given.lower()
    return f"[{name}]" if ":" in name and not name.startswith("[") else name
