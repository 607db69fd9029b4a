"""A LoRA from a publisher's file to an application's answer, over controller and agent."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import openai
import pytest
from processes import Agent
from simulators import demo_model
from simulators.fleet import ALIAS, Fleet
from simulators.models import write_adapter

SENTENCE = "This release has a sister."


@pytest.fixture(scope="module")
def agent(fleet: Fleet) -> Agent:
    base = demo_model.make(fleet.folder / "base.gguf", sentence=SENTENCE)
    adapter = write_adapter(fleet.folder / "sister.gguf", base, 1)
    fleet.push("3.0.0", SENTENCE, "--adapter", f"sister={adapter}")
    made = fleet.agent("adapters-1")
    fleet.wait_online(["adapters-1"])
    assert fleet.roll_out("3.0.0", ["adapters-1"]) == {"adapters-1": "SUCCEEDED"}
    return made


@pytest.fixture
def client(agent: Agent) -> Generator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{agent.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def say(client: openai.OpenAI, model: str) -> str:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Say it."}],
        temperature=0,
        max_tokens=12,
    )
    assert answer.model == model
    return answer.choices[0].message.content or ""


def test_an_application_asks_for_the_adapter_or_for_the_model_alone(client: openai.OpenAI) -> None:
    listed = [one.id for one in client.models.list()]
    assert listed == [ALIAS, f"{ALIAS}:sister"]
    sister = say(client, f"{ALIAS}:sister")
    assert say(client, ALIAS) == SENTENCE != sister
    with ThreadPoolExecutor(4) as pool:
        names = [ALIAS, f"{ALIAS}:sister", f"{ALIAS}:latest", f"{ALIAS}:sister"]
        answers = list(pool.map(partial(say, client), names))
    assert answers == [SENTENCE, sister, SENTENCE, sister]


def test_an_adapter_that_was_not_released_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="'brother' is not here; there are: sister"):
        say(client, f"{ALIAS}:brother")
