"""What the command line says, checked, as few settings for each part."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from sprat_agent import __version__

DEFAULT_LISTEN = "127.0.0.1:7772"

Carrier: TypeAlias = Literal["auto", "grpc", "mqtt"]


@dataclass(frozen=True)
class RunConfig:
    """`sprat-agent run`."""

    state_dir: Path
    listen: str  # host:port on loopback
    socket: Path
    declared_profile: Path | None
    carrier: Carrier


@dataclass(frozen=True)
class EnrolConfig:
    """`sprat-agent enrol`."""

    controller_url: str
    token: str
    state_dir: Path
    publisher_keys: tuple[tuple[str, Path], ...]  # name, file with the public key


@dataclass(frozen=True)
class StatusConfig:
    """`sprat-agent status`."""

    state_dir: Path


Config: TypeAlias = RunConfig | EnrolConfig | StatusConfig


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
    found = parser.parse_args(arguments)
    match found.verb:
        case "enrol":
            keys = tuple(found.publisher_key)
            return EnrolConfig(found.controller, found.token, found.state, keys)
        case "run":
            socket = found.socket or found.state / "sprat.sock"
            return RunConfig(
                found.state, found.listen, socket, found.declare_profile, found.carrier
            )
        case _:
            return StatusConfig(found.state)


def _add_enrol(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--controller", required=True, metavar="URL", help="https://host:7770")
    parser.add_argument(
        "--token", required=True, help="from `sprat enrolment create`; good for one device, once"
    )
    _add_state(parser)
    parser.add_argument(
        "--publisher-key",
        type=_named_file,
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="trust only this publisher (repeatable); by default those the controller names",
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_state(parser)
    parser.add_argument(
        "--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help="loopback; port 0 is any"
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
    parser.add_argument("--carrier", choices=("auto", "grpc", "mqtt"), default="auto")


def _add_state(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", type=Path, required=True, metavar="DIR", help="where the agent keeps its files"
    )


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"expected NAME=FILE, found {text!r}")
    return name, Path(file)
