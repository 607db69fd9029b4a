from __future__ import annotations

import pytest
from simulators.operator_api import OperatorApi
from simulators.sprat_command import Sprat
from sprat_controller.cli import output


def test_a_pipe_gets_tab_separated_lines_without_a_header(sprat: Sprat) -> None:
    said = sprat("devices", "list")
    assert [line[0] for line in said.lines] == ["gw-1", "cam-1 (simulated)"]
    assert said.lines[0][1:3] == ["IN_SYNC", "yes"]
    assert said.lines[0][5] == "site=lyon"
    assert said.errors == ""


def test_a_table_has_a_header_and_json_the_items(sprat: Sprat) -> None:
    table = sprat("devices", "list", "-o", "table").output.splitlines()
    assert table[0].split()[:2] == ["device", "state"]
    assert "cam-1 (simulated)" in table[2]
    assert [row["id"] for row in sprat("devices", "list", "-o", "json").json["items"]] == [
        "gw-1",
        "cam-1",
    ]


def test_filters_are_the_controllers(sprat: Sprat) -> None:
    assert [line[0] for line in sprat("devices", "list", "--where", "site=lyon").lines] == ["gw-1"]
    found = sprat("devices", "list", "--state", "PENDING").lines
    assert [line[0] for line in found] == ["cam-1 (simulated)"]


@pytest.mark.parametrize(("limit", "count"), [([], 252), (["--limit", "7"], 7)])
def test_a_long_list_comes_page_by_page(
    sprat: Sprat, api: OperatorApi, limit: list[str], count: int
) -> None:
    api.page_size = 100
    for number in range(250):
        api.add_device(f"dev-{number}")
    assert len(sprat("devices", "list", *limit).lines) == count


def test_a_device_shows_its_hardware_and_what_it_runs(sprat: Sprat, api: OperatorApi) -> None:
    model = {"model": "talk", "release": "1.0.0", "variant": "q4_0"}
    api.add_device(
        "cam-2",
        simulated=True,
        running={"assistant": model},
        profile={
            "arch": "aarch64",
            "cores": 4,
            "memory_bytes": 512 << 20,
            "memory_budget_bytes": 133 << 20,
            "disk_free_bytes": 4 << 30,
        },
    )
    fields = dict(line for line in sprat("devices", "show", "cam-2").lines)
    assert fields["device"] == "cam-2 (simulated)"
    assert fields["running"] == "assistant: talk@1.0.0+q4_0"
    assert fields["hardware"] == (
        "aarch64, 4 cores, 512.0 MiB of memory (133.0 MiB for models), 4.00 GiB of disk free"
    )


def test_a_device_shows_what_it_measured(sprat: Sprat, api: OperatorApi) -> None:
    api.add_device(
        "pi-5",
        profile={
            "arch": "aarch64",
            "cores": 4,
            "processor": "Raspberry Pi 5",
            "core_kinds": [
                {"count": 2, "capacity": 1024, "max_mhz": 2400},
                {"count": 2, "capacity": 512, "max_mhz": 0},
            ],
            "cpu_quota_milli": 1500,
            "memory_limit_bytes": 1 << 30,
            "memory_available_bytes": 512 << 20,
            "throttle_permille": 250,
            "power": "battery",
            "measured": {
                "engine": "llama-cpp-python 0.3.36",
                "threads": 4,
                "bandwidth": 9_500_000_000,
                "costs": [
                    {"kind": "q4_0", "decode_fs": 200_000, "prefill_fs": 9},
                    {"kind": "f16", "decode_fs": 125_000, "prefill_fs": 9},
                ],
            },
        },
    )
    fields = dict(line for line in sprat("devices", "show", "pi-5").lines)
    assert fields["processor"] == (
        "Raspberry Pi 5: 2 of capacity 1024 at 2.40 GHz + 2 of capacity 512"
    )
    assert fields["limits"] == "1.50 of a processor, 1.00 GiB of memory"
    assert fields["now"] == (
        "512.0 MiB of memory available, heat takes 25 % of its speed, on battery"
    )
    assert fields["measured"] == (
        "9.5 GB/s of memory; decoding with 4 threads of llama-cpp-python 0.3.36, in GB/s:"
        " q4_0 5.0, f16 8.0"
    )


def test_a_device_shows_how_fast_it_was_seen_to_answer(sprat: Sprat, api: OperatorApi) -> None:
    seen = {
        "model": "talk",
        "release": "1.0.0",
        "variant": "q4_0",
        "decode_milli_tps": 12_340,
        "prefill_milli_tps": 98_000,
        "samples": 64,
        "class_decode_milli_tps": 12_000,
        "class_prefill_milli_tps": 0,
        "class_devices": 3,
    }
    api.add_device("pi-5", observed=[seen])
    fields = dict(line for line in sprat("devices", "show", "pi-5").lines)
    assert fields["observed"] == (
        "talk@1.0.0+q4_0 12.3 tokens a second and 98 of a prompt, 64 answers"
        " (its class: 12.0 tokens a second, 3 devices)"
    )


def test_a_device_says_that_it_went_back_without_a_word(sprat: Sprat, api: OperatorApi) -> None:
    fallback = {"expected": "b" * 64, "found": "a" * 64, "at": "2026-11-26T12:00:00.000+00:00"}
    api.add_device("pi-5", fallbacks={"assistant": fallback})
    fields = dict(line for line in sprat("devices", "show", "pi-5").lines)
    assert fields["fell back"] == (
        "assistant: aaaaaaaaaaaa answers, not bbbbbbbbbbbb, which it had proved"
        " (noticed 2026-11-26T12:00:00.000+00:00)"
    )


def test_labelling_keeps_the_other_labels(sprat: Sprat, api: OperatorApi) -> None:
    api.add_device("gw-1", labels={"site": "lyon", "old": "1"})
    assert sprat("devices", "label", "gw-1", "ring=canary", "old-").status == 0
    assert api.devices["gw-1"]["labels"] == {"site": "lyon", "ring": "canary"}


def test_removing_asks_first(sprat: Sprat, api: OperatorApi) -> None:
    said = sprat("devices", "remove", "gw-1")
    said.assert_one_sentence(64)
    assert "--yes" in said.errors
    assert "gw-1" in api.devices
    assert sprat("devices", "remove", "gw-1", "--yes").status == 0
    assert "gw-1" not in api.devices


def test_a_device_in_quarantine_says_so_and_a_person_releases_it(
    sprat: Sprat, api: OperatorApi
) -> None:
    api.add_device("gw-1", quarantined_at="2026-11-23T10:00:00Z", quarantine_reason="copied")
    fields = dict(line for line in sprat("devices", "show", "gw-1").lines)
    assert fields["quarantine"] == "copied, since 2026-11-23T10:00:00Z"
    assert "--yes" in sprat("devices", "release-quarantine", "gw-1").errors
    assert api.devices["gw-1"]["quarantined_at"] is not None
    said = sprat("devices", "release-quarantine", "gw-1", "--accept-older", "--yes")
    assert said.status == 0
    assert api.devices["gw-1"]["quarantined_at"] is None
    assert api.devices["gw-1"]["accepts_older"] is True


def test_what_devices_say_cannot_steer_a_terminal_or_break_a_line(
    sprat: Sprat, api: OperatorApi
) -> None:
    api.add_device("gw-1", hardware_class="\x1b[2J\tevil\nline")
    for form in ("tsv", "table"):
        said = sprat("devices", "list", "-o", form).output
        assert "\x1b" not in said
        assert "evil line" in said


def test_what_devices_say_is_no_markup(sprat: Sprat, api: OperatorApi) -> None:
    api.add_device("gw-1", hardware_class="[bold]x[/nonsense]")
    assert "[bold]x[/nonsense]" in sprat("devices", "list", "-o", "table").output


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (5 << 30, "5.00 GiB")],
)
def test_sizes_are_for_people(count: int, shown: str) -> None:
    assert output.size(count) == shown
