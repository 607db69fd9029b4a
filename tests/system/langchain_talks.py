"""LangChain asks an agent by all three APIs: `langchain_talks.py URL MODEL SENTENCE`."""

from __future__ import annotations

import sys
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, ConfigDict, Field, SecretStr

KEY = SecretStr("none")


class Person(BaseModel):
    """Someone."""

    # Without more fields: a model that always says the same goes on for ever in a made-up one.
    model_config = ConfigDict(extra="forbid")
    age: int = Field(ge=18, le=99)


def talk(url: str, model: str, sentence: str) -> None:
    """Ask, and say what went well."""
    chats: list[Any] = [
        ChatOpenAI(model=model, base_url=f"{url}/v1", api_key=KEY, temperature=0),
        ChatOllama(model=model, base_url=url, temperature=0),
        ChatAnthropic(model_name=model, base_url=url, api_key=KEY, temperature=0),  # pyright: ignore[reportCallIssue] - the others have defaults
    ]
    for chat in chats:
        assert chat.invoke([HumanMessage("Say it.")]).text == sentence
        assert "".join(part.text for part in chat.stream("Say it.")) == sentence
    print("all three")
    for method in ("json_schema", "function_calling"):
        person = chats[0].with_structured_output(Person, method=method).invoke("Who?")
        assert isinstance(person, Person)
    print("structured")
    local = OllamaEmbeddings(model=model, base_url=url).embed_query("one")
    same = OpenAIEmbeddings(
        model=model,
        base_url=f"{url}/v1",
        api_key=KEY,
        check_embedding_ctx_length=False,  # it would count tokens with a file from the network
    ).embed_query("one")
    assert len(local) == len(same) > 0
    print("vectors")


if __name__ == "__main__":
    talk(*sys.argv[1:4])
