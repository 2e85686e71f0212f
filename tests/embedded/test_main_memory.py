"""The memory that is available to a process: the memory of the machine, bounded by its control groups."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio.to_thread
import pytest

from lmstudio_async.embedded import main_memory
from lmstudio_async.embedded._machine._control_groups import MemoryGroup, cpu_quota, memory_groups
from lmstudio_async.embedded._machine._main_memory import available_memory, total_memory

MB = 10**6
# Control groups of version 1 report this number if they have no limit.
NO_LIMIT = 2**63 - 4096

not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="Windows has another interface")


class Machine:
    """Files of a made-up system below a folder; it has 16 GB of memory, 8 GB of it available."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("/proc/meminfo", "MemTotal: 16000000 kB\nMemFree: 100 kB\nMemAvailable: 8000000 kB\n")

    def write(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def put(self, groups: str, *mounts: str) -> None:
        """Put this process into groups, as ``/proc/self/cgroup`` and ``/proc/self/mountinfo`` describe them."""
        self.write("/proc/self/cgroup", groups)
        self.write("/proc/self/mountinfo", "22 1 0:20 / /proc rw - proc proc rw\n" + "\n".join(mounts) + "\n")

    def limit_v2(self, folder: str, limit: int | str, used: int = 0, statistics: str = "") -> None:
        self.write(f"{folder}/memory.max", f"{limit}\n")
        self.write(f"{folder}/memory.current", f"{used}\n")
        self.write(f"{folder}/memory.stat", f"anon 5\n{statistics}\n")

    def limit_v1(self, folder: str, limit: int, used: int = 0, statistics: str = "") -> None:
        self.write(f"{folder}/memory.limit_in_bytes", f"{limit}\n")
        self.write(f"{folder}/memory.usage_in_bytes", f"{used}\n")
        self.write(f"{folder}/memory.stat", f"cache 5\n{statistics}\n")

    def memory(self) -> tuple[int | None, int | None]:
        """Return the total memory and the available memory of the process, in MB."""
        total, available = total_memory(self.root), available_memory(self.root)
        return total and total // MB, available and available // MB


V2 = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@not_on_windows
def test_memory_without_control_groups_is_that_of_the_machine(machine: Machine) -> None:
    assert machine.memory() == (16384, 8192)


@not_on_windows
def test_a_container_with_a_namespace_of_its_own_has_its_limit_at_the_mount(machine: Machine) -> None:
    machine.put("0::/\n", V2)
    machine.limit_v2("/sys/fs/cgroup", 1000 * MB, used=400 * MB)
    assert machine.memory() == (1000, 600)


@not_on_windows
def test_the_tightest_limit_of_nested_groups_counts(machine: Machine) -> None:
    machine.put("0::/app.slice/models.service/worker\n", V2)
    machine.limit_v2("/sys/fs/cgroup/app.slice/models.service/worker", 3000 * MB, used=100 * MB)
    machine.limit_v2("/sys/fs/cgroup/app.slice/models.service", "max", used=900 * MB)
    # Other processes in the slice have used most of the memory.
    machine.limit_v2("/sys/fs/cgroup/app.slice", 4000 * MB, used=3800 * MB)
    assert machine.memory() == (3000, 200)


@not_on_windows
def test_limits_of_other_groups_do_not_count(machine: Machine) -> None:
    machine.put("0::/app.slice\n", V2)
    machine.limit_v2("/sys/fs/cgroup/app.slice", "max")
    machine.limit_v2("/sys/fs/cgroup/app.slice/below", 10 * MB)
    machine.limit_v2("/sys/fs/cgroup/other.slice", 10 * MB)
    assert machine.memory() == (16384, 8192)


@not_on_windows
def test_cached_files_of_a_group_count_as_free(machine: Machine) -> None:
    machine.put("0::/", V2)
    cache = f"active_file {100 * MB}\ninactive_file {500 * MB}\nshmem {50 * MB}"
    machine.limit_v2("/sys/fs/cgroup", 1000 * MB, used=950 * MB, statistics=cache)
    assert machine.memory() == (1000, 650)


@not_on_windows
def test_a_group_beyond_its_limit_has_nothing_free(machine: Machine) -> None:
    machine.put("0::/", V2)
    machine.limit_v2("/sys/fs/cgroup", 1000 * MB, used=1001 * MB)
    assert machine.memory() == (1000, 0)


@not_on_windows
def test_a_limit_above_the_memory_of_the_machine_changes_nothing(machine: Machine) -> None:
    machine.put("0::/", V2)
    machine.limit_v2("/sys/fs/cgroup", 10**6 * MB)
    assert machine.memory() == (16384, 8192)


@not_on_windows
def test_version_1_counts_its_groups_with_all_below_them(machine: Machine) -> None:
    machine.put("9:name=systemd:/\n4:cpuset,memory:/a/b\n0::/\n", V2, V1)
    machine.limit_v1("/sys/fs/cgroup/memory/a/b", NO_LIMIT, used=200 * MB)
    machine.limit_v1(
        "/sys/fs/cgroup/memory/a",
        1000 * MB,
        used=900 * MB,
        statistics=f"inactive_file {1 * MB}\ntotal_inactive_file {250 * MB}\ntotal_active_file {50 * MB}",
    )
    machine.limit_v1("/sys/fs/cgroup/memory", NO_LIMIT, used=5000 * MB)
    assert machine.memory() == (1000, 400)


@not_on_windows
def test_hierarchical_limit_of_version_1_includes_groups_outside_of_the_container(machine: Machine) -> None:
    machine.put("4:memory:/\n", V1)
    hidden = f"hierarchical_memory_limit {700 * MB}"
    machine.limit_v1("/sys/fs/cgroup/memory", NO_LIMIT, used=100 * MB, statistics=hidden)
    assert machine.memory() == (700, 600)


@not_on_windows
@pytest.mark.parametrize(
    ("group", "mounted"),
    [
        ("/docker/0a1b", "/docker/0a1b"),
        # Another container started this one and recorded its own path.
        ("/docker/0a1b", "/elsewhere"),
        ("/../other", "/"),
    ],
)
def test_a_mount_of_only_the_own_group_has_its_limit(machine: Machine, group: str, mounted: str) -> None:
    machine.put(f"4:memory:{group}\n", V1.replace(" / ", f" {mounted} "))
    machine.limit_v1("/sys/fs/cgroup/memory", 1000 * MB)
    assert machine.memory() == (1000, 1000)


@not_on_windows
def test_a_mount_with_a_space_in_its_path_is_found(machine: Machine) -> None:
    machine.put("0::/one\n", V2.replace("/sys/fs/cgroup", "/my\\040groups"))
    machine.limit_v2("/my groups/one", 1000 * MB)
    assert machine.memory() == (1000, 1000)


@pytest.mark.parametrize("text", ["", "gibberish", "0::", ":::::\n0:memory\n"])
def test_control_group_files_of_unknown_form_set_no_limit(machine: Machine, text: str) -> None:
    machine.write("/proc/self/cgroup", text)
    machine.write("/proc/self/mountinfo", text + " - cgroup2\n - \n")
    assert memory_groups(machine.root) == []
    assert cpu_quota(machine.root) is None


def test_the_tightest_cpu_quota_counts(machine: Machine) -> None:
    machine.put("0::/app.slice/models.service\n", V2)
    machine.write("/sys/fs/cgroup/app.slice/models.service/cpu.max", "max 100000\n")
    assert cpu_quota(machine.root) is None
    machine.write("/sys/fs/cgroup/app.slice/cpu.max", "250000 100000\n")
    assert cpu_quota(machine.root) == 2.5


def test_a_cpu_quota_of_version_1_is_found_where_its_controller_is_mounted(machine: Machine) -> None:
    mount = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
    machine.put("2:cpu,cpuacct:/a\n4:memory:/b\n0::/\n", V1, mount, V2)
    machine.write("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n")
    machine.write("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n")
    assert cpu_quota(machine.root) is None
    machine.write("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "400000\n")
    assert cpu_quota(machine.root) == 4


def test_memory_groups_have_a_limit_and_free_memory(machine: Machine) -> None:
    machine.put("0::/", V2)
    machine.limit_v2("/sys/fs/cgroup", 1000, used=300)
    assert memory_groups(machine.root) == [MemoryGroup(limit=1000, free=700)]


async def test_the_memory_of_this_machine_is_known() -> None:
    total = await anyio.to_thread.run_sync(total_memory)
    available = await anyio.to_thread.run_sync(available_memory)
    assert total and available
    assert 10 * MB < available <= total


def test_main_memory_of_this_machine_is_available_in_part() -> None:
    memory = main_memory()
    assert memory.total_bytes is not None
    assert memory.available_bytes is not None
    assert 0 < memory.available_bytes <= memory.total_bytes
