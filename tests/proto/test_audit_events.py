from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from sprat_proto.audit_events import GRAMMAR, Tag, actor_name, actor_of, encode

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("tag", list(Tag))
def test_each_tag_has_the_form(tag: Tag) -> None:
    assert GRAMMAR.fullmatch(tag.value)
    assert f"{tag.source}:{tag.subject}:{tag.action}" == tag.value


@pytest.mark.parametrize(
    "text", ["", "a:b", "a:b:c:d", "A:b:c", "a:b:c-", "a::c", "a:b:c d", "a:b:c\n", "a-b:c:d"]
)
def test_what_is_no_tag_has_another_form(text: str) -> None:
    assert GRAMMAR.fullmatch(text) is None


def test_no_two_tags_say_the_same() -> None:
    assert len({tag.value for tag in Tag}) == len(Tag.__members__)


@pytest.mark.parametrize(
    ("name", "actor"),
    [
        ("user:ann", {"type": "user", "id": "ann"}),
        ("token:a:b", {"type": "token", "id": "a:b"}),
        ("device:gw-1", {"type": "device", "id": "gw-1"}),
        ("planner", {"type": "system", "id": "planner"}),
        ("stranger", {"type": "unknown", "id": "stranger"}),
        ("anonymous", {"type": "unknown", "id": "anonymous"}),
    ],
)
def test_an_actors_name_is_the_same_before_and_after(name: str, actor: dict[str, str]) -> None:
    assert actor_of(name) == actor
    assert actor_name(actor) == name
    assert actor_name({**actor, "authn": "oidc", "session": "s"}) == name
    assert actor_name(name) == name  # records of version 1


@pytest.mark.parametrize("actor", [None, 7, {}, {"type": "user"}, {"id": "ann"}, {"type": 1}])
def test_what_is_no_actor_has_no_name(actor: object) -> None:
    assert actor_name(actor) is None


def test_a_record_has_its_fields_in_canonical_form_and_none_that_say_nothing() -> None:
    body = encode(
        log="controller",
        seq=7,
        at=NOW,
        actor=actor_of("user:ann"),
        tag=Tag.ROLLOUT_EDITED,
        subject="rollout/r",
        outcome="success",
        detail={"b": 1, "a": [True, "x"]},
        more={"before": "sha256:0", "after": None, "reason": "", "request": "q"},
    )
    assert body == (
        b'{"actor":{"id":"ann","type":"user"},"before":"sha256:0","detail":{"a":[true,"x"],"b":1},'
        b'"log":"controller","outcome":"success","request":"q","seq":7,"subject":"rollout/r",'
        b'"tag":"operator:rollout:edited","ts":"2026-11-26T12:00:00.000+00:00","v":2}'
    )
    assert msgspec.json.decode(body)["v"] == 2
