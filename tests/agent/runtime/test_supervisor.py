"""What answers, what is refused, and what is brought back; every worker is a real process."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from simulators import scripted_worker
from simulators.waiting import until
from simulators.workbench import QUICK, Bench, say
from sprat_agent.runtime import faults
from sprat_agent.runtime.served import Condition
from sprat_agent.sync.ports import ExecutionError, Loadable
from sprat_proto import fit
from sprat_proto.manifest import Activation, GoldenPrompt
from sprat_proto.probes import Bounds, FailedCheck, Proof, ScoredText, Traffic
from sprat_proto.states import ModelState, ReasonCode


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def is_gone(pid: int) -> None:
    await until(lambda: not is_there(pid))


async def test_a_committed_model_answers_by_all_its_names(bench: Bench, one: Loadable) -> None:
    await bench.supervisor.load_committed(one)
    for name in ("assistant", "tiny", "tiny@1.0.0", "tiny@1.0.0+f32"):
        assert await bench.ask("hello there", name) == ("1.0.0", "hello there")
    with pytest.raises(faults.ModelNotFoundError, match=r"'tiny@9\.9\.9'.*there are: assistant"):
        await bench.ask("hello", "tiny@9.9.9")


async def test_events_tell_of_models_and_not_of_what_was_asked(bench: Bench, one: Loadable) -> None:
    await bench.supervisor.load_committed(one)
    await bench.ask("a secret")
    await bench.supervisor.unload("assistant")
    assert bench.tags() == ["agent:model:loaded", "agent:model:unloaded"]
    assert {details["digest"] for _, _, details in bench.events} == {one.digest}
    assert "secret" not in str(bench.events)


async def test_loading_the_same_model_again_starts_no_other_worker(
    bench: Bench, one: Loadable
) -> None:
    await bench.supervisor.load_committed(one)
    before = bench.pid()
    await bench.supervisor.load_committed(one)
    assert bench.pid() == before


async def test_unloading_ends_the_worker(bench: Bench, one: Loadable) -> None:
    await bench.supervisor.load_committed(one)
    pid = bench.pid()
    await bench.supervisor.unload("assistant")
    await is_gone(pid)
    assert bench.supervisor.running() == ()
    with pytest.raises(faults.ModelNotFoundError):
        await bench.ask("hello")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("cut", ReasonCode.SIZE_MISMATCH),
        ("flip", ReasonCode.DIGEST_MISMATCH),
    ],
)
async def test_a_file_that_is_not_what_was_signed_is_refused(
    bench: Bench, one: Loadable, tmp_path: Path, change: str, code: ReasonCode
) -> None:
    data = one.files[0].path.read_bytes()
    tampered = tmp_path / "tampered.gguf"
    tampered.write_bytes(data[:-1] if change == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    bad = replace(one, release="2.0.0", files=(replace(one.files[0], path=tampered),))
    await bench.supervisor.load_committed(one)
    with pytest.raises(ExecutionError) as caught:
        await bench.supervisor.load_candidate(replace(bad, digest="b" * 64))
    assert caught.value.code is code
    assert caught.value.expected
    assert caught.value.found
    assert caught.value.expected != caught.value.found
    assert await bench.ask("still here") == ("1.0.0", "still here")
    assert bench.tags()[-1] == "agent:model:refused"


async def test_a_committed_model_that_is_refused_does_not_run_and_says_why(
    bench: Bench, one: Loadable
) -> None:
    bad = replace(one, files=(replace(one.files[0], sha256="0" * 64),))
    with pytest.raises(ExecutionError):
        await bench.supervisor.load_committed(bad)
    (status,) = bench.supervisor.statuses()
    assert (status.condition, status.can_answer) == (Condition.BROKEN, False)
    assert "SHA-256" in status.reason
    assert bench.supervisor.running() == ()
    await bench.supervisor.load_committed(one)
    assert await bench.ask("hello") == ("1.0.0", "hello")


async def test_a_missing_file_is_one_clear_error(bench: Bench, one: Loadable) -> None:
    missing = replace(one, files=(replace(one.files[0], path=Path("/nowhere/model.gguf")),))
    with pytest.raises(ExecutionError, match=r"cannot open model\.gguf") as caught:
        await bench.supervisor.load_candidate(missing)
    assert caught.value.code is ReasonCode.LOAD_FAILED


@pytest.mark.parametrize(
    ("control", "code"),
    [
        (scripted_worker.FAIL_LOAD, ReasonCode.LOAD_FAILED),
        (scripted_worker.CRASH_LOAD, ReasonCode.WORKER_CRASHED),
    ],
)
async def test_a_candidate_that_cannot_be_loaded_changes_nothing(
    bench: Bench, one: Loadable, two: Loadable, *, control: str, code: ReasonCode
) -> None:
    await bench.supervisor.load_committed(one)
    bench.control(control, "1")
    with pytest.raises(ExecutionError) as caught:
        await bench.supervisor.load_candidate(two)
    assert caught.value.code is code
    assert await bench.ask("hello") == ("1.0.0", "hello")
    assert [one.loadable.release for one in bench.supervisor.running()] == ["1.0.0"]


async def test_a_load_that_hangs_is_ended(tmp_path: Path, one: Loadable) -> None:
    bench = Bench(tmp_path, limits=replace(QUICK, load_timeout_s=1))
    bench.control(scripted_worker.HANG_LOAD)
    with pytest.raises(ExecutionError, match="did not load in 1 s"):
        await bench.supervisor.load_candidate(one)
    await bench.supervisor.close()


async def test_a_candidate_answers_nothing_before_it_is_promoted(
    bench: Bench, one: Loadable, two: Loadable
) -> None:
    await bench.supervisor.load_committed(one)
    await bench.supervisor.load_candidate(two)
    await bench.supervisor.probe("assistant", Activation(), 0)
    assert [await bench.ask("hello") for _ in range(3)] == [("1.0.0", "hello")] * 3
    with pytest.raises(faults.ModelNotFoundError):
        await bench.ask("hello", "tiny@2.0.0")
    await bench.supervisor.promote("assistant")
    assert await bench.ask("hello") == ("2.0.0", "hello")
    assert [one.state for one in bench.supervisor.running()] == [ModelState.LOADED]


async def test_a_candidate_gets_exactly_its_share_of_the_traffic(
    bench: Bench, one: Loadable, two: Loadable
) -> None:
    await bench.supervisor.load_committed(one)
    await bench.supervisor.load_candidate(two)
    bench.supervisor.share_traffic("assistant", 25)
    releases = [(await bench.ask("hello"))[0] for _ in range(12)]
    assert releases == ["1.0.0", "1.0.0", "1.0.0", "2.0.0"] * 3
    assert (await bench.ask("hello", "tiny@1.0.0"))[0] == "1.0.0"


async def test_promotion_lets_the_previous_worker_finish_its_requests(
    bench: Bench, one: Loadable, two: Loadable
) -> None:
    await bench.supervisor.load_committed(one)
    previous = bench.pid()
    async with bench.supervisor.answering("assistant", say("hold")) as answer:
        assert (await anext(answer)).text == "held"
        await bench.supervisor.load_candidate(two)
        await bench.supervisor.promote("assistant")
        assert await bench.ask("hello") == ("2.0.0", "hello")
        assert is_there(previous)
        bench.control(scripted_worker.GO_ON)
        assert [piece async for piece in answer] == []
        assert answer.loadable.release == "1.0.0"
    await is_gone(previous)


async def test_a_dropped_candidate_is_gone_and_the_committed_answers(
    bench: Bench, one: Loadable, two: Loadable
) -> None:
    await bench.supervisor.load_committed(one)
    await bench.supervisor.load_candidate(two)
    candidate = bench.pid(is_candidate=True)
    await bench.supervisor.drop_candidate("assistant")
    await is_gone(candidate)
    assert await bench.ask("hello") == ("1.0.0", "hello")


async def test_a_crash_costs_its_request_and_the_model_comes_back(
    bench: Bench, one: Loadable
) -> None:
    await bench.supervisor.load_committed(one)
    with pytest.raises(faults.WorkerCrashedError, match=r"SIGKILL.*the last words"):
        await bench.ask("crash")
    assert await bench.ask("hello again") == ("1.0.0", "hello again")
    assert "agent:model:crashed" in bench.tags()


async def test_requests_that_wait_survive_a_crash(bench: Bench, one: Loadable) -> None:
    await bench.supervisor.load_committed(one)
    crashing = asyncio.create_task(bench.ask("crash"))
    waiting = asyncio.create_task(bench.ask("hello"))
    with pytest.raises(faults.WorkerCrashedError):
        await crashing
    assert await waiting == ("1.0.0", "hello")


async def test_a_restarted_worker_has_as_much_room_as_the_one_that_died(
    tmp_path: Path, one: Loadable
) -> None:
    candidate = fit.Candidate(one.variant, one.digest, "", (), 0, one.facts)
    first = fit.need(candidate, one.context).memory
    slot = fit.need(candidate, one.context, 2).memory - first
    bench = Bench(tmp_path, budget_bytes=2 * first + 10 * slot)
    await bench.supervisor.load_committed(one)
    before = bench.supervisor.statuses()[0].memory_bytes
    assert before == first + 5 * slot  # half of what is free
    with pytest.raises(faults.WorkerCrashedError):
        await bench.ask("crash")
    assert await bench.ask("hello") == ("1.0.0", "hello")
    assert bench.supervisor.statuses()[0].memory_bytes == before
    await bench.supervisor.close()


async def test_restarts_go_on_until_one_works(bench: Bench, one: Loadable) -> None:
    await bench.supervisor.load_committed(one)
    bench.control(scripted_worker.FAIL_LOAD, "3")
    os.kill(bench.pid(), signal.SIGKILL)
    await until(lambda: bench.tags().count("agent:model:refused") == 3)
    await bench.can_answer()
    assert await bench.ask("hello") == ("1.0.0", "hello")


async def test_a_model_whose_file_was_changed_is_not_restarted(
    bench: Bench, one: Loadable, tmp_path: Path
) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(one.files[0].path.read_bytes())
    await bench.supervisor.load_committed(replace(one, files=(replace(one.files[0], path=path),)))
    replacement = tmp_path / "replacement"
    replacement.write_bytes(path.read_bytes()[:-1] + b"!")
    replacement.replace(path)
    os.kill(bench.pid(), signal.SIGKILL)
    await until(lambda: "agent:model:refused" in bench.tags())
    assert bench.supervisor.running() == ()
    assert bench.supervisor.statuses()[0].condition is Condition.BROKEN


async def test_a_candidates_death_is_told_and_does_not_restart_it(
    bench: Bench, one: Loadable, two: Loadable
) -> None:
    await bench.supervisor.load_committed(one)
    await bench.supervisor.load_candidate(two)
    failure = asyncio.create_task(bench.supervisor.candidate_failure("assistant"))
    os.kill(bench.pid(is_candidate=True), signal.SIGKILL)
    error = await failure
    assert error.code is ReasonCode.WORKER_CRASHED
    assert "tiny@2.0.0+f32 was killed by SIGKILL" in error.message
    with pytest.raises(ExecutionError, match="SIGKILL"):
        await bench.supervisor.promote("assistant")
    fault = (await bench.supervisor.probe("assistant", Activation(), 0)).fault
    assert fault is not None
    assert (fault.code, "SIGKILL" in fault.message) == (ReasonCode.WORKER_CRASHED, True)
    bench.supervisor.share_traffic("assistant", 100)
    assert await bench.ask("hello") == ("1.0.0", "hello")


@pytest.mark.parametrize(("order", "stall_timeout_s"), [("hang", 0.2), ("freeze", 60)])
async def test_a_worker_that_hangs_is_killed_and_started_again(
    tmp_path: Path, one: Loadable, order: str, stall_timeout_s: float
) -> None:
    limits = replace(QUICK, ping_timeout_s=0.5, stall_timeout_s=stall_timeout_s)
    bench = Bench(tmp_path, limits=limits)
    await bench.supervisor.load_committed(one)
    with pytest.raises(faults.WorkerCrashedError, match="because it hung"):
        await bench.ask(order)
    await bench.can_answer()
    await bench.supervisor.close()


async def test_an_engine_that_fails_at_a_request_goes_on(bench: Bench, one: Loadable) -> None:
    await bench.supervisor.load_committed(one)
    with pytest.raises(faults.EngineFailedError, match="told to fail"):
        await bench.ask("fail")
    with pytest.raises(faults.RequestRefusedError) as caught:
        await bench.ask("refuse")
    assert caught.value.code == "context_length_exceeded"
    assert await bench.ask("hello") == ("1.0.0", "hello")


async def test_leaving_an_answer_stops_the_generation(bench: Bench, one: Loadable) -> None:
    await bench.supervisor.load_committed(one)
    async with bench.supervisor.answering("assistant", say("hold")) as answer:
        assert (await anext(answer)).text == "held"
    assert await bench.ask("hello") == ("1.0.0", "hello")


async def test_a_cancelled_wait_leaves_the_queue(bench: Bench, one: Loadable) -> None:
    await bench.supervisor.load_committed(one)
    async with bench.supervisor.answering("assistant", say("hold")) as answer:
        await anext(answer)
        waiting = asyncio.create_task(bench.ask("hello"))
        await until(lambda: bench.supervisor.statuses()[0].queued == 1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert bench.supervisor.statuses()[0].queued == 0


async def test_a_full_queue_refuses_at_once(bench: Bench, one: Loadable) -> None:
    await bench.supervisor.load_committed(one)
    async with bench.supervisor.answering("assistant", say("hold")) as answer:
        await anext(answer)
        waiting = [asyncio.create_task(bench.ask(f"number {at}")) for at in range(3)]
        await until(lambda: bench.supervisor.statuses()[0].queued == 3)
        with pytest.raises(faults.QueueFullError) as caught:
            await bench.ask("one too many")
        assert caught.value.retry_after_s
        assert "'assistant' is busy: 3 requests wait" in caught.value.message
        bench.control(scripted_worker.GO_ON)
    assert [await task for task in waiting] == [("1.0.0", f"number {at}") for at in range(3)]


@pytest.mark.parametrize(
    ("golden", "code"),
    [
        (GoldenPrompt("hello there", "there"), None),
        (GoldenPrompt("hello there", "hello there", "equals"), None),
        (GoldenPrompt("hello there", "hello", "equals"), ReasonCode.PROBE_FAILED),
        (GoldenPrompt("hello there", "goodbye"), ReasonCode.PROBE_FAILED),
        (GoldenPrompt("refuse", "goodbye"), ReasonCode.PROBE_FAILED),
        (GoldenPrompt("crash", "goodbye"), ReasonCode.WORKER_CRASHED),
    ],
)
async def test_a_probe_passes_only_with_the_expected_answer(
    bench: Bench, one: Loadable, golden: GoldenPrompt, code: ReasonCode | None
) -> None:
    await bench.supervisor.load_candidate(one)
    activation = Activation(probe=[golden])
    probed = await bench.supervisor.probe("assistant", activation, 0)
    assert (probed.fault.code if probed.fault else None) is code
    if code is not ReasonCode.WORKER_CRASHED:
        assert probed.result.peak_bytes > 0
    if golden.prompt == "hello there":
        assert probed.result.score_permille == (1000 if code is None else 0)


@pytest.mark.parametrize(("least", "passes"), [(750, True), (751, False)])
async def test_a_score_is_the_weight_of_what_was_answered_as_expected(
    bench: Bench, one: Loadable, least: int, *, passes: bool
) -> None:
    prompts = [GoldenPrompt("yes", "yes", weight=3), GoldenPrompt("no", "yes")]
    activation = Activation(probe=prompts, proof=Proof(min_score_permille=least))
    await bench.supervisor.load_candidate(one)
    probed = await bench.supervisor.probe("assistant", activation, 0)
    assert (probed.fault is None) == passes
    result = probed.result
    assert (result.score_permille, result.prompts, result.passed) == (750, 2, 1)
    assert result.failed == (FailedCheck("no", "yes", "no"),)  # also where it passed
    if probed.fault:
        assert probed.fault.code is ReasonCode.PROBE_FAILED
        assert "750 of 1000 where 751" in probed.fault.message


async def test_a_text_that_surprises_too_much_fails_the_probe(bench: Bench, one: Loadable) -> None:
    await bench.supervisor.load_candidate(one)  # whose engine says e for any text
    for most, passes in ((2_710, True), (2_700, False)):
        activation = Activation(proof=Proof(text=ScoredText("a text", most)))
        probed = await bench.supervisor.probe("assistant", activation, 0)
        assert (probed.fault is None) == passes
        assert probed.result.perplexity_milli == 2_718
        assert probed.result.scored_tokens == len("a text")
        assert [one.check for one in probed.result.failed] == ([] if passes else ["perplexity"])


async def test_memory_is_held_to_what_was_declared(bench: Bench, one: Loadable) -> None:
    await bench.supervisor.load_candidate(one)
    bounds = Bounds(max_memory_permille=1)
    activation = Activation(proof=Proof(bounds=bounds))
    fault = (await bench.supervisor.probe("assistant", activation, 0)).fault
    assert fault is not None
    assert "its worker is to take at most" in fault.message


async def test_a_probe_measures_rates_also_where_it_is_not_alone(
    bench: Bench, one: Loadable, two: Loadable
) -> None:
    await bench.supervisor.load_committed(one)
    await bench.supervisor.load_candidate(two)
    text = "word " * 21
    activation = Activation(probe=[GoldenPrompt(text, "word")] * 2)
    alone = await bench.supervisor.probe("assistant", activation, 0)
    assert alone.result.decode_milli_tps == 20_000_000  # which takes the engine a millisecond
    async with bench.supervisor.answering("assistant", say("hold")) as held:
        await anext(aiter(held))
        beside = await bench.supervisor.probe("assistant", activation, 0)
    assert beside.result.decode_milli_tps == 20_000_000  # the best that is known
    # What is asked while it is proved says nothing of the model that answers.
    assert bench.supervisor.seen(one.digest).samples == 0


async def test_real_requests_count_for_the_candidate_that_took_them(
    bench: Bench, one: Loadable, two: Loadable
) -> None:
    supervisor = bench.supervisor
    assert supervisor.traffic("assistant") == Traffic()
    await supervisor.load_committed(one)
    await bench.ask("word " * 21)
    await supervisor.load_candidate(two)
    await supervisor.probe("assistant", Activation(), 0)
    supervisor.share_traffic("assistant", 100)
    assert supervisor.traffic("assistant") == Traffic()
    assert (await bench.ask("word " * 21))[0] == "2.0.0"
    rated = Traffic(requests=1, rated=1, decoded=20, decode_us=1000)
    assert supervisor.traffic("assistant") == rated
    await bench.ask("too short to tell a rate")
    for order in ("fail", "refuse"):  # of which the second is not the model's fault
        with pytest.raises(faults.AnswerError):
            await bench.ask(order)
    assert supervisor.traffic("assistant") == rated.plus(Traffic(requests=2, errors=1))
    await supervisor.promote("assistant")
    assert supervisor.traffic("assistant") == Traffic()


async def test_a_probe_that_takes_too_long_fails(bench: Bench, one: Loadable) -> None:
    await bench.supervisor.load_candidate(one)
    activation = Activation(probe=[GoldenPrompt("hold", "held")], probe_timeout_s=1)
    fault = (await bench.supervisor.probe("assistant", activation, 0)).fault
    assert fault is not None
    assert fault.code is ReasonCode.PROBE_FAILED
    assert "1 s" in fault.expected


async def test_a_first_release_answers_once_it_is_proved(bench: Bench, one: Loadable) -> None:
    await bench.supervisor.load_candidate(one)
    waiting = asyncio.create_task(bench.ask("hello"))
    await until(lambda: bench.supervisor.statuses()[0].queued == 1)
    assert bench.supervisor.offered() == ()
    await bench.supervisor.probe("assistant", Activation(), 0)
    assert await waiting == ("1.0.0", "hello")
    assert bench.supervisor.running() == ()


@pytest.mark.parametrize("steps", range(6))
async def test_closing_at_any_moment_of_a_load_leaves_no_worker(
    tmp_path: Path, one: Loadable, steps: int
) -> None:
    bench = Bench(tmp_path)
    loading = asyncio.create_task(bench.supervisor.load_candidate(one))
    await until(bench.supervisor.statuses)
    for _ in range(steps**3):
        await asyncio.sleep(0)
    await bench.supervisor.close()
    with pytest.raises(ExecutionError):
        await loading
    assert bench.pids() == []
    assert not list((tmp_path / "run").iterdir())


async def test_closing_ends_all_workers_even_while_one_loads(
    tmp_path: Path, one: Loadable, two: Loadable
) -> None:
    bench = Bench(tmp_path)
    await bench.supervisor.load_committed(one)
    pid = bench.pid()
    bench.control(scripted_worker.HANG_LOAD)
    loading = asyncio.create_task(bench.supervisor.load_candidate(two))
    await until(lambda: len(bench.pids()) == 2)
    await bench.supervisor.close()
    with pytest.raises(ExecutionError):
        await loading
    await is_gone(pid)
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8])
async def test_closing_waits_for_a_replaced_worker_that_is_just_being_ended(
    tmp_path: Path, one: Loadable, two: Loadable, steps: int
) -> None:
    bench = Bench(tmp_path)
    await bench.supervisor.load_committed(one)
    previous = bench.pid()
    await bench.supervisor.load_candidate(two)
    await bench.supervisor.promote("assistant")
    for _ in range(steps):
        await asyncio.sleep(0)
    await bench.supervisor.close()
    assert not is_there(previous)
    assert bench.tags().count("agent:model:unloaded") == 2
