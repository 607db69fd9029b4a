"""What devices are told of a strategy's windows."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from sprat_controller.rollout.strategy import ALL_AT_ONCE, Strategy, WindowSpec
from sprat_controller.rollout.timing import fault, windows_of
from sprat_proto import windows
from sprat_proto.assignment import AT_ANY_TIME

NOW = datetime(2026, 11, 26, tzinfo=UTC)
NIGHT = WindowSpec(cron="0 2 * * *", duration_s=3600, zone="Europe/Paris")


def test_a_strategy_without_windows_tells_devices_nothing() -> None:
    assert windows_of(ALL_AT_ONCE) == AT_ANY_TIME
    assert fault(ALL_AT_ONCE, NOW) is None


def test_all_that_a_strategy_says_about_time_is_told() -> None:
    asked = Strategy(download_window=NIGHT, activate_window=NIGHT, ends_at=9)
    told = windows_of(asked)
    expected = windows.WindowSpec(cron="0 2 * * *", duration_s=3600, zone="Europe/Paris")
    assert told.download == told.activate == expected
    assert told.deadline == 9
    assert not told.is_way_back
    assert windows_of(asked, is_way_back=True) == msgspec.structs.replace(told, is_way_back=True)


def test_an_emergency_and_a_way_back_without_windows_tell_devices_nothing() -> None:
    emergency = Strategy(download_window=NIGHT, activate_window=NIGHT, ends_at=9, override="fire")
    assert windows_of(emergency) == windows_of(emergency, is_way_back=True) == AT_ANY_TIME
    assert windows_of(ALL_AT_ONCE, is_way_back=True) == AT_ANY_TIME


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (WindowSpec(cron="0 2 * *", duration_s=60), "expected five fields"),
        (WindowSpec(cron="0 2 * * *", duration_s=60, zone="Mars/Base"), "'Mars/Base'"),
        (WindowSpec(cron="0 2 30 2 *", duration_s=60), "which never does"),
    ],
)
def test_a_window_that_is_none_is_refused_before_anybody_waits_for_it(
    spec: WindowSpec, found: str
) -> None:
    for asked, name in (
        (Strategy(download_window=spec), "the download window: "),
        (Strategy(activate_window=spec), "the activate window: "),
    ):
        said = fault(asked, NOW)
        assert said is not None
        assert said.startswith(name)
        assert found in said
    assert fault(Strategy(activate_window=NIGHT), NOW) is None
