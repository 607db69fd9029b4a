"""A proof is carried out before it is signed; what a device would refuse is refused here."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from shipped import GOOD, WORSE, Asked
from simulators import demo_model
from sprat_controller.publisher.golden import check_golden, fault_of
from sprat_controller.publisher.manifests import BuiltVariant, ReleaseTerms, build_manifest
from sprat_controller.publisher.quality import QualityError
from sprat_proto.manifest import Activation, GoldenPrompt
from sprat_proto.probes import Proof

A_FISH = GoldenPrompt("Who?", "a fish", weight=3)
A_BIRD = GoldenPrompt("What else?", "a bird")


def built(path: Path, *golden: GoldenPrompt, template: str | None = None) -> BuiltVariant:
    terms = ReleaseTerms(
        model="talk",
        release="1.0.0",
        counter=1,
        activation=Activation(probe=list(golden)),
        licence="MIT",
        created=datetime(2026, 11, 26, tzinfo=UTC),
        publisher="me",
        chat_template=template,
    )
    return BuiltVariant(path, build_manifest(path, "f16", terms, None))


def quiet(_what: str, _done: int, _total: int) -> None:
    pass


@pytest.mark.parametrize(
    ("answers", "least", "passes"),
    [
        (("I am a fish.", "a bird"), 1000, True),
        (("I am a fish.", "nobody"), 1000, False),
        (("I am a fish.", "nobody"), 750, True),
        (("nobody", "a bird"), 750, False),
        (("nobody", "nobody"), 0, True),
    ],
)
def test_the_score_is_the_devices(answers: tuple[str, str], least: int, *, passes: bool) -> None:
    activation = Activation(probe=[A_FISH, A_BIRD], proof=Proof(min_score_permille=least))
    fault = fault_of("q4_0", activation, answers)
    assert (fault is None) == passes
    if fault:
        assert f"where {least} are the least" in fault
        assert "found" not in fault or "\n" not in fault


def test_what_is_told_is_the_prompt_what_was_expected_and_what_was_found() -> None:
    found = fault_of("q4_0", Activation(probe=[A_FISH]), ["I am\na bird. " + "tweet " * 20])
    assert found == (
        "check probe: q4_0 does not pass the proof that would be signed: its answer to the golden"
        " prompt 'Who?' is to contain 'a fish', and was"
        " 'I am a bird. tweet tweet tweet tweet tweet tweet tweet twee…'; mend the model or the"
        " proof, or say --unproven WHY"
    )


def test_the_shipped_model_passes_and_its_bad_fine_tune_does_not(tmp_path: Path) -> None:
    golden = GoldenPrompt("What is a sprat?", "small fish")
    check_golden([built(GOOD, golden)], tmp_path, quiet)
    with pytest.raises(
        QualityError, match=r"'What is a sprat\?' is to contain 'small fish', and was"
    ):
        check_golden([built(WORSE, golden)], tmp_path, quiet)
    assert not list(tmp_path.iterdir())


def test_answers_are_those_of_llama_cpps_own_chat(tmp_path: Path) -> None:
    questions = ("What is a sprat?", "Who are you?", "Why is the sky blue?", "Grüße! 🐟")
    with Asked(GOOD) as model:
        said = [model.ask(one) for one in questions]
    golden = [
        GoldenPrompt(question, answer or " ", match="equals", max_tokens=80)
        for question, answer in zip(questions, said, strict=True)
    ]
    assert all(said)
    check_golden([built(GOOD, *golden)], tmp_path, quiet)


def test_an_answer_ends_where_its_tokens_end(tmp_path: Path) -> None:
    path = demo_model.make(tmp_path / "talk.gguf", "one two three four")
    first = GoldenPrompt("Who?", demo_model.split("one two three four")[0], "equals", max_tokens=1)
    check_golden([built(path, first)], tmp_path, quiet)


@pytest.mark.parametrize(
    ("golden", "template", "why"),
    [
        (A_FISH, "{{ raise_exception('no') }}", "refuses the golden prompt 'Who\\?': no"),
        (A_FISH, "{% if %}", "is not Jinja"),
        (
            GoldenPrompt("fish " * 1600, "a fish", max_tokens=1024),
            None,
            "expected 1 to 3072 tokens of a prompt whose answer may have 1024, found",
        ),
    ],
    ids=["raises", "no Jinja", "too long"],
)
def test_what_cannot_be_asked_is_told(
    tmp_path: Path, golden: GoldenPrompt, template: str | None, why: str
) -> None:
    path = demo_model.make(tmp_path / "talk.gguf", "I am a fish.")
    with pytest.raises(QualityError, match=why) as raised:
        check_golden([built(path, golden, template=template)], tmp_path, quiet)
    assert str(raised.value).startswith("check probe: f16 cannot be proved: ")
    assert len(str(raised.value).splitlines()) == 1


def test_a_release_without_golden_prompts_is_not_loaded(tmp_path: Path) -> None:
    variant = built(demo_model.make(tmp_path / "talk.gguf", "I am a fish."))
    variant.path.unlink()
    check_golden([variant], tmp_path, quiet)
