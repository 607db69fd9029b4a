"""The `sprat` command: its verbs, and the one place where errors become a sentence and a status.

Every failure is one line on standard error that begins with "sprat: "; a bug says that it is one,
and shows where only with SPRAT_DEBUG=1.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

import typer
from typer.core import TyperGroup

from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.cli.output import say, text
from sprat_controller.cli.parts import PARTS, commands_of

_USAGE: Final = 2  # how typer ends for wrong usage
_OF_A_CHOICE: Final = "Value error, "  # how it begins what it says of a word that is none of a few


class SpratGroup(TyperGroup):
    """The root of all verbs: ends each call with our exit statuses."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Find the command that a call names, and import it now."""
        if args[0] in PARTS:
            self.commands.update(commands_of(PARTS[args[0]]))
        return TyperGroup.resolve_command(self, ctx, args)

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a call and leave the process with its status."""
        options["standalone_mode"] = False
        sys.exit(_status_of(lambda: TyperGroup.main(self, *args, **options)))


def _not_imported() -> None:
    """Stand in the list of commands until one is called by its name."""


app = typer.Typer(
    cls=SpratGroup,
    name="sprat",
    help="Operate a fleet of devices that run signed language models.",
    epilog="Example: sprat login https://controller.example:7770 --ca ca.pem",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for word, part in PARTS.items():
    app.command(word, help=part.help)(_not_imported)


def main() -> None:
    """Run `sprat` as the process's arguments say."""
    app(prog_name="sprat")


def _status_of(call: Callable[[], object]) -> int:
    """Run a call, tell what went wrong, and return the exit status."""
    try:
        status = call()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); Python must not flush to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.ERROR
    except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes one sentence
        message, ended = _explained(error)
        say(f"sprat: {' '.join(text(message).split())}")
        return ended
    return status if isinstance(status, int) else Exit.DONE


def _explained(error: Exception) -> tuple[str, Exit]:
    """Return what to tell about an error, and the exit status."""
    match error:
        case CliError():
            return error.message, error.status
        case typer.Abort():
            return "nothing was changed", Exit.ERROR
        case typer.TyperException():
            return _usage(error), Exit.USAGE if error.exit_code == _USAGE else Exit.ERROR
        case _:
            return _of_a_library(error)


def _of_a_library(error: Exception) -> tuple[str, Exit]:
    # Imports most of what `sprat` can do, which calls that succeed do not need.
    from sprat_controller.cli.statuses import STATUSES  # noqa: PLC0415 - see above

    status = STATUSES.get(type(error))
    return (_bug(error), Exit.ERROR) if status is None else (str(error), status)


def _usage(error: typer.TyperException) -> str:
    context: Any = getattr(error, "ctx", None)
    command = context.command_path if context else "sprat"
    said = error.format_message().replace(_OF_A_CHOICE, "")
    return f"{said.rstrip('.')} (see `{command} --help`)"


def _bug(error: Exception) -> str:
    if os.environ.get("SPRAT_DEBUG") == "1":
        traceback.print_exception(error)
    return (
        f"this is a bug in sprat ({type(error).__name__}: {error}); please report it with the"
        " command you ran and what it prints with SPRAT_DEBUG=1"
    )
