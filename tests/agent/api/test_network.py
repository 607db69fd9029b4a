"""Beyond loopback: TLS, a key with every request, and this device's own names; or no start."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# The annotations of Ollama's client are partial.

from __future__ import annotations

import asyncio
import itertools
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import ollama
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.kept_account import KeptAccount
from simulators.pki import Pki
from simulators.told_models import ToldModels
from sprat_agent.api import network
from sprat_agent.api.addresses import ListenError
from sprat_agent.api.app import build_app
from sprat_agent.api.network import ApiKeys, Network, shown_key
from sprat_agent.api.server import LocalApi
from sprat_agent.audit.access import Access
from sprat_agent.config import NetworkConfig

NOW = datetime(2026, 11, 23, tzinfo=UTC)
KEY, OTHER_KEY, WRONG_KEY = "k" * 32, "o" * 40, "w" * 32
PKI = Pki()
ASK: dict[str, Any] = {"model": "assistant", "messages": [{"role": "user", "content": "Hi"}]}


def secret(file: Path, content: bytes) -> Path:
    file.touch(mode=0o600)
    file.write_bytes(content)
    return file


@pytest.fixture
def config(tmp_path: Path) -> NetworkConfig:
    pair = PKI.server()
    return NetworkConfig(
        "0.0.0.0:0",
        secret(tmp_path / "chain.pem", pair.certificate_pem),
        secret(tmp_path / "key.pem", pair.key_pem),
        secret(tmp_path / "keys", f"# of two applications\n{KEY}\n\n{OTHER_KEY}\n".encode()),
        ("127.0.0.1", "Localhost"),
    )


def prepared(config: NetworkConfig) -> Network:
    made = network.prepare(config)
    assert made
    return made


@pytest.fixture
async def url(
    told: ToldModels, account: KeptAccount, config: NetworkConfig, tmp_path: Path
) -> AsyncIterator[str]:
    numbers = itertools.count(1)
    found = prepared(config)
    app = build_app(
        told,
        clock=lambda: NOW,
        new_id=lambda: str(next(numbers)),
        is_simulated=True,
        status=dict,
        network=found,
        account=account,
    )
    api = LocalApi(app, "127.0.0.1:0", tmp_path / "sprat.sock", found)
    await api.start()
    yield f"https://127.0.0.1:{api.network_port}"
    await api.stop()


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=PKI.ca_pem.decode())


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, verify=trusting()) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_openais_client_is_answered_over_tls_with_its_key(url: str) -> None:
    async with (
        httpx2.AsyncClient(verify=trusting()) as http,
        openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key=OTHER_KEY, max_retries=0, http_client=http
        ) as client,
    ):
        answer = await client.chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": "Hi"}]
        )
        assert answer.choices[0].message.content == "Hello there"
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.with_options(api_key=WRONG_KEY).models.list()
    assert refused.value.code == "invalid_api_key"


async def test_anthropics_and_ollamas_clients_are_answered_with_their_keys(url: str) -> None:
    async with (
        httpx2.AsyncClient(verify=trusting()) as http,
        anthropic.AsyncAnthropic(
            base_url=url, api_key=KEY, max_retries=0, http_client=http
        ) as client,
    ):
        answer = await client.messages.create(
            model="assistant", max_tokens=8, messages=[{"role": "user", "content": "Hi"}]
        )
        assert answer.stop_reason == "end_turn"
        with pytest.raises(anthropic.AuthenticationError):
            await client.with_options(api_key=WRONG_KEY).models.list()
    async with ollama.AsyncClient(host=url, verify=trusting(), headers=bearer(KEY)) as other:
        assert (await other.generate("assistant", "Once")).response == "Hello there"
    async with ollama.AsyncClient(host=url, verify=trusting()) as keyless:
        with pytest.raises(ollama.ResponseError, match="found none") as unknown:
            await keyless.list()
    assert unknown.value.status_code == 401


@pytest.mark.parametrize("headers", [{}, bearer(WRONG_KEY), {"x-api-key": WRONG_KEY}])
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/chat/completions", {"message", "type", "param", "code"}),
        ("/v1/messages", {"type", "message", "code"}),
    ],
)
async def test_a_wrong_key_is_401_in_each_dialects_shape(
    http: httpx.AsyncClient, path: str, expected: set[str], headers: dict[str, str]
) -> None:
    answer = await http.post(path, json=ASK, headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    error = answer.json()["error"]
    assert set(error) == expected
    assert error["code"] == "invalid_api_key"
    assert WRONG_KEY not in answer.text
    answer = await http.post("/api/chat", json=ASK, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/agent/v1/status", "/v1/models", "/no"])
async def test_nothing_but_livez_is_told_without_a_key(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get("/livez")).json() == {"live": True}
    assert (await http.get(path)).status_code == 401
    assert (await http.get(path, headers=bearer(KEY))).status_code != 401


async def test_a_request_must_name_this_device_even_with_a_key(http: httpx.AsyncClient) -> None:
    foreign = [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"host": "[::1]"}]
    for headers in foreign:
        answer = await http.get("/livez", headers={**headers, **bearer(KEY)})
        assert answer.status_code == 403, headers
    answer = await http.get("/v1/models", headers={"host": "LOCALHOST:1", **bearer(KEY)})
    assert answer.status_code == 200


async def test_plain_http_is_not_answered_and_others_still_are(
    http: httpx.AsyncClient, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with httpx.AsyncClient() as plain:
        with pytest.raises(httpx.TransportError):
            await plain.get(url.replace("https", "http") + "/livez")
    assert (await http.get("/livez")).status_code == 200
    assert not caplog.records


async def test_who_comes_is_told_by_the_name_of_their_key_and_never_by_the_key(
    http: httpx.AsyncClient, account: KeptAccount
) -> None:
    body = {"model": "assistant", "messages": [{"role": "user", "content": "Hi"}]}
    await http.post("/v1/chat/completions", json=body, headers=bearer(KEY))
    await http.post("/v1/chat/completions", json=body, headers=bearer(WRONG_KEY))
    await http.get("/livez")
    name = f"key:sha256-{sha256(KEY.encode()).hexdigest()[:8]}"
    assert [one.caller for one in account.inferences] == [name]
    assert account.accesses == [
        Access(name, "openai", "2xx"),
        Access("stranger", "openai", "4xx", "invalid_api_key"),
        Access("stranger", "health", "2xx"),
    ]


async def test_a_version_of_tls_before_1_2_is_refused(url: str) -> None:
    old = trusting()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    port = int(url.rpartition(":")[2])
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection("127.0.0.1", port, ssl=old)


async def test_loopback_and_the_socket_need_no_key(
    told: ToldModels, config: NetworkConfig, tmp_path: Path
) -> None:
    found = prepared(config)
    app = build_app(
        told, clock=lambda: NOW, new_id=str, is_simulated=True, status=dict, network=found
    )
    api = LocalApi(app, "127.0.0.1:0", tmp_path / "sprat.sock", found)
    url = await api.start()
    transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "sprat.sock"))
    async with (
        httpx.AsyncClient() as local,
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as socket,
    ):
        assert (await local.get(f"{url}/v1/models")).status_code == 200
        assert (await socket.get("/v1/models")).status_code == 200
    await api.stop()


@pytest.mark.parametrize(
    ("lacking", "option"),
    [
        ({"listen": ""}, "--network"),
        ({"certificate": None}, "--tls-certificate"),
        ({"private_key": None}, "--tls-key"),
        ({"api_keys": None}, "--api-keys"),
        ({"names": ()}, "--host-name"),
    ],
)
def test_the_agent_does_not_start_with_only_some_of_what_it_takes(
    config: NetworkConfig, lacking: dict[str, Any], option: str
) -> None:
    with pytest.raises(ListenError, match=f"missing are {option}$"):
        network.prepare(replace(config, **lacking))


def test_without_any_of_it_nothing_listens_beyond_loopback() -> None:
    assert network.prepare(NetworkConfig()) is None


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o660, 0o777])
@pytest.mark.parametrize("field", ["private_key", "api_keys"])
def test_a_secret_that_is_open_to_others_is_refused(
    config: NetworkConfig, field: str, mode: int
) -> None:
    file: Path = getattr(config, field)
    file.chmod(mode)
    if os.geteuid() == 0:
        os.chown(file, os.geteuid(), -1)
    with pytest.raises(ListenError, match=f"{file} is open to others .mode {mode:o}.: run `chmod"):
        network.prepare(config)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_secret_of_somebody_else_is_refused(config: NetworkConfig) -> None:
    assert config.api_keys
    os.chown(config.api_keys, 4711, -1)
    with pytest.raises(ListenError, match="belongs to somebody else"):
        network.prepare(config)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "none"),
        (b"# only this\n", "none"),
        (b"short\n", "another line"),
        (b"\xff" * 40, "an"),
        (b"till 1 " + b"a" * 32, "another line"),
        (b"t/1 " + b"a" * 32, "another line"),
        (b"a" * 32 + b" till-1", "another line"),
    ],
)
def test_keys_that_are_none_or_can_be_guessed_are_refused(
    config: NetworkConfig, content: bytes, found: str
) -> None:
    assert config.api_keys
    config.api_keys.write_bytes(content)
    with pytest.raises(ListenError, match=f"one a line, .* found {found}"):
        network.prepare(config)


def test_files_that_cannot_be_used_are_one_clear_error(
    config: NetworkConfig, tmp_path: Path
) -> None:
    with pytest.raises(ListenError, match="none cannot be read: No such file"):
        network.prepare(replace(config, api_keys=tmp_path / "none"))
    with pytest.raises(ListenError, match="cannot be used: No such file"):
        network.prepare(replace(config, certificate=tmp_path / "none"))
    other = secret(tmp_path / "other.pem", PKI.server().key_pem)
    with pytest.raises(ListenError, match=r"cannot be used: .*mismatch"):
        network.prepare(replace(config, private_key=other))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer  abc "}, "abc"),
        ({"authorization": "Basic abc", "x-api-key": "def"}, "def"),
        ({"x-api-key": "def"}, "def"),
        ({"authorization": "Bearer"}, ""),
        ({}, ""),
    ],
)
def test_a_key_is_read_from_either_header(headers: dict[str, str], expected: str) -> None:
    assert shown_key(headers) == expected


@given(st.dictionaries(st.text(), st.text()), st.text())
def test_a_key_is_known_by_its_name_exactly_when_it_is_one_of_them(
    keys: dict[str, str], shown: str
) -> None:
    known = ApiKeys(keys)
    assert (known.name_of(shown) is not None) == (shown in keys)
    assert all(known.name_of(key) == name for key, name in keys.items() if name)


def test_a_key_may_have_a_name_and_is_called_by_its_digest_without(tmp_path: Path) -> None:
    lines = f"till-1 {KEY}\n# the next of the same till\ntill-1\t{OTHER_KEY}\n{WRONG_KEY}\n"
    found = network.read_keys(secret(tmp_path / "named", lines.encode()))
    assert found == {KEY: "till-1", OTHER_KEY: "till-1", WRONG_KEY: ""}
    digest = sha256(WRONG_KEY.encode()).hexdigest()
    assert ApiKeys(found).name_of(WRONG_KEY) == f"sha256-{digest[:8]}"
