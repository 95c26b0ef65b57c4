"""Who is on a card: NVML's lists at the C interface, and real processes behind the numbers in them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock
from nvml_simulator_build import NvmlSimulator, build
from stillwatt.records import DeviceUse, DeviceUser, ProcessId
from stillwatt.sensors import SeesUsers
from stillwatt.sensors.nvml import NvmlSensor
from stillwatt.sensors.processes import Processes
from stillwatt.units import NS_PER_S

HOST = "pid:[4026531836]"
MIB = 1 << 20
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts programs that print a line and then wait; ends them afterwards."""
    begun: list[subprocess.Popen[str]] = []

    def run(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", f"{code}\nimport time\ntime.sleep(600)"], stdout=subprocess.PIPE, text=True
        )
        begun.append(process)
        return process

    yield run
    for process in begun:
        process.kill()
        process.communicate()


class Rig:
    """An open sensor on a simulator at a set time."""

    def __init__(self, simulator: NvmlSimulator, text: str, *, library: str | None = None) -> None:
        self.clock = FakeClock()
        self.simulator = simulator
        simulator.configure(text, now_ns=self.clock.now_ns)
        simulator.set_wall_offset_ns(self.clock.utc_offset_ns)
        self.sensor = NvmlSensor(self.clock, library=library or simulator.path)
        self.sensor.open()

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.simulator.set_time_ns(self.clock.now_ns)

    def look(self, part: str = "gpu0") -> DeviceUse:
        (use,) = self.sensor.users({part})
        return use


def _pids(use: DeviceUse) -> list[int]:
    assert use.users is not None
    return [user.pid for user in use.users]


def _shares(use: DeviceUse) -> dict[int, float | None]:
    return {user.pid: user.sm_share for user in use.users or ()}


def test_the_sensor_sees_users() -> None:
    assert isinstance(NvmlSensor(FakeClock()), SeesUsers)
    assert NvmlSensor(FakeClock()).users({"gpu0"}) == ()
    assert NvmlSensor(FakeClock()).cards() == ()


def test_processes_come_with_memory_and_share(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu proc=700001:1024:60:0:inf proc=700002:-1:20:0:inf draw=700003:8:0:0:inf;gpu")
    rig.advance(3)
    use = rig.look()
    assert use.users == (
        DeviceUser(pid=700001, sm_share=0.6, memory_bytes=1024 * MIB),
        DeviceUser(pid=700002, sm_share=0.2, memory_bytes=None),
        DeviceUser(pid=700003, sm_share=0.0, memory_bytes=8 * MIB),
    )
    assert use.busy_share == 0.8
    assert rig.look("gpu1").users == ()


def test_a_look_stands_for_the_time_since_the_one_before(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu proc=700001:1:100:0:2 proc=700001:1:40:2:6")
    first = rig.look()
    assert first.since_ns == first.t_ns == rig.clock.now_ns
    rig.advance(4)
    second = rig.look()
    assert (second.since_ns, second.t_ns) == (first.t_ns, first.t_ns + 4 * NS_PER_S)
    assert _shares(second) == {700001: 0.4}
    rig.advance(1)
    assert _shares(rig.look()) == {700001: 0.4}
    rig.advance(3)
    assert _pids(rig.look()) == []


def test_a_share_is_of_all_the_time_and_not_of_the_busy_part(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu proc=700001:1:80:2:2.5 proc=700001:1:0:2.5:9 proc=700002:1:20:0:9")
    rig.advance(3.99)
    shares = _shares(rig.look())
    assert shares[700002] == pytest.approx(0.2)
    assert shares[700001] == pytest.approx(0.8 * 2 / 8)


def test_entries_that_nothing_was_written_to_are_left_out(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu noise=70 proc=8:1:40:0:inf proc=700001:1:40:0:inf")
    rig.advance(3)
    assert _shares(rig.look()) == {8: 0.4, 700001: 0.4}


def test_an_idle_process_did_nothing_and_that_is_known(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu proc=700001:1:0:0:inf")
    rig.advance(3)
    use = rig.look()
    assert (_shares(use), use.busy_share) == ({700001: 0.0}, 0.0)
    assert "no sample" not in use.reason


def test_a_busy_card_without_samples_has_unknown_shares(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu proc=700001:1:50:0:inf")
    nvml_simulator.set_wall_offset_ns(0)  # the driver stamps its samples long before what is asked for
    rig.advance(3)
    use = rig.look()
    assert _shares(use) == {700001: None}
    assert "no sample of any process although the card is busy" in use.reason


def test_the_list_is_read_whole_however_long_it_is_and_whatever_it_grows_to(nvml_simulator: NvmlSimulator) -> None:
    many = " ".join(f"proc={700000 + i}:1:1:0:inf" for i in range(200))
    rig = Rig(nvml_simulator, f"gpu {many};gpu grows=2 proc=700001:1:0:0:inf;gpu grows=9 proc=700001:1:0:0:inf")
    rig.advance(3)
    use = rig.look()
    assert _pids(use) == list(range(700000, 700200))
    assert set(_shares(use).values()) == {0.01}
    assert _pids(rig.look("gpu1")) == [700001]
    never = rig.look("gpu2")
    assert never.users is None or _pids(never) == []
    assert "nvmlDeviceGetComputeRunningProcesses" in never.reason
    assert _pids(rig.look("gpu2")) == [700001]


@pytest.mark.parametrize("layout", [16, 24, 32])
@given(pids=st.lists(st.integers(700_000, 800_000), max_size=40, unique=True), memory=st.integers(-1, 1 << 20))
def test_the_layout_that_the_driver_really_writes_is_found(
    nvml_simulator_path: Path, layout: int, pids: list[int], memory: int
) -> None:
    simulator = NvmlSimulator(nvml_simulator_path)
    lines = " ".join(f"proc={pid}:{memory}:0:0:inf:3:1" for pid in pids)
    use = Rig(simulator, f"gpu layout={layout} {lines}").look()
    simulator.configure("")
    assert _pids(use) == pids
    assert {user.memory_bytes for user in use.users or ()} <= {None if memory < 0 else memory * MIB}
    assert {user.instance for user in use.users or ()} <= ({None} if layout == 16 else {"3/1"})


def test_an_old_driver_has_an_old_call(nvml_simulator: NvmlSimulator, tmp_path: Path) -> None:
    old = NvmlSimulator(build(tmp_path, omit=["nvmlDeviceGetComputeRunningProcesses_v3"]))
    rig = Rig(old, "gpu layout=16 proc=700001:5:0:0:inf")
    assert _pids(rig.look()) == [700001]


def test_a_driver_with_no_lists_says_so_and_is_not_asked_again(nvml_simulator: NvmlSimulator, tmp_path: Path) -> None:
    omit = ["nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses"]
    rig = Rig(NvmlSimulator(build(tmp_path, omit=omit)), "gpu")
    for _ in range(2):
        use = rig.look()
        assert use.users is None
        assert "nvmlDeviceGetComputeRunningProcesses: Function Not Found" in use.reason


@pytest.mark.parametrize(
    ("card", "users", "words"),
    [
        ("processes=0 graphics=0", None, "nvmlDeviceGetComputeRunningProcesses_v3: Not Supported"),
        ("processes=4 graphics=4", None, "Insufficient Permissions"),
        ("shares=0", [700001], "nvmlDeviceGetProcessUtilization: Not Supported"),
        ("shares=4", [700001], "nvmlDeviceGetProcessUtilization: Insufficient Permissions"),
        ("rates=0", [700001], "nvmlDeviceGetUtilizationRates: Not Supported"),
        ("graphics=0", [700001], ""),
        ("die_s=1", None, "GPU is lost"),
    ],
)
def test_what_the_driver_refuses_is_unknown_in_its_words(
    nvml_simulator: NvmlSimulator, card: str, users: list[int] | None, words: str
) -> None:
    rig = Rig(nvml_simulator, f"gpu {card} proc=700001:1:50:0:inf")
    rig.advance(3)
    for _ in range(2):
        use = rig.look()
        assert (None if use.users is None else _pids(use)) == users
        assert words in use.reason or (words.startswith("nvmlDeviceGetUtilizationRates") and use.busy_share is None)
        if "ProcessUtilization" in words:
            assert _shares(use) == {700001: None}


def test_a_process_without_a_number_is_unknown(nvml_simulator: NvmlSimulator) -> None:
    use = Rig(nvml_simulator, "gpu proc=0:1:50:0:inf").look()
    assert [user.is_unknown for user in use.users or ()] == [True]
    assert use.reason == "the driver gives processes without a number"


def test_a_card_in_instances_is_looked_at_by_instance(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(
        nvml_simulator,
        "gpu mig=1 slices=7 instance=1:0:3:MIG-aaaa instance=5:0:2:MIG-bbbb"
        " proc=700001:1:50:0:inf:1:0 proc=700002:1:50:0:inf:5:0 proc=700001:1:50:0:inf:5:0;gpu",
    )
    rig.advance(3)
    use = rig.look()
    assert [(one.name, one.uuid, one.slices) for one in use.instances] == [
        ("1/0", "MIG-aaaa", 3),
        ("5/0", "MIG-bbbb", 2),
    ]
    assert use.slices == 7
    assert [(user.pid, user.instance, user.sm_share) for user in use.users or ()] == [
        (700001, "1/0", None),
        (700002, "5/0", None),
        (700001, "5/0", None),
    ]
    assert (use.busy_share, "MIG mode: the driver tells no utilisation" in use.reason) == (None, True)
    first, second = rig.sensor.cards()
    assert (first.part, first.instances, second.instances) == ("gpu0", ("MIG-aaaa", "MIG-bbbb"), ())


def test_instances_are_looked_for_again(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu uuid=GPU-a")
    assert rig.look().instances == ()
    now_ns = rig.clock.now_ns
    nvml_simulator.configure("gpu uuid=GPU-a mig=1 slices=4 instance=1:0:4:MIG-c", now_ns=now_ns)
    rig.sensor.close()
    rig.sensor.open()
    rig.advance(31)
    assert [one.slices for one in rig.look().instances] == [4]


def test_cards_are_listed_even_where_they_cannot_be_read(nvml_simulator: NvmlSimulator) -> None:
    rig = Rig(nvml_simulator, "gpu name=H100 uuid=GPU-a;gpu handle_error=15;gpu counter=0 power=0 instant=0 average=0")
    assert [(card.part, card.uuid, card.model) for card in rig.sensor.cards()] == [
        ("gpu0", "GPU-a", "H100"),
        ("gpu1", "", ""),
        ("gpu2", "GPU-00000000-0000-0000-0000-000000000002", "Simulated-GPU"),
    ]


def test_a_child_of_a_child_descends_from_the_program(nvml_simulator: NvmlSimulator, start: Start) -> None:
    child = start(
        "import subprocess, sys\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(inner.pid, flush=True)"
    )
    assert child.stdout is not None
    inner = int(child.stdout.readline())
    use = Rig(nvml_simulator, f"gpu proc={inner}:1:50:0:inf proc={os.getpid()}:1:0:0:inf proc=1:1:1:0:inf").look()
    try:
        deep, own, first = use.users or ()
        me = Processes(namespace=HOST).chain(os.getpid())
        assert [process.pid for process in deep.chain[:3]] == [inner, child.pid, os.getpid()]
        assert deep.chain[2:] == own.chain == me
        assert (own.same_user, deep.same_user) == (True, True)
        assert first.chain[0].pid == 1
        assert own.chain[0] not in first.chain
    finally:
        os.kill(inner, 9)


def test_a_process_that_lost_its_parent_keeps_its_chain(start: Start) -> None:
    processes = Processes(namespace=HOST)
    child = start(
        "import subprocess, sys\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], stdout=subprocess.DEVNULL)\n"
        "print(inner.pid, flush=True)"
    )
    assert child.stdout is not None
    inner = int(child.stdout.readline())
    try:
        before = processes.chain(inner)
        child.kill()
        child.wait()
        assert processes.chain(inner) == before
        assert child.pid in [process.pid for process in before]
        processes.keep_only(set())
        assert child.pid not in [process.pid for process in processes.chain(inner)]
    finally:
        os.kill(inner, 9)


def test_a_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    def write(pid: int, parent: int, started: int, name: str = "a (b) c") -> None:
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        fields = " ".join(["0"] * 17)
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} {fields} {started} 0\n")

    processes = Processes(root=str(tmp_path), namespace=HOST)
    write(1, 0, 1)
    write(50, 1, 7)
    write(60, 50, 9)
    assert processes.chain(60) == (ProcessId(60, 9), ProcessId(50, 7), ProcessId(1, 1))
    write(60, 1, 12)
    assert processes.chain(60) == (ProcessId(60, 12), ProcessId(1, 1))
    (tmp_path / "60" / "stat").write_text("nonsense")
    assert processes.chain(60) == ()
    write(70, 71, 3)
    assert processes.chain(70) == (ProcessId(70, 3),)
    write(80, 80, 4)
    assert 2 <= len(processes.chain(80)) <= 64


def test_in_a_container_a_number_is_believed_only_with_the_device_open(tmp_path: Path, start: Start) -> None:
    device = tmp_path / "nvidia0"
    device.write_text("")
    holder, other = start(f"file = open({str(device)!r})\nprint('open', flush=True)"), start("print(1, flush=True)")
    for process in (holder, other):
        assert process.stdout is not None
        process.stdout.readline()
    inside = Processes(namespace="pid:[4026532000]", device_prefix=str(tmp_path / "nvidia"))
    assert [process.pid for process in inside.chain(holder.pid)[:2]] == [holder.pid, os.getpid()]
    assert inside.chain(other.pid) == ()
    assert (inside.is_host, Processes(namespace=HOST).is_host) == (False, True)


def test_a_number_that_proc_hides_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    mounts = tmp_path / "self" / "mountinfo"
    mounts.write_text(f"22 27 0:21 / {tmp_path} rw,relatime - proc proc rw,hidepid=invisible\n")
    hidden = Processes(root=str(tmp_path), namespace=HOST)
    assert hidden.is_same_user(4711) is False
    assert not DeviceUser(pid=4711, same_user=hidden.is_same_user(4711)).is_unknown
    mounts.write_text(f"22 27 0:21 / {tmp_path} rw,relatime - proc proc rw,hidepid=0\n")
    assert Processes(root=str(tmp_path), namespace=HOST).is_same_user(4711) is None
    assert Processes(root=str(tmp_path / "none"), namespace=HOST).is_same_user(4711) is None
    assert not Processes(root=str(tmp_path / "none")).is_host
