# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# The ollama package is only partly typed.
"""What others wrote talks to a real agent: the clients of three APIs, `llm`, and LangChain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import ollama
import openai
import pytest
from processes import Agent
from simulators.fleet import ALIAS, Fleet

LANGCHAIN = Path(__file__).with_name("langchain_talks.py")
SENTENCE = "This is the first release."
GREEDY = {"temperature": 0}
ASKED: list[Any] = [{"role": "user", "content": "Say it."}]
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 18, "maximum": 99}},
    "required": ["age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def agent(fleet: Fleet) -> Agent:
    made = fleet.agent("clients-1")
    fleet.wait_online(["clients-1"])
    done = fleet.roll_out("1.0.0", ["clients-1"], "--context", "2048")  # a token is a letter here
    assert done == {"clients-1": "SUCCEEDED"}
    return made


@pytest.fixture
def openai_client(agent: Agent) -> Generator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{agent.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def ollama_client(agent: Agent) -> Generator[ollama.Client]:
    with ollama.Client(host=agent.url) as client:
        yield client


@pytest.fixture
def anthropic_client(agent: Agent) -> Generator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=agent.url, api_key="none", max_retries=0) as client:
        yield client


def test_openai_completes_a_text(openai_client: openai.OpenAI) -> None:
    answer = openai_client.completions.create(
        model=ALIAS, prompt="Say it.", max_tokens=4, temperature=0
    )
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0


def test_openai_gets_vectors(openai_client: openai.OpenAI) -> None:
    answer = openai_client.embeddings.create(model=ALIAS, input=["one", "other"])
    first, second = (one.embedding for one in answer.data)
    assert len(first) == len(second) > 0
    assert abs(sum(value * value for value in first) - 1) < 1e-3


def test_openai_gets_what_a_schema_allows(openai_client: openai.OpenAI) -> None:
    answer = openai_client.chat.completions.create(
        model=ALIAS,
        messages=ASKED,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "person", "schema": PERSON, "strict": True},
        },
    )
    assert 18 <= json.loads(answer.choices[0].message.content or "")["age"] <= 99


def test_openai_gets_a_call_of_the_tool_it_requires(openai_client: openai.OpenAI) -> None:
    answer = openai_client.chat.completions.create(
        model=ALIAS,
        messages=ASKED,
        tools=[{"type": "function", "function": {"name": "look_up", "parameters": PERSON}}],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "look_up"
    assert 18 <= json.loads(call.function.arguments)["age"] <= 99
    assert answer.choices[0].finish_reason == "tool_calls"


def test_openai_gets_two_choices_with_log_probabilities(openai_client: openai.OpenAI) -> None:
    answer = openai_client.chat.completions.create(
        model=ALIAS, messages=ASKED, n=2, temperature=0, logprobs=True, top_logprobs=2
    )
    assert [one.message.content for one in answer.choices] == [SENTENCE, SENTENCE]
    for choice in answer.choices:
        assert choice.logprobs is not None
        tokens = choice.logprobs.content or []
        assert "".join(one.token for one in tokens) == SENTENCE
        assert all(len(one.top_logprobs) == 2 for one in tokens)


def test_openai_gets_a_response(openai_client: openai.OpenAI) -> None:
    answer = openai_client.responses.create(model=ALIAS, input="Say it.", temperature=0)
    assert answer.output_text == SENTENCE
    with openai_client.responses.stream(model=ALIAS, input="Say it.", temperature=0) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == SENTENCE


def test_ollama_lists_shows_and_tells_what_runs(ollama_client: ollama.Client) -> None:
    names = [one.model for one in ollama_client.list().models]
    assert f"{ALIAS}:latest" in names
    assert f"{ALIAS}:latest" in [one.model for one in ollama_client.ps().models]
    assert ollama_client.show(ALIAS).details is not None


def test_ollama_chats(ollama_client: ollama.Client) -> None:
    options = {"temperature": 0}
    whole = ollama_client.chat(ALIAS, ASKED, options=options)
    assert whole.message.content == SENTENCE
    parts = list(ollama_client.chat(ALIAS, ASKED, options=options, stream=True))
    assert "".join(part.message.content or "" for part in parts) == SENTENCE
    assert parts[-1].done
    assert parts[-1].eval_count


def test_ollama_gets_what_a_schema_allows(ollama_client: ollama.Client) -> None:
    answer = ollama_client.chat(ALIAS, ASKED, format=PERSON)
    assert 18 <= json.loads(answer.message.content or "")["age"] <= 99


def test_ollama_generates_and_embeds(ollama_client: ollama.Client) -> None:
    assert ollama_client.generate(ALIAS, "Say it.", options={"num_predict": 4}).done
    vectors = ollama_client.embed(ALIAS, ["one", "other"]).embeddings
    assert len(vectors) == 2


def test_ollama_tells_log_probabilities(ollama_client: ollama.Client) -> None:
    ask: dict[str, Any] = {"options": GREEDY, "logprobs": True, "top_logprobs": 2}
    whole = ollama_client.chat(ALIAS, ASKED, **ask)
    parts = list(ollama_client.chat(ALIAS, ASKED, stream=True, **ask))
    for found in (whole.logprobs or [], [one for part in parts for one in part.logprobs or []]):
        assert "".join(one.token for one in found) == SENTENCE
        assert all(len(one.top_logprobs or []) == 2 for one in found)


def test_ollamas_command_finds_somebody_there(agent: Agent) -> None:
    assert httpx.head(agent.url).status_code == 200


def test_ollama_may_not_change_what_the_fleet_manages(ollama_client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="decided by its fleet") as caught:
        ollama_client.pull("another")
    assert caught.value.status_code == 403


def test_anthropic_gets_a_message(anthropic_client: anthropic.Anthropic) -> None:
    answer = anthropic_client.messages.create(
        model=ALIAS, max_tokens=40, messages=ASKED, extra_body=GREEDY
    )
    assert answer.content[0].type == "text"
    assert answer.content[0].text == SENTENCE
    assert answer.stop_reason == "end_turn"
    with anthropic_client.messages.stream(
        model=ALIAS, max_tokens=40, messages=ASKED, extra_body=GREEDY
    ) as stream:
        assert "".join(stream.text_stream) == SENTENCE


def test_anthropic_counts_what_a_message_then_takes(
    anthropic_client: anthropic.Anthropic,
) -> None:
    counted = anthropic_client.messages.count_tokens(model=ALIAS, messages=ASKED).input_tokens
    usage = anthropic_client.messages.create(model=ALIAS, max_tokens=1, messages=ASKED).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0) > 0


def test_anthropic_gets_a_call_and_a_typed_error(anthropic_client: anthropic.Anthropic) -> None:
    answer = anthropic_client.messages.create(
        model=ALIAS,
        max_tokens=400,
        messages=ASKED,
        tools=[{"name": "look_up", "input_schema": PERSON}],
        tool_choice={"type": "tool", "name": "look_up", "disable_parallel_tool_use": True},
    )
    (call,) = [one for one in answer.content if one.type == "tool_use"]
    assert call.name == "look_up"
    assert answer.stop_reason == "tool_use"
    with pytest.raises(anthropic.NotFoundError):
        anthropic_client.messages.create(model="nothing", max_tokens=4, messages=ASKED)


def test_the_llm_command_prints_the_answer(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: sprat\n  model_name: {ALIAS}\n  api_base: {agent.url}/v1\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "llm", "-m", "sprat", "-o", "temperature", "0", "Say it."],
        env=os.environ | {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, SENTENCE), done.stderr


def test_langchain_talks_to_all_three_apis(agent: Agent) -> None:
    # A process of its own: LangChain never closes its connections.
    done = subprocess.run(
        [sys.executable, str(LANGCHAIN), agent.url, ALIAS, SENTENCE],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "all three\nstructured\nvectors\n"), done.stderr
