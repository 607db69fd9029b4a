"""The options of a policy: read exactly as they are typed, and said in words."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given
from simulators.fit_cases import UNTIMED, policies
from simulators.operator_api import OperatorApi
from simulators.sprat_command import Sprat
from sprat_controller.cli import policy, words
from sprat_controller.cli.exits import CliError
from sprat_controller.cli.policy import policy_options
from sprat_controller.rollout import fit_policy
from sprat_proto.policy import Aim, FitPolicy

PLAN = ("rollout", "plan", "talk@1.0.0", "--alias", "a")
ALL = (
    *("--aim", "speed-first", "--min-decode-tps", "7.5", "--max-ttft-ms", "2000"),
    *("--prompt-tokens", "1024", "--max-memory", "2GiB", "--min-context", "1024"),
    *("--max-quality-loss", "0.35%", "--runtime", "llama.cpp"),
    *("--licence", "Apache-2.0", "--licence", "MIT"),
)
POLICY = FitPolicy(
    aim=Aim.SPEED_FIRST,
    min_decode_milli_tps=7500,
    max_ttft_ms=2000,
    prompt_tokens=1024,
    max_memory_bytes=2 << 30,
    min_context=1024,
    max_loss_ppm=3500,
    runtimes=("llama.cpp",),
    licences=("Apache-2.0", "MIT"),
)


def test_what_is_typed_is_sent_as_people_say_it(sprat: Sprat) -> None:
    for verb, *more in (("plan",), ("start", "--yes")):
        sprat("rollout", verb, "talk@1.0.0", "--alias", "a", *more, *ALL)
        sent = next(one for one in reversed(sprat.api.bodies) if "alias" in one)["policy"]
        assert sent == {
            "aim": "speed-first",
            "min_decode_tps": 7.5,
            "max_ttft_ms": 2000,
            "prompt_tokens": 1024,
            "max_memory_bytes": 2 << 30,
            "min_context": 1024,
            "max_quality_loss": 0.35,
            "runtimes": ["llama.cpp"],
            "licences": ["Apache-2.0", "MIT"],
        }
        sent["aim"] = Aim(sent["aim"])
        assert fit_policy.asked(**sent) == POLICY


def test_without_options_the_release_s_own_policy_counts(sprat: Sprat) -> None:
    sprat(*PLAN)
    assert "policy" not in sprat.api.bodies[-1]
    sprat(*PLAN, "--aim", "quality-first")  # which asks for nothing, in place of the release's
    assert sprat.api.bodies[-1]["policy"]["aim"] == "quality-first"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--aim", "fastest"), "fastest"),
        (("--min-decode-tps", "fast"), "expected tokens a second, such as 10 or 7.5, found 'fast'"),
        (("--min-decode-tps", "0"), "expected tokens a second"),
        (("--min-decode-tps", "-1"), "expected tokens a second"),
        (("--min-decode-tps", "nan"), "expected tokens a second"),
        (("--min-decode-tps", "1e3"), "expected tokens a second"),
        (("--max-ttft-ms", "0"), "--max-ttft-ms"),
        (("--prompt-tokens", "0"), "--prompt-tokens"),
        (("--max-memory", "2"), "expected a size of 1 B or more with its unit, such as 2GiB"),
        (("--max-memory", "2GB"), "found '2GB'"),
        (("--max-memory", "0GiB"), "found '0GiB'"),
        (("--max-memory", "99999999TiB"), "found '99999999TiB'"),
        (("--min-context", "0"), "--min-context"),
        (("--max-quality-loss", "little"), "expected percent of quality"),
        (("--max-quality-loss", "-1%"), "expected percent of quality"),
        (("--max-quality-loss", "0.00001%"), "expected percent of quality"),
        (("--runtime", "A B"), "expected a runtime such as llama.cpp, found 'A B'"),
        (("--licence", ""), "expected a licence such as Apache-2.0, found ''"),
        (("--licence", "x" * 65), "expected a licence such as Apache-2.0"),
        (("--licence", "MIT") * 33, "expected a licence such as Apache-2.0 at most 32 times"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(
    sprat: Sprat, options: tuple[str, ...], sentence: str
) -> None:
    said = sprat(*PLAN, *options)
    said.assert_one_sentence(64)
    assert sentence in said.errors
    assert sprat.api.bodies == []


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("512MiB", 512 << 20), ("1.5GiB", 3 << 29), ("2 GiB", 2 << 30), ("1TiB", 1 << 40)],
)
def test_sizes_are_read_to_the_byte(text: str, size: int) -> None:
    assert words.memory(text) == size


def test_percent_is_read_to_the_millionth_with_or_without_its_sign() -> None:
    assert [words.loss(text) for text in ("2%", "2", "0.5 %", "0", "0.0001%")] == [
        *(20_000, 20_000, 5000, 0, 1)
    ]
    with pytest.raises(CliError):
        words.loss("%")


def test_rates_are_read_to_the_thousandth() -> None:
    assert [words.rate(text) for text in ("10", "7.5", "0.001")] == [10_000, 7500, 1]


def test_a_policy_is_said_in_words() -> None:
    assert policy.in_words(None) == "the release's own"
    assert policy.in_words(FitPolicy()) == "quality-first"
    assert policy.in_words(FitPolicy(max_loss_ppm=0, prompt_tokens=9)) == (
        "quality-first, rates for prompts of 9 tokens, a quality loss of at most 0 %"
    )
    assert policy.in_words(POLICY) == (
        "speed-first, at least 7.5 tokens a second, first token after 2000 ms at most for a prompt"
        " of 1024 tokens, at most 2048 MiB of memory, at least 1024 tokens of context,"
        " a quality loss of at most 0.35 %, runtime llama.cpp, licence Apache-2.0 or MIT"
    )


@UNTIMED
@given(policies(), policies())
def test_two_policies_are_never_said_alike(one: FitPolicy, other: FitPolicy) -> None:
    assert (policy.in_words(one) == policy.in_words(other)) is (one == other)


def test_a_rollout_is_shown_with_what_it_asks(sprat: Sprat, api: OperatorApi) -> None:
    asked = {**fit_policy.said(FitPolicy(max_loss_ppm=0)), "max_joules": 3}
    api.lists["rollouts"].append({"id": "r-1", "state": "RUNNING", "policy": asked})
    shown = dict(line for line in sprat("rollout", "show", "r-1").lines if len(line) == 2)
    assert shown["policy"] == (
        "aim=quality-first,prompt_tokens=512,max_quality_loss=0.0,max_joules=3"
    )
    api.lists["rollouts"].append({"id": "r-2", "state": "RUNNING"})
    shown = dict(line for line in sprat("rollout", "show", "r-2").lines if len(line) == 2)
    assert shown["policy"] == "the release's own"


def test_a_verb_gets_its_own_arguments_beside_the_policy() -> None:
    found: list[Any] = []

    @policy_options
    def verb(first: str, *, second: int = 2, policy: FitPolicy | None = None) -> None:
        found.extend((first, second, policy))

    names = list(inspect.signature(verb).parameters)
    assert names[:3] == ["first", "second", "aim"]
    assert "policy" not in names
    nothing = dict.fromkeys(names[2:])
    verb("one", **nothing)
    verb("one", second=3, **{**nothing, "aim": Aim.SMALLEST})
    assert found == ["one", 2, None, "one", 3, FitPolicy(aim=Aim.SMALLEST)]
