"""Which module holds the verbs of each first word, and what `sprat --help` says of it.

A call imports the modules of its own first word and no others: to import them all takes longer than
most calls do. Each has `add_to(app)`, which adds its verbs.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import typer
from typer.main import get_group


@dataclass(frozen=True)
class Part:
    """What stands behind a first word: its help, and modules of this package."""

    help: str
    modules: tuple[str, ...]


# In the order in which people read them: verbs that stand alone, then things that have verbs.
PARTS: Final[Mapping[str, Part]] = {
    "login": Part("Check an address and who you are, and keep both for later calls.", ("access",)),
    "logout": Part(
        "End the session that `sprat login --user` or `--oidc` began, and keep it no longer.",
        ("access",),
    ),
    "whoami": Part(
        "Show whose token is in use, what they were given, and what the token allows of it.",
        ("access",),
    ),
    "fit": Part(
        "Show which variant of a model a device would get, and why not the others.", ("fit",)
    ),
    "matrix": Part("Show which models run on which hardware classes, in which variant.", ("fit",)),
    "why": Part(
        "Say why a device runs what it runs, or waits, and what can be done about it.", ("why",)
    ),
    "plan": Part(
        "Show what a file would change: status 0 if nothing, 2 if something.", ("fleet_file",)
    ),
    "apply": Part("Have the fleet as a file says; a second time changes nothing.", ("fleet_file",)),
    "report": Part(
        "Write a report from the audit logs: a page, the same as JSON, and the proof.", ("report",)
    ),
    "users": Part("Users and service accounts.", ("users",)),
    "roles": Part("Roles: named sets of permissions.", ("users",)),
    "bindings": Part("Who has which role over which devices.", ("users",)),
    "sessions": Part("Who is signed in, and where.", ("access",)),
    "tokens": Part("Tokens: yours, and those of services.", ("access",)),
    "enrolment": Part("Claim tokens for new devices.", ("enrolment",)),
    "devices": Part("The devices of the fleet.", ("devices",)),
    "keys": Part("Signing keys on this machine.", ("keys",)),
    "publishers": Part("Whose models the fleet may run.", ("publishers",)),
    "trust": Part("Keys of the repositories: ceremonies and lint.", ("trust",)),
    "models": Part("Models and their signed releases.", ("models",)),
    "channels": Part("Channels of a model's releases.", ("channels",)),
    "rollout": Part("Bring a release to many devices.", ("rollout", "recurring")),
    "bundle": Part("Carry models to devices without a network.", ("bundle",)),
    "audit": Part("Who did what, in order, unbroken.", ("audit",)),
}


@cache
def commands_of(part: Part) -> Mapping[str, Any]:
    """Import a part and return all commands that its modules add, by name."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    for name in part.modules:
        module: Any = importlib.import_module(f"sprat_controller.cli.{name}")
        module.add_to(app)
    return get_group(app).commands
