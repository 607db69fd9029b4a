"""Going on with texts, over real sockets."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.told_models import LOADABLE, ToldModels
from sprat_agent.api.faults import ApiError
from sprat_agent.api.openai import completion_schema
from sprat_agent.runtime.wire import Alternative, Chosen, Piece, Request, Sampling, Text, Tokens

PATH = "/v1/completions"
ASK: dict[str, Any] = {"model": "assistant", "prompt": "Once"}


def meaning(**more: Any) -> tuple[Request, ...]:
    return completion_schema.meaning(completion_schema.parse(json.dumps({**ASK, **more}).encode()))


def fault_of(**more: Any) -> int | None:
    try:
        meaning(**more)
    except ApiError as error:
        return error.status if error.message else None
    return None


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_value_in_any_field_is_taken_or_one_clear_error(value: Any) -> None:
    for name in completion_schema.Request.__struct_fields__:
        assert fault_of(**{name: value}) in {None, 400}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Once", [Text("Once")]),
        (["Once", "Twice"], [Text("Once"), Text("Twice")]),
        ([5, 6], [Tokens((5, 6))]),
        ([[5, 6], [7]], [Tokens((5, 6)), Tokens((7,))]),
    ],
)
def test_a_prompt_is_text_or_tokens_once_or_often(prompt: object, expected: list[object]) -> None:
    assert [one.prompt for one in meaning(prompt=prompt)] == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": list[str]()}, "prompt"),
        ({"prompt": [list[int]()]}, "prompt"),
        ({"prompt": ["a", 5]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"prompt": ["a"] * 65, "n": 2}, "n"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"echo": True, "logprobs": 1}, "logprobs"),
        ({"logprobs": 21}, "logprobs"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as refused:
        meaning(**fields)
    assert (refused.value.status, refused.value.param) == (400, param)


def test_an_answer_has_the_length_that_clients_expect_without_a_limit() -> None:
    (asked,) = meaning(best_of=1, suffix="")
    assert (asked.max_tokens, asked.is_echoed, asked.logprobs) == (16, False, None)


async def test_a_whole_answer_has_a_choice_for_each_prompt_and_time(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    ask = {**ASK, "prompt": ["Once", "Twice"], "n": 2, "seed": 1, "echo": True, "max_tokens": 4}
    body = (await http.post(PATH, json=ask)).json()
    assert (body["object"], body["id"]) == ("text_completion", "cmpl-1")
    assert body["system_fingerprint"] == LOADABLE.digest[:16]
    assert body["choices"] == [
        {"index": index, "text": "Hello there", "logprobs": None, "finish_reason": "stop"}
        for index in range(4)
    ]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (6, 8)
    assert [asked for _, asked in told.asked] == [
        Request(Text(text), Sampling(seed=seed), 4, is_echoed=True)
        for text in ("Once", "Twice")
        for seed in (1, 2)
    ]


HALF, OTHER_HALF = Alternative(b"\xe2\x82", -1.5), Alternative(b"\xe2\x83", -3.0)


@pytest.mark.parametrize("stream", [False, True])
async def test_log_probabilities_have_the_older_shape(
    http: httpx.AsyncClient, told: ToldModels, *, stream: bool
) -> None:
    first = Chosen(b"Hello ", -0.5, (Alternative(b"Hello ", -0.5), Alternative(b"Bye", -2.0)))
    told.script = (
        Piece(1, "Hello ", chosen=(first,)),
        Piece(1, "the", chosen=(Chosen(b"the", -1.0),)),
        Piece(1, "", chosen=(Chosen(b"\xe2\x82", -1.5, (HALF, OTHER_HALF)),)),
        Piece(1, "€r", chosen=(Chosen(b"\xac", -2.0), Chosen(b"r", -2.5))),
    )
    response = await http.post(PATH, json={**ASK, "logprobs": 2, "stream": stream})
    if stream:
        *events, last, _ = response.text.split("\n\n")
        assert last == "data: [DONE]"
        bodies = [json.loads(event.removeprefix("data: ")) for event in events]
        assert "".join(body["choices"][0]["text"] for body in bodies) == "Hello the€r"
        assert bodies[-1]["choices"][0]["finish_reason"] == "stop"
    else:
        bodies = [response.json()]
    blocks = [body["choices"][0]["logprobs"] for body in bodies]
    joined: dict[str, list[Any]] = {}
    for block in filter(None, blocks):
        for name, values in block.items():
            joined.setdefault(name, []).extend(values)
    assert joined == {
        "tokens": ["Hello ", "the", r"bytes:\xe2\x82", r"bytes:\xac", "r"],
        "token_logprobs": [-0.5, -1.0, -1.5, -2.0, -2.5],
        "top_logprobs": [
            {"Hello ": -0.5, "Bye": -2.0},
            {},
            {r"bytes:\xe2\x82": -1.5, r"bytes:\xe2\x83": -3.0},
            {},
            {},
        ],
        "text_offset": [0, 6, 9, 9, 10],
    }


async def test_usage_ends_a_stream_that_asks_for_it(http: httpx.AsyncClient) -> None:
    ask = {**ASK, "stream": True, "stream_options": {"include_usage": True}}
    *_, usage, last, _ = (await http.post(PATH, json=ask)).text.split("\n\n")
    assert last == "data: [DONE]"
    body = json.loads(usage.removeprefix("data: "))
    assert (body["choices"], body["usage"]["total_tokens"]) == ([], 5)
