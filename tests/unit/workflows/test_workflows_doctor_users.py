"""What the doctor says of who is on the cards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fake_devices import FakeAmd, write_tree
from fakes import FakeClock, FakeSensor
from nvml_simulator_build import NvmlSimulator, nvml_simulator, nvml_simulator_path
from stillwatt.clock import SystemClock
from stillwatt.sensors.amd import AmdSensor
from stillwatt.sensors.intel_gpu import IntelGpuSensor
from stillwatt.sensors.nvml import NvmlSensor
from stillwatt.sensors.processes import Processes
from stillwatt.workflows.doctor import DoctorFinding, Health, examine
from stillwatt.workflows.doctor_users import user_findings

__all__ = ["nvml_simulator", "nvml_simulator_path"]
HOST = Processes(namespace="pid:[4026531836]")


def _findings(simulator: NvmlSimulator, text: str, **environment: str) -> dict[str, DoctorFinding]:
    simulator.configure(text)
    found = user_findings([NvmlSensor(SystemClock(), library=simulator.path)], environment, HOST)
    return {finding.subject: finding for finding in found}


def test_a_card_of_ones_own_is_well(nvml_simulator: NvmlSimulator) -> None:
    found = _findings(nvml_simulator, f"gpu proc={os.getpid()}:100:90:-9:inf;gpu")
    assert {(one.status, one.detail, one.cure) for one in found.values()} == {(Health.OK, "no other process on it", "")}
    assert list(found) == ["gpu0 users", "gpu1 users"]


def test_others_on_a_card_are_told_with_what_they_do(nvml_simulator: NvmlSimulator) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as other:
        found = _findings(nvml_simulator, f"gpu proc={other.pid}:2048:60:-9:inf")["gpu0 users"]
        quiet = _findings(nvml_simulator, f"gpu draw={other.pid}:-1:0:-9:inf")["gpu0 users"]
        other.kill()
    assert found.status is Health.DEGRADED
    assert found.detail == f"1 process on it: {other.pid} (yours, 60 % of the multiprocessors, 2.0 GiB)"
    assert "cannot be taken out" in found.cure
    assert (quiet.status, quiet.detail) == (
        Health.OK,
        f"1 process on it: {other.pid} (yours, 0 % of the multiprocessors)",
    )


@pytest.mark.parametrize(
    ("card", "words", "cure"),
    [
        (
            "processes=0 graphics=0",
            "who is on it cannot be seen (nvmlDeviceGetComputeRunningProcesses_v3",
            "newer driver",
        ),
        ("unlisted=40", "no process is listed although it is busy for 40 % of the time", "--pid=host"),
        ("proc=0:1:50:-9:inf proc=0:1:0:-9:inf:1:0", "2 processes on it that cannot be told", "--pid=host"),
    ],
)
def test_what_cannot_be_seen_is_said_with_its_cure(
    nvml_simulator: NvmlSimulator, card: str, words: str, cure: str
) -> None:
    found = _findings(nvml_simulator, f"gpu {card}")["gpu0 users"]
    assert found.status is Health.DEGRADED
    assert found.detail.startswith(words)
    assert cure in found.cure


def test_a_process_that_has_just_ended_is_no_namespace(nvml_simulator: NvmlSimulator) -> None:
    found = _findings(nvml_simulator, "gpu proc=99999999:1:0:-9:inf")["gpu0 users"]
    assert (found.status, found.detail[:35]) == (Health.DEGRADED, "1 process on it that cannot be told")


def test_instances_are_told_with_their_slices(nvml_simulator: NvmlSimulator) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as other:
        card = f"gpu mig=1 slices=7 instance=1:0:3:MIG-a instance=2:0:2:MIG-b proc={other.pid}:1024:0:-9:inf:2:0"
        found = _findings(nvml_simulator, card)["gpu0 users"]
        other.kill()
    assert found.detail == (
        "MIG mode, 2 instances: 1/0 (3 of 7 slices), 2/0 (2 of 7 slices); power is that of the whole card; "
        f"1 process on it: {other.pid} (yours, instance 2/0, 1.0 GiB)"
    )


def test_the_choice_of_cards_is_told_where_one_was_made(nvml_simulator: NvmlSimulator) -> None:
    assert "cards to use" not in _findings(nvml_simulator, "gpu;gpu")
    chosen = _findings(nvml_simulator, "gpu;gpu", CUDA_VISIBLE_DEVICES="1")["cards to use"]
    assert chosen.status is Health.OK
    assert chosen.detail == (
        "CUDA_VISIBLE_DEVICES='1': a program started here uses gpu1 of 2; the others are reported beside its energy"
    )
    none = _findings(nvml_simulator, "gpu;gpu", CUDA_VISIBLE_DEVICES="")["cards to use"]
    assert "uses none of 2" in none.detail
    unclear = _findings(nvml_simulator, "gpu name=a;gpu name=b", CUDA_VISIBLE_DEVICES="0")["cards to use"]
    assert (unclear.status, "by UUID" in unclear.cure) == (Health.DEGRADED, True)


def test_a_choice_of_amds_cards_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", FakeAmd(lambda: 0.0, hip=((1, ""), (0, ""))).module())
    clock = FakeClock()

    def chosen(**environment: str) -> DoctorFinding:
        found = user_findings([AmdSensor(clock, sleep=clock.advance)], environment)
        return next(finding for finding in found if finding.subject == "cards to use")

    told = chosen(HIP_VISIBLE_DEVICES="0")
    assert told.detail.startswith("HIP_VISIBLE_DEVICES='0': a program started here uses gpu_amd1 of 2;")
    monkeypatch.setitem(sys.modules, "amdsmi", FakeAmd(lambda: 0.0).module())
    unclear = chosen(ROCR_VISIBLE_DEVICES="0")
    assert (unclear.status, "ROCm 6.4" in unclear.cure) == (Health.DEGRADED, True)


def test_sensors_that_see_nobody_or_are_gone_by_now_say_nothing() -> None:
    clock = FakeClock()
    assert user_findings([FakeSensor(clock), NvmlSensor(clock, library="/nowhere/lib.so")], {}) == []
    assert not [finding for finding in examine(["synthetic"]) if finding.subject.endswith("users")]


def test_a_mask_of_intels_cards_is_not_followed_and_said(tmp_path: Path) -> None:
    for number in (1, 2):
        write_tree(tmp_path, {f"hwmon{number}/name": "xe", f"hwmon{number}/energy1_input": 7})
    both = IntelGpuSensor(FakeClock(), root=tmp_path)
    assert user_findings([both], {}) == []
    (found,) = user_findings([both], {"ZE_AFFINITY_MASK": "0.1"})
    assert found.status is Health.DEGRADED
    assert found.detail.endswith("is billed for all of gpu_intel0 and gpu_intel1")
    assert "devices" in found.cure
    assert user_findings([IntelGpuSensor(FakeClock(), root=tmp_path, devices=[1])], {"ZE_AFFINITY_MASK": "1"}) == []
