"""Reading what people type: names, labels, releases, moments, amounts, golden prompts.

Each function returns the value or raises CliError with status USAGE.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from sprat_proto.manifest import GoldenPrompt, is_model_name, is_release_version
from sprat_proto.topics import is_device_id

from sprat_controller.cli.exits import CliError, Exit

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d.*")
_LABEL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/-]{0,62}=[^=]{1,128}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?(B|KiB|MiB|GiB|TiB)", re.ASCII)
_RATE = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,3})?", re.ASCII)
_PERCENT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,4})?) ?%?", re.ASCII)
_UNITS: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_MAX_BYTES: Final = 1 << 53


def wrong(message: str) -> CliError:
    """Return the error for a word that is not what it should be."""
    return CliError(message, Exit.USAGE)


def device(text: str) -> str:
    """Check a device's name."""
    if not is_device_id(text):
        raise wrong(
            f"expected a device name of a-z, 0-9 and inner hyphens (at most 64), found {text!r}"
        )
    return text


def name(text: str, what: str) -> str:
    """Check the name of a model, alias or variant."""
    if not is_model_name(text):
        raise wrong(
            f"expected {what} of a-z, 0-9 and ._- (at most 64, a letter or digit first),"
            f" found {text!r}"
        )
    return text


def identifier(text: str, what: str) -> str:
    """Check an id, which becomes a part of an address."""
    if _ID.fullmatch(text) is None:
        raise wrong(f"expected the id of {what}, as its list shows it, found {text!r}")
    return text


def matching(text: str | None) -> str:
    """Return a filter as it was typed; an empty one, if there is none, is all devices.

    One that is there and empty, as a shell's unset variable gives it, is not meant so.
    """
    if text is not None and not text.strip():
        raise wrong("expected a filter in --filter, found nothing: leave it out for all devices")
    return text or ""


def version(text: str) -> str:
    """Check a release's version."""
    if not is_release_version(text):
        raise wrong(f"expected a release such as 1.3.0 or 1.3.0-rc1, found {text!r}")
    return text


def model_release(text: str) -> tuple[str, str]:
    """Take MODEL@RELEASE apart."""
    model, at, release = text.partition("@")
    if not at:
        raise wrong(f"expected MODEL@RELEASE, such as qwen3-0.6b@1.3.0, found {text!r}")
    return name(model, "a model name"), version(release)


def labels(words: Sequence[str]) -> dict[str, str]:
    """Read KEY=VALUE words; each key once."""
    pairs: dict[str, str] = {}
    for word in words:
        if _LABEL.fullmatch(word) is None or not word.isprintable():
            raise wrong(
                f"expected a label of the form KEY=VALUE, such as site=lyon, found {word!r}"
            )
        key, _, value = word.partition("=")
        if key in pairs:
            raise wrong(f"expected each label once, found {key!r} twice")
        pairs[key] = value
    return pairs


def label_changes(words: Sequence[str]) -> dict[str, str | None]:
    """Read KEY=VALUE (set) and KEY- (remove) words."""
    removed = [word[:-1] for word in words if "=" not in word and word.endswith("-")]
    kept = labels([word for word in words if "=" in word or not word.endswith("-")])
    if not kept and not removed:
        raise wrong("expected KEY=VALUE to set or KEY- to remove, found nothing")
    return {**kept, **dict.fromkeys(removed)}


def moment(text: str, now: datetime) -> datetime:
    """Read a moment to come: RFC 3339, or `YYYY-MM-DD HH:MM` in local time."""
    form = "expected RFC 3339 (2026-12-01T03:00:00Z) or a local 'YYYY-MM-DD HH:MM'"
    if _MOMENT.fullmatch(text) is None:
        raise wrong(f"{form}, found {text!r}")
    try:
        read = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise wrong(f"{form}, found {text!r}: {error}") from error
    if read <= now:
        raise wrong(f"expected a moment to come, found {text!r}: leave --at out to start now")
    return read


def memory(text: str) -> int:
    """Read a size with its unit, in bytes."""
    form = "expected a size of 1 B or more with its unit, such as 2GiB or 512MiB"
    found = _SIZE.fullmatch(text)
    size = int(Decimal(found[1]) * _UNITS[found[2]]) if found else 0
    if not 0 < size <= _MAX_BYTES:
        raise wrong(f"{form}, found {text!r}")
    return size


def rate(text: str) -> int:
    """Read tokens a second, in thousandths."""
    milli = int(Decimal(text) * 1000) if _RATE.fullmatch(text) else 0
    if not milli:
        raise wrong(f"expected tokens a second, such as 10 or 7.5, found {text!r}")
    return milli


def loss(text: str) -> int:
    """Read percent of quality, in millionths."""
    found = _PERCENT.fullmatch(text)
    if found is None:
        raise wrong(
            "expected percent of quality with at most four decimals, such as 2% or 0.5%,"
            f" found {text!r}"
        )
    return int(Decimal(found[1]) * 10_000)


def golden(text: str) -> GoldenPrompt:
    """Read PROMPT=>EXPECTED; the answer may be as long as what is expected."""
    prompt, arrow, expect = (part.strip() for part in text.partition("=>"))
    if not arrow or not prompt or not expect:
        raise wrong(f"expected a golden prompt of the form 'PROMPT=>EXPECTED', found {text!r}")
    if max(len(prompt), len(expect)) > 8192:  # noqa: PLR2004 - as `GoldenPrompt` says
        raise wrong("expected a golden prompt and answer of at most 8192 letters, found more")
    # A token is rarely less than a letter.
    return GoldenPrompt(prompt, expect, max_tokens=min(1024, max(32, len(expect))))
