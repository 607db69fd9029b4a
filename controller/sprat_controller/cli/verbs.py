"""How a verb is declared: one decorator gives each the shared options and its session."""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Concatenate, Final, ParamSpec

import httpx
import typer

from sprat_controller.cli.client import Api
from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.cli.output import Format, Output
from sprat_controller.cli.settings import resolve
from sprat_controller.clock import Clock, system_clock

P = ParamSpec("P")


@dataclass(frozen=True)
class Surroundings:
    """What a session meets of the world; tests bring their own."""

    transport: httpx.BaseTransport | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Clock = system_clock
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Flags:
    """The options that every verb has."""

    output: Format | None = None
    url: str | None = None
    token: str | None = None
    ca: str | None = None


class Session:
    """One call of `sprat`: its output, and its connection once something is asked of it."""

    def __init__(self, around: Surroundings, flags: Flags) -> None:
        self.around = around
        self.flags = flags
        self.output = Output(flags.output)

    @cached_property
    def api(self) -> Api:
        """The controller that options, environment or login name."""
        flags = self.flags
        settings = resolve(self.around.environ, url=flags.url, token=flags.token, ca=flags.ca)
        return Api(settings, self.around.transport)

    def close(self) -> None:
        """End the connection, if there is one."""
        if "api" in self.__dict__:
            self.api.close()

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something that cannot be taken back.

        Raises:
            CliError: The answer is no, or there is nobody to ask.
        """
        if yes:
            return
        if not sys.stdin.isatty():
            raise CliError(f"{question} Add --yes to do it without being asked", Exit.USAGE)
        if not typer.confirm(question, err=True):
            raise CliError("nothing was changed")


_SHARED: Final[Mapping[str, Any]] = {
    "url": Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="The controller, https://HOST:PORT (SPRAT_URL)."),
    ],
    "token": Annotated[
        str | None, typer.Option("--token", metavar="TOKEN", help="Who you are (SPRAT_TOKEN).")
    ],
    "ca": Annotated[
        str | None,
        typer.Option("--ca", metavar="FILE", help="The controller's ca.pem (SPRAT_CA)."),
    ],
    "output": Annotated[
        Format | None,
        typer.Option("-o", "--output", help="Default: table on a terminal, tsv in a pipe."),
    ],
}


def verb(
    app: typer.Typer, name: str, *, example: str, connects: bool = True
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Declare a function as the verb `name` of `app`; its first argument is the session.

    Args:
        app: The group the verb belongs to.
        name: What people type.
        example: A whole command, shown by --help.
        connects: Whether it talks to a controller, and so has --url, --token and --ca.
    """

    def register(
        function: Callable[Concatenate[Session, P], None],
    ) -> Callable[Concatenate[Session, P], None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        shared = {key: kind for key, kind in _SHARED.items() if connects or key == "output"}
        command = _command(function, own, shared)
        app.command(name, epilog=f"Example: {example}")(command)
        return function

    return register


def _command(
    function: Callable[..., None], own: list[inspect.Parameter], shared: Mapping[str, Any]
) -> Callable[..., None]:
    """Return what typer calls: `function` with the shared options in place of the session."""

    def command(**given: Any) -> None:
        context: typer.Context = given.pop("typer_context")
        flags = Flags(**{key: given.pop(key) for key in shared})
        session = Session(context.obj or Surroundings(), flags)
        try:
            function(session, **given)
        finally:
            session.close()

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("typer_context", keyword, annotation=typer.Context),
        *(parameter.replace(kind=keyword) for parameter in own),
        *(
            inspect.Parameter(key, keyword, annotation=kind, default=None)
            for key, kind in shared.items()
        ),
    ]
    # typer reads a command's options from exactly these attributes.
    command.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess] - the documented override
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__doc__ = inspect.getdoc(function)
    command.__name__ = function.__name__
    return command
