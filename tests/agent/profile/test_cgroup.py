"""Limits of control groups, both versions, wherever they stand in the hierarchy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.profile import cgroup

GIB = 1 << 30


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "max\n"}, None),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": f"{GIB}\n"}, GIB),
        # The parent's limit is lower than ours.
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                f"{V2}/a/b/memory.max": f"{2 * GIB}\n",
                f"{V2}/a/memory.max": f"{GIB}\n",
            },
            GIB,
        ),
        # In a container the path is the host's, and only the mount is there.
        ({"proc/self/cgroup": "0::/system.slice/x\n", f"{V2}/memory.max": f"{GIB}\n"}, GIB),
        # The highest multiple of a page is version 1's way to say that there is none.
        (
            {
                "proc/self/cgroup": "5:memory:/\n",
                f"{V1}/memory.limit_in_bytes": "9223372036854771712\n",
            },
            None,
        ),
        (
            {
                "proc/self/cgroup": "5:memory:/app\n2:cpu,cpuacct:/app\n",
                f"{V1}/app/memory.limit_in_bytes": f"{GIB}\n",
                f"{V1}/memory.limit_in_bytes": "9223372036854771712\n",
            },
            GIB,
        ),
    ],
)
def test_the_lowest_memory_limit_on_the_way_up_counts(
    tmp_path: Path, files: dict[str, str], limit: int | None
) -> None:
    assert cgroup.memory_limit(write(tmp_path, files)) == limit


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/a\n", f"{V2}/a/cpu.max": "150000 100000\n"}, 1.5),
        *(
            (
                {
                    "proc/self/cgroup": "0::/a/b\n",
                    f"{V2}/a/b/cpu.max": f"{own} 100000\n",
                    f"{V2}/a/cpu.max": f"{above} 100000\n",
                },
                0.5,
            )
            for own, above in ((50_000, 200_000), (200_000, 50_000))
        ),
        (
            {
                "proc/self/cgroup": "2:cpu,cpuacct:/app\n",
                "sys/fs/cgroup/cpu/app/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/app/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_the_quota_of_processors_is_their_time(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    assert cgroup.cpu_quota(write(tmp_path, files)) == quota


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    quota = cgroup.parse_cpu_max(text)
    assert quota is None or quota > 0
    assert all(path.startswith("/") for path in cgroup.parse_membership(text).values())
