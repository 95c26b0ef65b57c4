"""From runs to an account: devices, bytes, scenarios, counts, places; and the command that prints it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lifecycle_studies import study
from run_dirs import quick_run
from run_records import energy, quickstart, run_record, stage
from stillwatt.cli.main import cli
from stillwatt.config.account_options import GivenDevice, parse_device, parse_pretraining, parse_range, parse_serving
from stillwatt.errors import ConfigError, StillwattError, UnknownNameError
from stillwatt.factors.catalog import build_catalog
from stillwatt.factors.devices import device_code
from stillwatt.factors.making import make_factor
from stillwatt.factors.parametric import making_of
from stillwatt.impact.inputs import Inputs
from stillwatt.impact.whole import assess
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import Absent, Total
from stillwatt.records.factor import Choice, NoFactor
from stillwatt.records.impact import LifeStage
from stillwatt.records.lifecycle import Role, TimeShare
from stillwatt.records.run import RunRecord
from stillwatt.records.window import StageKind
from stillwatt.workflows.account import Wanted, first_difference, place_of
from stillwatt.workflows.account_hardware import (
    accelerators,
    check_known,
    folder_bytes,
    hardware_of,
    held_s,
    hold,
    storage_of,
)
from stillwatt.workflows.factors import open_catalog

CATALOG = build_catalog()


def counted(found: Inputs) -> dict[str, float | str]:
    return {count.unit: count.count or count.reason for count in found.counts}


def test_the_quick_start_s_counts() -> None:
    found = counted(study())
    assert found["run"] == 1.0
    assert found["student"] == 3.0
    assert found["token"] == 6 * 16384
    assert "not every stage says" in str(found["accepted sample"])
    assert "name one with --student" in str(found["point of quality"])
    assert found["1,000 requests"] == "no serving scenario is given"
    kept = counted(study(student="kd"))
    assert kept["student"] == 1.0
    assert kept["token"] == 2 * 16384
    assert 50.0 < float(kept["point of quality"]) < 100.0


def test_a_run_without_students_divides_by_none() -> None:
    found = counted(study(run_record([stage("a", "work", StageKind.OTHER, joules=9.0)])))
    assert found["student"] == found["token"] == "no student was trained"
    assert found["accepted sample"] == "the teacher wrote no text"
    assert found["point of quality"] == "no student was evaluated"


def test_pretraining_is_a_share_of_what_was_given() -> None:
    found = study(pretraining=parse_pretraining("1MWh,use:100,facility"))
    (use,) = [use for use in found.uses if use.stage is LifeStage.TRAINING]
    assert isinstance(use.energy, Total)
    assert use.energy.value_j == pytest.approx(10 * 3.6e6)
    assert (use.energy.basis, use.energy.boundary) == (Basis.ASSUMED, Boundary.FACILITY)
    assert any(lack.stage is LifeStage.TRAINING for lack in study().lacks)


def with_tokens(run: RunRecord) -> RunRecord:
    stages = tuple(
        replace(one, workload={**one.workload, "generated_tokens": 2048.0}) if one.kind is StageKind.SERVE else one
        for one in run.stages
    )
    return replace(run, stages=stages)


def test_a_scenario_by_the_ledgers_own_serving_stage_of_the_student() -> None:
    found = study(with_tokens(quickstart()), serving=parse_serving("1e6,10"), request_tokens=400.0)
    (use,) = [use for use in found.uses if use.run == "serving scenario"]
    assert isinstance(use.energy, Total)
    assert use.energy.value_j == pytest.approx(610.0 / 2048.0 * 1e7)
    assert use.energy.basis is Basis.MODELLED
    assert counted(found)["1,000 requests"] == pytest.approx(1e7 / 400.0 / 1000.0)
    named = study(
        with_tokens(quickstart()),
        serving=parse_serving("1e6,10"),
        devices=(GivenDevice(role=Role.ACCELERATOR, name="card", count=2.0),),
    )
    all_held = {held.role: held for held in named.held if held.run == "serving scenario"}
    held = all_held[Role.ACCELERATOR]
    assert held.time_s == pytest.approx(1e7 * 20.0 / 2048.0)
    assert held.count == 2.0


def test_a_scenario_that_is_given_or_modelled() -> None:
    given = study(serving=parse_serving("1e6,10,0.4J,node"))
    (use,) = [use for use in given.uses if use.run == "serving scenario"]
    assert isinstance(use.energy, Total)
    assert use.energy.value_j == pytest.approx(4e6)
    assert any("devices that it holds are not known" in lack.reason for lack in given.lacks)
    with pytest.raises(StillwattError, match="ecologits:BILLIONS"):
        study(run_record([]), serving=parse_serving("1e6,10"))


def test_a_modelled_scenario_has_a_range() -> None:
    pytest.importorskip("ecologits")
    found = study(serving=parse_serving("1e6,10,ecologits:8"))
    (use,) = [use for use in found.uses if use.run == "serving scenario"]
    assert isinstance(use.energy, Total)
    assert use.energy.low_j < use.energy.value_j < use.energy.high_j
    assert use.energy.basis is Basis.MODELLED


def with_card(name: str = "NVIDIA H100 80GB HBM3", count: int = 1, **environment: Any) -> RunRecord:
    parts = [energy(900.0, f"gpu{n}", device=name, boundary=Boundary.BOARD) for n in range(count)]
    made = run_record([stage("a", "train", StageKind.STUDENT_TRAIN, energies=parts)])
    return replace(made, environment=environment)


def test_boards_are_counted_by_the_name_of_their_driver() -> None:
    assert accelerators(with_card(count=4)) == {"NVIDIA H100 80GB HBM3": 4}
    assert accelerators(with_card("gpu", gpu_model="NVIDIA L4", gpu_count=2)) == {"NVIDIA L4": 2}
    (card, *_) = hardware_of([with_card(count=4)], CATALOG).held
    assert (card.device, card.count, card.role) == ("h100-sxm", 4.0, Role.ACCELERATOR)
    assert isinstance(card.found["embodied_gwp"], Choice)


def test_a_host_is_an_eighth_of_a_server_a_card_or_its_processor_or_unknown() -> None:
    server = make_factor(
        {
            "quantity": "embodied_gwp",
            "where": "server-without-gpus",
            "unit": "kgCO2e/device",
            "value": 5700.0,
            "boundary": "embodied, parametric",
        }
    )
    known = build_catalog(shipped=[server])
    host = next(one for one in hardware_of([with_card(count=2)], known).held if one.role is Role.HOST)
    assert host.count == pytest.approx(0.25)
    assert "not named" in host.cautions[0]
    making = host.found["embodied_gwp"]
    assert isinstance(making, Choice)
    assert (making.factor.low, making.factor.high) == pytest.approx((1900.0, 17100.0))
    named = hardware_of([with_card("NVIDIA L4", cpu_model="Intel(R) Xeon(R) Gold 6430")], CATALOG)
    host = next(one for one in named.held if one.role is Role.HOST)
    parts = host.found["embodied_gwp"]
    assert isinstance(parts, Choice)
    assert parts.factor.low < parts.factor.value < parts.factor.high
    unknown = host.found["embodied_adpe"]
    assert isinstance(unknown, NoFactor)
    assert "--factor 'embodied_adpe@" in unknown.reason
    nothing = hardware_of([with_card("NVIDIA L4")], CATALOG)
    assert any("host of" in lack.reason for lack in nothing.lacks)


def test_what_the_user_names_stands_in_for_what_the_ledger_says() -> None:
    given = [GivenDevice(role=Role.ACCELERATOR, name="L4", count=3.0)]
    found = hardware_of([with_card()], CATALOG, given=given)
    assert [(one.device, one.count) for one in found.held if one.role is Role.ACCELERATOR] == [("l4", 3.0)]


def test_a_board_that_could_not_be_read_is_lacking() -> None:
    absent = Absent(part="gpu0", boundary=Boundary.BOARD, reason="no driver")
    run = run_record([stage("a", "work", StageKind.OTHER, energies=[absent])])
    assert any("accelerators of" in lack.reason for lack in hardware_of([run], CATALOG).lacks)
    assert not any("accelerators of" in lack.reason for lack in hardware_of([quickstart()], CATALOG).lacks)


def test_a_figure_that_holds_use_is_refused() -> None:
    found = making_of(CATALOG, "embodied_gwp", "dell-r750")
    assert isinstance(found, NoFactor)
    assert "use would count twice" in found.reason


def test_the_time_of_ranks_side_by_side_counts_once() -> None:
    start = "2026-03-01T10:00:00.000Z"
    stages = [
        replace(stage(f"s{n}", "train", StageKind.STUDENT_TRAIN, joules=9.0, duration_s=100.0), start_utc=start)
        for n in range(8)
    ]
    run = replace(run_record(stages), duration_s=800.0, meter={"sessions": 8.0})
    assert held_s(run, TimeShare.CALENDAR) == pytest.approx(100.0)
    assert held_s(run, TimeShare.BUSY) == pytest.approx(100.0)
    idle = run_record([stage("i", "idle", StageKind.IDLE_BASELINE, joules=1.0, duration_s=7.0), *stages[:1]])
    assert held_s(idle, TimeShare.BUSY) == pytest.approx(100.0)
    assert held_s(idle, TimeShare.CALENDAR) == idle.duration_s


def test_bytes_that_are_there_and_those_that_are_not(tmp_path: Path) -> None:
    run = quickstart()
    gone = storage_of([run], tmp_path, CATALOG, days=10.0)
    assert [(one.what, one.size_bytes) for one in gone.kept] == [("the logit cache", 13_400_000.0)]
    assert len(gone.lacks) == 2
    checkpoints = tmp_path / run.run_id / "state" / "checkpoints" / "kd"
    checkpoints.mkdir(parents=True)
    (checkpoints / "model").write_bytes(b"x" * 1000)
    found = storage_of([run], tmp_path, CATALOG, days=10.0, drive="hdd", given=[("corpus", 2.0)])
    sizes = {one.what: (one.size_bytes, one.technology) for one in found.kept}
    assert sizes["checkpoints"] == (1000.0, "HDD average")
    assert sizes["corpus"][0] == pytest.approx(2e9)
    assert folder_bytes(tmp_path / "nowhere") is None


def test_lifetimes_given_known_by_provider_or_assumed() -> None:
    given = study(lifetime=parse_range("3..5", ("",), "--lifetime")[0]).shared["lifetime"]
    assert isinstance(given, Choice)
    assert (given.factor.low, given.factor.value, given.factor.high) == (3.0, 4.0, 5.0)


def test_places() -> None:
    assert place_of(Wanted(region="France")).code == "FRA"
    assert place_of(Wanted(cloud_region="aws/us-east-1")).provider == "aws"
    assert place_of(Wanted(region="FRA", provider="google")).provider == "gcp"
    with pytest.raises(ConfigError, match="no place is named"):
        place_of(Wanted())
    with pytest.raises(UnknownNameError, match="unknown place"):
        place_of(Wanted(region="Atlantis"))
    with pytest.raises(ConfigError, match="not a provider"):
        place_of(Wanted(region="FRA", provider="DEU"))
    with pytest.raises(ConfigError, match="is run by aws"):
        place_of(Wanted(cloud_region="aws/us-east-1", provider="gcp"))


def test_an_arm_that_is_none() -> None:
    with pytest.raises(UnknownNameError, match="--student"):
        study(student="dk")


def test_where_two_reports_differ() -> None:
    assert first_difference({"a": 1}, {"a": 1, "b": 2}) == "$.b"
    assert first_difference([1], [1, 2]) == "$[1]"
    assert first_difference(1, 1.0) == "$"
    assert first_difference({"a": [{}]}, {"a": [{}]}) == ""


def test_the_account_of_a_quick_start_holds_every_stage() -> None:
    found = assess(study(student="kd"))
    assert {cell.stage for cell in found.cells} == set(LifeStage)
    assert 0.0 < found.coverage.score < found.coverage.counted < 1.0


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with one run."""
    folder = tmp_path / "runs"
    quick_run(folder)
    return folder


def test_account_prints_writes_validates_and_is_computed_anew(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    arguments = ("account", "latest", "--runs", str(runs), "--region", "FRA", "--draws", "200")
    shown = ask(*arguments, "-o", str(out))
    assert shown.exit_code == 0, shown.output
    assert "coverage of the whole account" in shown.stdout
    as_json = ask(*arguments, "--json")
    assert as_json.stdout == out.read_text(encoding="utf-8")
    data = json.loads(as_json.stdout)
    assert {"cells", "coverage", "factors"} <= set(data)
    assert len(data["cells"]) == 80
    assert all((cell["value"] is None) == (cell["status"][:4] == "not_") for cell in data["cells"])
    checked = ask("validate", str(out))
    assert checked.exit_code == 0
    lines = checked.stdout.splitlines()
    assert lines[:3] == [
        f"{out}: no fault",
        "protocol 1.1: level 1 (stated) is reached",
        "before level 2 (comparable):",
    ]
    assert any("hardware-carbon" in line for line in lines[3:])
    again = ask("account", "--recompute", str(out))
    assert again.exit_code == 0
    assert again.stdout == as_json.stdout
    copy = tmp_path / "again.json"
    assert ask("account", "--recompute", str(out), "-o", str(copy)).exit_code == 0
    assert copy.read_bytes() == out.read_bytes()


def test_a_report_that_was_changed_is_found_out(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    ask("account", "latest", "--runs", str(runs), "--region", "FRA", "--draws", "200", "-o", str(out))
    data = json.loads(out.read_text(encoding="utf-8"))
    number = next(n for n, cell in enumerate(data["cells"]) if cell["value"])
    data["cells"][number]["value"] /= 2.0
    data["cells"][number]["low"] = 0.0
    out.write_text(json.dumps(data), encoding="utf-8")
    again = ask("account", "--recompute", str(out))
    assert again.exit_code == 1
    assert f"first at $.cells[{number}].value" in again.stderr
    faults = json.loads(ask("validate", str(out), "--json").stdout)
    assert not faults["valid"]
    assert any(fault["rule"] == "total-sum" for fault in faults["faults"])
    assert faults["conformance"]["level"] == 0
    assert any(gap["rule"] == "total-sum" for gap in faults["conformance"]["before_next"])
    assert ask("validate", str(out)).exit_code == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "not JSON"), ("[]", "not a JSON object"), ('{"schema": "x"}', "does not hold"), (b"\xff", "not UTF-8")],
)
def test_what_is_no_report_is_refused(text: str | bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = ask("account", "--recompute", str(file))
    assert found.exit_code == 1
    assert says in found.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--region", "Atlantis"), 2, "unknown place"),
        ((), 2, "no place is named"),
        (("--region", "FRA", "--factor", "pue@FRA=0.5"), 2, "takes at least what its machines take"),
        (("--region", "FRA", "--factor", "grid_gwp_location@FRA=-0.1kgCO2e/kWh"), 2, "below 0"),
        (("--region", "FRA", "--factor", "grid_gwp_location@FRA=56L/kWh"), 2, "is no unit"),
        (("--region", "FRA", "--lifetime", "-3"), 2, "--lifetime"),
        (("--region", "FRA", "--keep-days", "0"), 2, "--keep-days"),
        (("--region", "FRA", "--factors", "YEARLESS"), 2, "year"),
        (("--region", "FRA", "--device", "H1000"), 2, "--device: unknown device 'H1000'; did you mean 'H100'?; or say"),
        (("--region", "FRA", "--device", "host:our-server*0.5"), 2, "--factor 'embodied_gwp@our-server="),
    ],
)
def test_bad_input_is_refused(arguments: tuple[str, ...], status: int, says: str, runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("quantity,where,value,unit,source\npue,FRA,1.2,1,me\n", encoding="utf-8")
    given = [str(file) if one == "YEARLESS" else one for one in arguments]
    found = ask("account", "latest", "--runs", str(runs), *given)
    assert found.exit_code == status, found.output
    assert says in found.stderr
    assert ask("account").exit_code == 2


def test_every_device_that_is_listed_can_be_named() -> None:
    catalog = open_catalog()
    listed = {factor.where for factor in catalog.factors if factor.quantity == "embodied_gwp"}
    assert {"dell-r640", "server-2-socket", "h100-with-server-share"} <= listed
    given = [parse_device(f"host:{name}*0.5") for name in sorted(listed)]
    check_known(given, catalog)
    for one in given:
        held = hold("r", one.role, one.name, device_code(one.name), one.count, 1.0, catalog)
        assert held.device in listed
        found = held.found["embodied_gwp"]
        assert isinstance(found, Choice) or "none for this device" not in found.reason, one.name


def test_an_unknown_energy_makes_the_account_incomplete(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    run = quick_run(folder)
    for path in (run.path / "samples").iterdir():
        path.unlink()
    found = ask("account", "latest", "--runs", str(folder), "--region", "FRA", "--draws", "200")
    assert found.exit_code == 3, found.output
    assert "not whole" in found.stdout or "no stage is counted" in found.stdout


@pytest.mark.parametrize(("name", "is_named"), [("train", True), ("python", False), ("bash", False)])
def test_other_runs_of_the_name_are_lacking_unless_the_name_is_an_interpreters(
    name: str, is_named: bool, tmp_path: Path
) -> None:
    for number in (1, 2):
        quick_run(tmp_path, number=number, name=name)
    found = ask("account", "latest", "--runs", str(tmp_path), "--region", "FRA", "--draws", "200")
    assert ("runs of the same name" in found.stdout) is is_named


@pytest.mark.parametrize(
    "arguments",
    [
        ("--device", "nvidia h100 80gb HBM3"),
        ("--device", "host:our-server*0.5", "--factor", "embodied_gwp@our-server=2500kgCO2e/device"),
        ("--device", "host:dell-r640"),
        ("--device", "my card", "--factor", "embodied_gwp@my card=150kgCO2e/device"),
    ],
)
def test_a_device_that_the_tables_or_the_user_know_is_taken(arguments: tuple[str, ...], runs: Path) -> None:
    found = ask("account", "latest", "--runs", str(runs), "--region", "FRA", "--draws", "200", *arguments)
    assert found.exit_code == 0, found.output
