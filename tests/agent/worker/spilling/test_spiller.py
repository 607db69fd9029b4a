"""Prefixes in a file, over a backend whose answers tell of every lost or wrong token."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from simulators.counting_backend import CountingBackend
from simulators.desk import WAIT_S, SpillingDesk
from sprat_agent.runtime.wire import Embed, Failed, Text
from sprat_agent.worker.batching.batch import Run
from sprat_agent.worker.spilling.decide import BLOCK
from sprat_agent.worker.spilling.index import INDEX_BYTES
from sprat_agent.worker.spilling.states import Reading

LIMIT = 8 << 20
SYSTEM = "be brief, be kind, say what you know and what you do not know. " * 3
OTHER = "and now for something that is completely different from all before " * 3


@pytest.fixture
def file(tmp_path: Path) -> Generator[int]:
    descriptor = os.open(tmp_path / "prefixes", os.O_RDWR | os.O_CREAT, 0o600)
    yield descriptor
    os.close(descriptor)


def life(file: int, slots: int = 2, limit: int = LIMIT, key: str = "model") -> SpillingDesk:
    return SpillingDesk(file, limit, CountingBackend(slots), key)


def lived(file: int, *prompts: str, slots: int = 2, key: str = "model") -> SpillingDesk:
    """Return a life in which these were answered, after its end."""
    desk = life(file, slots, key=key)
    for number, prompt in enumerate(prompts):
        desk.answer(number, prompt)
    desk.close()
    return desk


def test_a_long_prompt_is_not_computed_again_after_a_restart(file: int) -> None:
    first = lived(file, f"{SYSTEM}one")
    assert first.scheduler.figures().spilled_bytes > 0
    second = life(file, slots=3)
    assert second.answer(1, f"{SYSTEM}two").cached_tokens == len(SYSTEM)
    second.close()
    assert second.backend.computed == len("two") + 3  # and the answer's
    assert second.scheduler.figures().restored_tokens >= len(SYSTEM)


def test_a_long_prompt_is_not_computed_again_after_others_took_all_sequences(file: int) -> None:
    desk = life(file, slots=1)
    desk.answer(1, f"{SYSTEM}one")
    desk.answer(2, "a short one")
    assert desk.answer(3, f"{SYSTEM}two").cached_tokens == len(SYSTEM)
    desk.close()
    assert desk.backend.restored >= len(SYSTEM)


def test_without_a_file_it_is_computed_again(file: int) -> None:
    desk = life(-1, slots=1)
    desk.answer(1, f"{SYSTEM}one")
    desk.answer(2, "a short one")
    assert desk.answer(3, f"{SYSTEM}two").cached_tokens == 0
    desk.close()
    assert os.fstat(file).st_size == 0


def test_a_shared_prefix_is_kept_alone_where_a_second_prompt_meets_it(file: int) -> None:
    prefix = "s" * 100  # too short to be kept for one prompt
    first = lived(file, f"{prefix}1", f"{prefix}2", slots=1)
    assert first.scheduler.figures().spilled_bytes == 8 * len(prefix)
    assert lived(file, f"{prefix}3").backend.restored == len(prefix)


def test_short_prompts_are_not_kept(file: int) -> None:
    assert lived(file, "one", "two", "t" * (BLOCK - 1)).scheduler.figures().spilled_bytes == 0


def test_prompts_of_another_model_are_not_read(file: int) -> None:
    lived(file, SYSTEM)
    assert lived(file, SYSTEM, key="other").backend.restored == 0


def test_a_request_for_a_fresh_answer_reads_nothing(file: int) -> None:
    lived(file, SYSTEM)
    desk = life(file)
    desk.ask(1, SYSTEM, is_fresh=True)
    assert desk.done(1).cached_tokens == 0
    desk.close()
    assert desk.backend.restored == 0


def test_what_an_adapter_computed_is_neither_kept_nor_used(file: int) -> None:
    desk = life(file)
    desk.ask(1, SYSTEM, adapter="a")
    desk.done(1)
    desk.answer(2, OTHER)
    desk.close()
    assert desk.scheduler.figures().spilled_bytes == 8 * len(OTHER)
    again = life(file)
    again.ask(1, OTHER, adapter="a")
    assert again.done(1).cached_tokens == 0
    assert again.texts[1] == again.backend.answer(OTHER, 4, "a")
    again.close()


def test_prompts_that_come_together_read_their_prefix_once(file: int) -> None:
    lived(file, SYSTEM)
    desk = life(file, slots=4)
    desk.backend.gate.clear()
    for number in range(4):
        desk.ask(number, f"{SYSTEM}{number}")
    desk.backend.gate.set()
    for number in range(4):
        assert desk.done(number).cached_tokens >= len(SYSTEM) - 1
        assert desk.texts[number] == desk.backend.answer(f"{SYSTEM}{number}", 4)
    desk.close()
    assert desk.backend.restored == len(SYSTEM)


def test_a_conversation_is_kept_as_far_as_it_went(file: int) -> None:
    prompt = SYSTEM[:100] + "q" * 40
    desk = life(file, slots=1)
    desk.answer(1, prompt)
    longer = f"{prompt}{desk.texts[1]}{'r' * 90}"
    desk.answer(2, longer)
    desk.close()
    again = life(file)
    assert again.answer(1, f"{longer}s").cached_tokens == len(longer)
    again.close()


def test_a_wrong_file_costs_only_the_time_to_compute(file: int) -> None:
    lived(file, SYSTEM)
    at = 2 * INDEX_BYTES + 77
    (byte,) = os.pread(file, 1, at)
    os.pwrite(file, bytes([byte ^ 1]), at)
    desk = lived(file, SYSTEM)
    assert desk.backend.restored == 0
    assert desk.backend.computed >= len(SYSTEM)
    assert lived(file, SYSTEM).backend.restored == len(SYSTEM)  # it was written again


def test_a_full_disk_costs_only_the_time_to_compute(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _data: bytes, _offset: int) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        assert lived(file, SYSTEM, OTHER).scheduler.figures().spilled_bytes == 0
    assert lived(file, SYSTEM).backend.restored == 0
    assert lived(file, SYSTEM).backend.restored == len(SYSTEM)


def test_a_disk_that_cannot_be_read_costs_only_the_time_to_compute(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived(file, SYSTEM)

    def broken(_descriptor: int, _buffers: object, _offset: int) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    assert lived(file, SYSTEM).backend.computed >= len(SYSTEM)


def test_an_engine_that_refuses_a_state_costs_only_the_time_to_compute(file: int) -> None:
    lived(file, SYSTEM)
    desk = life(file)
    desk.backend.is_choosy = True
    assert desk.answer(1, SYSTEM).cached_tokens == 0
    desk.close()


def test_a_step_that_fails_while_a_prefix_is_read_makes_no_later_answer_wrong(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = CountingBackend(2)
    first.token_bytes = 4096  # several chunks
    desk = SpillingDesk(file, LIMIT, first)
    desk.answer(1, SYSTEM)
    desk.close()

    backend = CountingBackend(2)
    backend.token_bytes = 4096
    step = Reading.step

    def failing(reading: Reading) -> None:
        step(reading)
        backend.failures = 1

    monkeypatch.setattr(Reading, "step", failing)
    desk = SpillingDesk(file, LIMIT, backend, tick_s=0.1)
    desk.backend.gate.clear()
    desk.ask(1, "short", 9)
    desk.ask(2, SYSTEM)
    desk.backend.gate.set()
    desk.done(2)
    assert desk.texts[2] == backend.answer(SYSTEM, 4)
    assert isinstance(desk.ended[1], Failed)
    assert backend.restored == 0
    desk.close()


class PausingBackend(CountingBackend):
    """Stops before the second token of the first answer to `prompt`, until `gate` is set."""

    def __init__(self, slots: int, prompt: str) -> None:
        super().__init__(slots)
        self.paused = threading.Event()
        self._prompt = self.vocabulary.tokenize(prompt, has_special=True)

    def decode(self, runs: Sequence[Run]) -> None:
        is_answering = any(self.held[run.sequence] == self._prompt for run in runs)
        if is_answering and not self.paused.is_set():
            self.gate.clear()
            self.paused.set()
        super().decode(runs)


def test_nothing_is_taken_between_a_copy_and_the_next_step(file: int) -> None:
    first, second, third = ("u" * 100, "v" * 100, "w" * 100)
    backend = PausingBackend(3, third)
    desk = SpillingDesk(file, LIMIT, backend)
    desk.answer(1, first)
    desk.answer(2, second)
    desk.ask(3, third)
    assert backend.paused.wait(WAIT_S)
    desk.ask(4, f"{third}4")  # copied from the third, which answers
    desk.ask(5, f"{second}5")  # placed at once, and shares what could be taken
    backend.gate.set()
    for number, prompt in ((3, third), (4, f"{third}4"), (5, f"{second}5")):
        desk.done(number)
        assert desk.texts[number] == backend.answer(prompt, 4)
    assert desk.done(5).cached_tokens == desk.done(4).cached_tokens == 100
    desk.close()


def test_a_model_that_cannot_forget_keeps_nothing(file: int) -> None:
    backend = CountingBackend(2)
    backend.can_rewind = False
    desk = SpillingDesk(file, LIMIT, backend)
    desk.answer(1, SYSTEM)
    desk.close()
    assert os.fstat(file).st_size == 0


def test_the_file_keeps_within_its_limit_and_what_is_asked_for_most(file: int) -> None:
    limit = 2 * INDEX_BYTES + (8 << 18)
    backend = CountingBackend(1)
    backend.token_bytes = 2048  # so that a prompt takes two chunks of the eight
    desk = SpillingDesk(file, limit, backend, tick_s=10.0)  # it may write as much as it likes
    number = 0
    for turn in range(8):
        desk.answer(number, f"{SYSTEM}{turn}")
        desk.answer(number + 1, f"{turn}{OTHER}")
        number += 2
    desk.close()
    assert os.fstat(file).st_size <= limit
    again = CountingBackend(1)
    again.token_bytes = 2048
    last = SpillingDesk(file, limit, again)
    assert last.answer(1, SYSTEM).cached_tokens == len(SYSTEM) - 1
    last.close()


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_no_answer_is_wrong(seed: int, file: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    roots = [chance.choice("abcde") * chance.randrange(40, 180) for _ in range(4)]
    number = 0
    for turn in range(6):
        backend = CountingBackend(chance.randrange(1, 5))
        backend.token_bytes = 4096
        limit, tick_s = chance.choice([LIMIT, LIMIT, LIMIT // 2]), chance.choice([0.0, 0.001, 0.1])
        desk = SpillingDesk(file, limit, backend, tick_s=tick_s)
        asked: dict[int, str] = {}
        for _ in range(chance.randrange(5, 25)):
            number += 1
            asked[number] = chance.choice(roots) + "".join(chance.choices("xyz", k=9))
            desk.ask(number, asked[number], chance.randrange(1, 9))
            what = chance.randrange(12)
            if what == 0:
                desk.scheduler.cancel(number)
                del asked[number]
            elif what == 1:
                desk.scheduler.embed(Embed(-number, (Text("some text"),)))
            elif what == 2:
                desk.done(number)
        for one, prompt in asked.items():
            count = desk.done(one).completion_tokens
            assert desk.texts[one] == backend.answer(prompt, count)
        # Killed at some moment: the next life has what the file held then.
        copied = os.pread(file, LIMIT, 0)
        desk.close()
        os.ftruncate(file, 0)
        os.pwrite(file, copied, 0)
        if copied and turn % 2:
            at = chance.randrange(len(copied))
            os.pwrite(file, bytes([copied[at] ^ 1]), at)
