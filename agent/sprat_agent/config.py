"""What the command line says, checked, as few settings for each part."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from sprat_agent import __version__

DEFAULT_LISTEN = "127.0.0.1:7772"
DEFAULT_PREFIXES_MIB = 256
DEFAULT_AUDIT_BOUND_MIB = 64
DEFAULT_AUDIT_RESERVE_MIB = 16
_MOST_MIB = 1 << 20

Carrier: TypeAlias = Literal["auto", "grpc", "mqtt"]


@dataclass(frozen=True)
class NetworkConfig:
    """Where `sprat-agent run` listens beyond loopback, and what it needs there; all, or none."""

    listen: str = ""  # host:port
    certificate: Path | None = None  # PEM, the issuers' after it
    private_key: Path | None = None  # PEM
    api_keys: Path | None = None  # one a line
    names: tuple[str, ...] = ()  # by which applications reach this device


@dataclass(frozen=True)
class AuditConfig:
    """What `sprat-agent run` is told of its audit log."""

    bound_bytes: int = DEFAULT_AUDIT_BOUND_MIB << 20  # that wait, before rollouts are refused
    reserve_bytes: int = DEFAULT_AUDIT_RESERVE_MIB << 20  # kept free for it; 0: none
    policy: Path | None = None  # TOML: what of inference goes on record; None: sums of each hour


@dataclass(frozen=True)
class RunConfig:
    """`sprat-agent run`."""

    state_dir: Path
    listen: str  # host:port on loopback
    socket: Path
    declared_profile: Path | None
    carrier: Carrier
    network: NetworkConfig = NetworkConfig()
    prefix_bytes: int = DEFAULT_PREFIXES_MIB << 20  # of a model's file; 0: none
    is_measured: bool = True  # it measures its speed when it is idle, unless declared
    audit: AuditConfig = AuditConfig()


@dataclass(frozen=True)
class Claimed:
    """Where to enrol, and by which token."""

    controller_url: str
    token: str


@dataclass(frozen=True)
class EnrolConfig:
    """`sprat-agent enrol`."""

    claim: Claimed | Path  # as typed, or the claim file of an image
    state_dir: Path
    identity_key: str  # `file`, or a PKCS#11 URI
    image_root: Path | None  # pinned by hand
    director_root: Path | None


@dataclass(frozen=True)
class StatusConfig:
    """`sprat-agent status`."""

    state_dir: Path


@dataclass(frozen=True)
class MeasureConfig:
    """`sprat-agent measure`."""

    state_dir: Path | None  # what is found is not kept there; only its folder is used


@dataclass(frozen=True)
class ImportConfig:
    """`sprat-agent bundle import`."""

    bundle: Path
    state_dir: Path


Config: TypeAlias = RunConfig | EnrolConfig | StatusConfig | ImportConfig | MeasureConfig


def parse(arguments: Sequence[str]) -> Config:
    """Return what the arguments ask for; a wrong one ends the process with status 2."""
    parser = argparse.ArgumentParser(
        prog="sprat-agent", description="Run signed language models on this device."
    )
    parser.add_argument("--version", action="version", version=f"sprat-agent {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True)
    _add_enrol(verbs.add_parser("enrol", help="make this device known to a controller, once"))
    _add_run(verbs.add_parser("run", help="serve models and follow the controller"))
    _add_state(verbs.add_parser("status", help="print what the running agent says of itself"))
    measure = verbs.add_parser("measure", help="measure this device's speed, print it as JSON")
    measure.add_argument(
        "--state", type=Path, metavar="DIR", help="where a scratch folder may be (default: /tmp)"
    )
    _add_bundle(verbs.add_parser("bundle", help="take in what a stick brought"))
    found = parser.parse_args(arguments)
    match found.verb:
        case "bundle":
            return ImportConfig(found.file, found.state)
        case "enrol":
            return EnrolConfig(
                _claim(parser, found),
                found.state,
                found.identity_key,
                found.image_root,
                found.director_root,
            )
        case "run":
            socket = found.socket or found.state / "sprat.sock"
            return RunConfig(
                found.state,
                found.listen,
                socket,
                found.declare_profile,
                found.carrier,
                NetworkConfig(
                    found.network,
                    found.tls_certificate,
                    found.tls_key,
                    found.api_keys,
                    tuple(found.host_name),
                ),
                found.prefixes << 20,
                found.measure,
                AuditConfig(found.audit_bound << 20, found.audit_reserve << 20, found.audit_policy),
            )
        case "measure":
            return MeasureConfig(found.state)
        case _:
            return StatusConfig(found.state)


def _add_enrol(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--controller", metavar="URL", help="https://host:7770")
    parser.add_argument("--token", help="from `sprat enrolment create`")
    parser.add_argument(
        "--claim",
        type=Path,
        metavar="FILE",
        help="a claim file instead of both, for images that enrol at their first start; it is"
        " removed when the device is enrolled",
    )
    _add_state(parser)
    parser.add_argument(
        "--identity-key",
        default="file",
        metavar="URI",
        help="pkcs11:token=NAME;object=LABEL?module-path=FILE.so&pin-source=FILE (default: a file)",
    )
    for name, what in (("image", "what is released"), ("director", "who gets what")):
        parser.add_argument(
            f"--{name}-root",
            type=Path,
            metavar="FILE",
            help=f"begin to trust {what} with this TUF root, not with the controller's first word",
        )


def _claim(parser: argparse.ArgumentParser, found: argparse.Namespace) -> Claimed | Path:
    match found.claim, found.controller, found.token:
        case Path() as file, None, None:
            return file
        case None, str(url), str(token):
            return Claimed(url, token)
        case _:
            return parser.error("expected --controller and --token, or --claim alone")


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="bundle_verb", required=True)
    importing = verbs.add_parser("import", help="verify a bundle and take it in, agent stopped")
    importing.add_argument("file", type=Path, metavar="FILE", help="from `sprat bundle export`")
    _add_state(importing)


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_state(parser)
    parser.add_argument(
        "--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help="loopback; port 0 is any"
    )
    parser.add_argument(
        "--network",
        default="",
        metavar="HOST:PORT",
        help="listen beyond loopback too, which takes the next four options",
    )
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="PEM, with its chain")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM, mode 0600, unencrypted")
    parser.add_argument(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help="mode 0600; a line has a key of 32 or more, before it its name if you like",
    )
    parser.add_argument(
        "--host-name",
        action="append",
        default=[],
        metavar="NAME",
        help="a name or address that applications reach this device by; may be repeated",
    )
    parser.add_argument(
        "--socket", type=Path, metavar="PATH", help="Unix socket (default DIR/sprat.sock)"
    )
    parser.add_argument(
        "--declare-profile",
        type=Path,
        metavar="FILE.json",
        help="claim this hardware instead of measuring it; marked as simulated everywhere",
    )
    parser.add_argument(
        "--measure",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure this device's speed, once, when it is idle (default: yes)",
    )
    parser.add_argument("--carrier", choices=("auto", "grpc", "mqtt"), default="auto")
    parser.add_argument(
        "--prefixes",
        type=_mebibytes,
        default=DEFAULT_PREFIXES_MIB,
        metavar="MIB",
        help="how much of the disk each model may take for what it computed of prompts, which"
        f" tells of them; 0 keeps nothing (default {DEFAULT_PREFIXES_MIB})",
    )
    parser.add_argument(
        "--audit-policy",
        type=Path,
        metavar="FILE.toml",
        help="what goes on record of each request to a model (default: sums of each hour, and"
        " nothing of what was said)",
    )
    parser.add_argument(
        "--audit-bound",
        type=_some_mebibytes,
        default=DEFAULT_AUDIT_BOUND_MIB,
        metavar="MIB",
        help="refuse rollouts while so much of the audit log waits for the controller, until a"
        f" quarter of it is acknowledged (default {DEFAULT_AUDIT_BOUND_MIB})",
    )
    parser.add_argument(
        "--audit-reserve",
        type=_mebibytes,
        default=DEFAULT_AUDIT_RESERVE_MIB,
        metavar="MIB",
        help="space that the audit log gets when the disk is full, and rollouts are refused; 0"
        f" reserves none (default {DEFAULT_AUDIT_RESERVE_MIB})",
    )


def _some_mebibytes(text: str) -> int:
    found = _mebibytes(text)
    if found == 0:
        message = f"expected a whole number from 1 to {_MOST_MIB}, found 0"
        raise argparse.ArgumentTypeError(message)
    return found


def _mebibytes(text: str) -> int:
    if not text.isdecimal() or int(text) > _MOST_MIB:
        message = f"expected a whole number from 0 to {_MOST_MIB}, found {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _add_state(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", type=Path, required=True, metavar="DIR", help="where the agent keeps its files"
    )
