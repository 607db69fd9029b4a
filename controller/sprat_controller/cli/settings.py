"""Which controller, as whom: options, else environment, else what `sprat login` kept."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from sprat_controller.cli.exits import CliError, Exit


@dataclass(frozen=True)
class Settings:
    """What a connection needs; `ca` is a PEM file, or None for the system's authorities.

    Without a token it is for signing in alone.
    """

    url: str
    token: str
    ca: str | None


def config_path(environ: Mapping[str, str]) -> Path:
    """Return where `sprat login` keeps its settings."""
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "/")) / ".config")
    return Path(home) / "sprat" / "config.json"


def resolve(
    environ: Mapping[str, str], *, url: str | None, token: str | None, ca: str | None
) -> Settings:
    """Return the settings to use.

    What `sprat login` kept counts as a whole: its token is sent to no other address than its own.

    Raises:
        CliError: No address or no token, or a settings file that cannot be read.
    """
    url = environ.get("SPRAT_URL") or None if url is None else url
    token = environ.get("SPRAT_TOKEN") or None if token is None else token
    ca = ca or environ.get("SPRAT_CA")
    if url is None or token is None:
        kept = _load(config_path(environ))
        if url and url.rstrip("/") != kept.get("url"):
            kept = {}
        url = kept.get("url") if url is None else url
        token = kept.get("token") if token is None else token
        ca = ca or kept.get("ca")
    if not url:
        raise CliError(
            "which controller? run `sprat login URL`, or give --url or SPRAT_URL", Exit.USAGE
        )
    if not token:
        raise CliError(
            f"no token for {url}: run `sprat login {url}`, or give --token or SPRAT_TOKEN",
            Exit.DENIED,
        )
    return Settings(checked_url(url), checked_token(token), ca)


def checked_url(url: str) -> str:
    """Return the controller's address in its normal form.

    Raises:
        CliError: Not https://HOST[:PORT].
    """
    try:
        parts = urlsplit(url)
        ok = parts.scheme == "https" and parts.hostname and parts.port != 0
        ok = (
            ok and parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
        )
    except ValueError:
        ok = False
    if not ok or not url.isascii():
        raise CliError(
            f"expected the controller's address as https://HOST:PORT, found {url!r}", Exit.USAGE
        )
    return url.rstrip("/")


def checked_token(token: str) -> str:
    """Return the token if it can stand in a header.

    Raises:
        CliError: Empty, or with characters that no token has.
    """
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise CliError("expected a token as `sprat tokens create` prints it", Exit.DENIED)
    return token


def tls(ca: str | None) -> ssl.SSLContext:
    """Return the TLS context that trusts `ca`, or the system's authorities.

    Raises:
        CliError: The CA file cannot be read or holds no certificate.
    """
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as error:
        reason = "no certificate in PEM form" if isinstance(error, ssl.SSLError) else str(error)
        if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
            reason = error.strerror
        raise CliError(f"the CA file {ca} cannot be used: {reason}") from error


def save(path: Path, settings: Settings) -> None:
    """Keep the settings, readable by this user only.

    Raises:
        CliError: The file cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(settings), file, indent=2)
        partial.replace(path)
    except OSError as error:
        raise CliError(f"the settings {path} cannot be written: {error.strerror}") from error


def forget(path: Path, settings: Settings) -> None:
    """Keep a token no longer, if it is this one of this controller that is kept.

    Raises:
        CliError: The file cannot be read, or not be removed.
    """
    kept = _load(path)
    if (kept.get("url"), kept.get("token")) != (settings.url, settings.token):
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CliError(f"the settings {path} cannot be removed: {error.strerror}") from error


def _load(path: Path) -> dict[str, Any]:
    try:
        kept: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CliError(
            f"the settings {path} cannot be read ({error}): run `sprat login` again"
        ) from error
    values = list(cast("dict[str, object]", kept).values()) if isinstance(kept, dict) else [kept]
    if not isinstance(kept, dict) or not all(isinstance(value, str | None) for value in values):
        raise CliError(f"the settings {path} are not what login wrote: run `sprat login` again")
    return cast("dict[str, Any]", kept)
