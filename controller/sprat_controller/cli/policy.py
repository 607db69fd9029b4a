"""The options of a policy of fit, which several verbs share, and a policy in words.

What is read here becomes integers at once, exactly as it was typed: policies are signed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import typer
from sprat_proto.amounts import exactly, percent, thousandths
from sprat_proto.manifest import is_model_name
from sprat_proto.policy import DEFAULT_PROMPT, Aim, FitPolicy

from sprat_controller.cli import words
from sprat_controller.cli.client import Json
from sprat_controller.rollout import fit_policy

OF_RELEASE: Final = "the release's own"
_OPTIONS: Final[Mapping[str, Any]] = {
    "aim": Annotated[
        Aim | None,
        typer.Option(help="What the best variant is; quality-first where only other terms are."),
    ],
    "min_decode_tps": Annotated[
        str | None, typer.Option(metavar="RATE", help="Tokens a second for one request, at least.")
    ],
    "max_ttft_ms": Annotated[
        int | None, typer.Option(min=1, max=1 << 40, help="To an answer's first token, at most.")
    ],
    "prompt_tokens": Annotated[
        int | None,
        typer.Option(
            min=1,
            max=fit_policy.MAX_PROMPT,
            help=f"Of the prompt for which --max-ttft-ms counts; else {DEFAULT_PROMPT}.",
        ),
    ],
    "max_memory": Annotated[
        str | None, typer.Option(metavar="SIZE", help="Of all that it needs, such as 2GiB.")
    ],
    "min_context": Annotated[
        int | None,
        typer.Option(min=1, max=1 << 20, help="Tokens that it is made for and runs with."),
    ],
    "max_quality_loss": Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Of what quantization cost, such as 2%.")
    ],
    "runtime": Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only variants for this runtime; repeatable."),
    ],
    "licence": Annotated[
        list[str] | None,
        typer.Option(metavar="SPDX", help="Only models with this licence; repeatable."),
    ],
}


def policy_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of a policy in place of its parameter `policy`.

    It gets a `FitPolicy`, or None if none of them was said: a policy is said as a whole, so what is
    left out of it asks nothing, whatever the release asks.
    """

    @functools.wraps(function)
    def called(*arguments: Any, **given: Any) -> None:
        said = {name: given.pop(name) for name in _OPTIONS}
        function(*arguments, policy=read(said), **given)

    keyword = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.signature(function, eval_str=True)
    own = [one for one in signature.parameters.values() if one.name != "policy"]
    options = [
        inspect.Parameter(name, keyword, annotation=kind, default=None)
        for name, kind in _OPTIONS.items()
    ]
    # `verbs.verb` reads a verb's options from exactly this attribute.
    called.__signature__ = signature.replace(parameters=[*own, *options])  # pyright: ignore[reportFunctionMemberAccess, reportAttributeAccessIssue] - the documented override
    return called


def read(said: Mapping[str, Any]) -> FitPolicy | None:
    """Return the policy that options say, by their names; None if they say nothing.

    Raises:
        CliError: One of them is not what it should be.
    """
    if not any(value is not None and value != [] for value in said.values()):
        return None
    rate, memory, loss = said["min_decode_tps"], said["max_memory"], said["max_quality_loss"]
    return FitPolicy(
        aim=said["aim"] or Aim.QUALITY_FIRST,
        min_decode_milli_tps=0 if rate is None else words.rate(rate),
        max_ttft_ms=said["max_ttft_ms"] or 0,
        prompt_tokens=said["prompt_tokens"] or DEFAULT_PROMPT,
        max_memory_bytes=0 if memory is None else words.memory(memory),
        min_context=said["min_context"] or 0,
        max_loss_ppm=None if loss is None else words.loss(loss),
        runtimes=_listed("a runtime such as llama.cpp", said["runtime"], is_model_name),
        licences=_listed("a licence such as Apache-2.0", said["licence"], _is_licence),
    )


def body(policy: FitPolicy | None) -> Json:
    """Return what a request says of it: nothing where it is the release's own."""
    return {} if policy is None else {"policy": fit_policy.said(policy)}


def in_words(policy: FitPolicy | None) -> str:
    """Return a policy as one line: what is best, and each thing that is asked."""
    if policy is None:
        return OF_RELEASE
    asks: list[str] = [policy.aim.value]
    if policy.min_decode_milli_tps:
        asks.append(f"at least {thousandths(policy.min_decode_milli_tps)} tokens a second")
    if policy.max_ttft_ms:
        asks.append(
            f"first token after {policy.max_ttft_ms} ms at most for a prompt of"
            f" {policy.prompt_tokens} tokens"
        )
    elif policy.prompt_tokens != DEFAULT_PROMPT:
        asks.append(f"rates for prompts of {policy.prompt_tokens} tokens")
    if policy.max_memory_bytes:
        asks.append(f"at most {exactly(policy.max_memory_bytes)} of memory")
    if policy.min_context:
        asks.append(f"at least {policy.min_context} tokens of context")
    if policy.max_loss_ppm is not None:
        asks.append(f"a quality loss of at most {percent(policy.max_loss_ppm)}")
    if policy.runtimes:
        asks.append(f"runtime {' or '.join(policy.runtimes)}")
    if policy.licences:
        asks.append(f"licence {' or '.join(policy.licences)}")
    return ", ".join(asks)


def shown(said: Json | None) -> Json | str:
    """Return of an answer's policy what it asks, also what only a newer controller knows."""
    if said is None:
        return OF_RELEASE
    # A loss of 0 is the strictest there is; every other 0 asks nothing.
    asks = {name: value for name, value in said.items() if value or name == "max_quality_loss"}
    return {name: value for name, value in asks.items() if value is not None}


def _listed(what: str, said: list[str] | None, is_one: Callable[[str], bool]) -> tuple[str, ...]:
    for word in said or ():
        if not is_one(word):
            raise words.wrong(f"expected {what}, found {word!r}")
    if len(said or ()) > fit_policy.MAX_WORDS:
        raise words.wrong(f"expected {what} at most {fit_policy.MAX_WORDS} times, found more")
    return tuple(said or ())


def _is_licence(word: str) -> bool:
    return 0 < len(word) <= fit_policy.MAX_WORD and word.isprintable()
