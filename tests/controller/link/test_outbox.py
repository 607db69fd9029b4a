"""What waits for the broker: of each device the newest assignment, and no more answers than fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.link.outbox import ANSWERS_LIMIT, Outbox
from sprat_proto.v1.link_pb2 import Assignment, ControllerMessage, ReportAck


def acknowledged(up_to: int) -> ControllerMessage:
    return ControllerMessage(report_ack=ReportAck(up_to=up_to))


def assigned(version: int) -> ControllerMessage:
    return ControllerMessage(assignment=Assignment(version=version))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), min_size=1))
async def test_of_each_device_the_newest_assignment_goes_out(
    pushed: list[tuple[str, int]],
) -> None:
    outbox = Outbox()
    newest: dict[str, int] = {}
    for device, version in pushed:
        outbox.put(device, assigned(version))
        newest[device] = max(version, newest.get(device, 0))
    went = [await outbox.next() for _ in newest]
    assert {device: message.assignment.version for device, message in went} == newest


async def test_an_assignment_that_could_not_go_out_does_not_replace_a_newer_one() -> None:
    outbox = Outbox()
    outbox.put("a", assigned(1))
    device, message = await outbox.next()
    outbox.put("a", assigned(2))
    outbox.put_back(device, message)
    assert await outbox.next() == ("a", assigned(2))
    outbox.put_back("a", assigned(2))
    assert await outbox.next() == ("a", assigned(2))


async def test_answers_keep_their_order_and_the_oldest_go_when_it_is_too_much() -> None:
    outbox = Outbox()
    for number in range(ANSWERS_LIMIT + 2):
        outbox.put("a", acknowledged(number))
    assert await outbox.next() == ("a", acknowledged(2))
    assert await outbox.next() == ("a", acknowledged(3))


async def test_an_answer_that_could_not_go_out_is_not_kept() -> None:
    outbox = Outbox()
    outbox.put_back("a", acknowledged(1))
    outbox.put("a", acknowledged(2))
    assert await outbox.next() == ("a", acknowledged(2))
