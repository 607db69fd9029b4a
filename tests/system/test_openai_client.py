"""The official OpenAI client talks to a real agent, over loopback and over the Unix socket."""

from __future__ import annotations

import httpx
import openai
import pytest
from processes import Agent
from simulators.fleet import ALIAS, Fleet

SENTENCE = "This is the first release."
MESSAGES = [{"role": "user", "content": "Say it."}]


@pytest.fixture(scope="module")
def agent(fleet: Fleet) -> Agent:
    made = fleet.agent("openai-1")
    fleet.wait_online(["openai-1"])
    assert fleet.roll_out("1.0.0", ["openai-1"]) == {"openai-1": "SUCCEEDED"}
    return made


@pytest.fixture
def client(agent: Agent) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{agent.url}/v1", api_key="none", max_retries=0)


def test_it_gets_a_whole_answer(client: openai.OpenAI, fleet: Fleet) -> None:
    with client:
        answer = client.chat.completions.create(
            model=ALIAS, messages=[{"role": "user", "content": "Say it."}], temperature=0
        )
    assert answer.choices[0].message.content == SENTENCE
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert answer.system_fingerprint == fleet.digests["1.0.0"][:16]


def test_it_gets_a_streamed_answer(client: openai.OpenAI) -> None:
    with client:
        stream = client.chat.completions.create(
            model=ALIAS,
            messages=[{"role": "user", "content": "Say it."}],
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len([text for text in texts if text]) > 1
    assert "".join(texts) == SENTENCE
    assert chunks[-1].usage is not None


def test_it_lists_models_and_gets_typed_errors(client: openai.OpenAI) -> None:
    with client:
        assert ALIAS in [one.id for one in client.models.list()]
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(
                model="no-such-model", messages=[{"role": "user", "content": "Hello"}]
            )
    assert caught.value.code == "model_not_found"


def test_the_unix_socket_speaks_the_same(agent: Agent, fleet: Fleet) -> None:
    transport = httpx.HTTPTransport(uds=agent.socket)
    with httpx.Client(transport=transport, base_url="http://localhost") as http:
        answer = http.post(
            "/v1/chat/completions", json={"model": ALIAS, "messages": MESSAGES, "temperature": 0}
        )
        assert answer.json()["choices"][0]["message"]["content"] == SENTENCE
        assert answer.headers["x-sprat-digest"] == fleet.digests["1.0.0"]
        assert answer.headers["x-sprat-model"] == "talk@1.0.0+q4_0"
        assert http.get("/readyz").status_code == 200
        assert http.get("/livez").status_code == 200
