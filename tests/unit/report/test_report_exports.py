"""Each export against its format's own library or schema, read back, and with what it lost."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from jsonschema import Draft4Validator
from prov.model import ProvDocument
from referencing import Registry, Resource
from spdx_python_model import v3_0_1 as spdx

from export_reports import DETAILS, FULL, poor, rich
from stillwatt.errors import ReportError
from stillwatt.records.export import Details, Exported
from stillwatt.records.impact import Impact, LifeStage
from stillwatt.report.exports.boamps import to_boamps
from stillwatt.report.exports.cyclonedx import VERSIONS, read_cells, to_cyclonedx
from stillwatt.report.exports.eu_gpai import mapping, significant, to_eu_gpai
from stillwatt.report.exports.huggingface import BEGIN, END, to_card, with_section
from stillwatt.report.exports.losses import TOPICS, losses_of
from stillwatt.report.exports.otel import to_opentelemetry
from stillwatt.report.exports.reading import Reading
from stillwatt.report.exports.rocrate import METADATA, PROVENANCE, REPORT, to_rocrate
from stillwatt.report.exports.sci import to_sci
from stillwatt.report.exports.spdx import to_spdx

BOAMPS = Path(__file__).parents[2] / "data" / "boamps"
ALL = (to_cyclonedx, to_spdx, to_boamps, to_sci, to_eu_gpai, to_rocrate, to_opentelemetry)


def value(report: dict[str, Any], stage: LifeStage, impact: Impact) -> float:
    found = Reading(report, DETAILS).value(stage, impact)
    assert found is not None
    return found


def paths(made: Exported) -> set[str]:
    return {loss.path for loss in made.losses}


class TestCycloneDX:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("report", [rich(), poor()], ids=["rich", "poor"])
    @pytest.mark.parametrize("details", [DETAILS, FULL, Details()], ids=["some", "all", "none"])
    def test_is_valid(self, version: str, report: dict[str, Any], details: Details) -> None:
        made = to_cyclonedx(report, details, version=version)
        assert JsonStrictValidator(SchemaVersion.from_version(version)).validate_str(made.text) is None

    def test_energy_and_carbon_by_activity(self) -> None:
        report = rich()
        document = json.loads(to_cyclonedx(report, FULL).text)
        model = document["components"][0]
        assert model["hashes"] == [{"alg": "SHA-256", "content": FULL.model_hash}]
        entries = model["modelCard"]["considerations"]["environmentalConsiderations"]["energyConsumptions"]
        by_activity = {entry["activity"]: entry for entry in entries}
        assert set(by_activity) == {"data-preparation", "validation", "training", "fine-tuning", "inference"}
        training = by_activity["training"]
        assert training["activityEnergyCost"]["value"] == value(report, LifeStage.TRAINING, Impact.ENERGY_FACILITY)
        tonnes = training["co2CostEquivalent"]["value"]
        assert tonnes == pytest.approx(value(report, LifeStage.TRAINING, Impact.GWP_LOCATION) / 1000)
        assert "co2CostOffset" not in training

    def test_cells_can_be_read_back(self) -> None:
        for report in (rich(), poor()):
            assert read_cells(to_cyclonedx(report, DETAILS).text) == report["cells"]

    def test_what_is_not_counted_has_no_entry(self) -> None:
        document = json.loads(to_cyclonedx(poor(), DETAILS).text)
        environment = document["components"][0]["modelCard"]["considerations"]["environmentalConsiderations"]
        assert "energyConsumptions" not in environment


class TestSpdx:
    @pytest.mark.parametrize("details", [DETAILS, FULL, Details()], ids=["some", "all", "none"])
    def test_can_be_read_back(self, details: Details) -> None:
        report = rich()
        objects = spdx.SHACLObjectSet()
        spdx.JSONLDDeserializer().deserialize_data(json.loads(to_spdx(report, details).text), objects)
        (package,) = objects.foreach_type(spdx.ai_AIPackage)
        used: Any = package.ai_energyConsumption
        for stage, found in (
            (LifeStage.TRAINING, used.ai_trainingEnergyConsumption),
            (LifeStage.POST_TRAINING, used.ai_finetuningEnergyConsumption),
            (LifeStage.DEPLOYMENT, used.ai_inferenceEnergyConsumption),
        ):
            one: Any = found[0]
            assert len(found) == 1
            assert one.ai_energyQuantity == value(report, stage, Impact.ENERGY_FACILITY)
            assert one.ai_energyUnit.endswith("kilowattHour")

    def test_what_has_no_place_is_listed(self) -> None:
        made = to_spdx(rich(), DETAILS)
        assert "$.cells[?stage=data&impact=energy_metered]" in paths(made)
        assert any("suppliedBy" in loss.what for loss in made.losses)
        assert not any("suppliedBy" in loss.what for loss in to_spdx(rich(), FULL).losses)

    def test_an_unknown_energy_is_left_out(self) -> None:
        document = json.loads(to_spdx(poor(), DETAILS).text)
        assert not any("ai_energyConsumption" in one for one in document["@graph"])


class TestBoAmps:
    @pytest.fixture
    def validator(self) -> Draft4Validator:
        schemas = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in BOAMPS.glob("*.json")}
        resources = [(one["id"], Resource.from_contents(one)) for one in schemas.values()]
        registry: Any = Registry().with_resources(resources)
        return Draft4Validator(schemas["report_schema.json"], registry=registry)

    @pytest.mark.parametrize("details", [DETAILS, FULL, Details()], ids=["some", "all", "none"])
    def test_keeps_its_schema(self, validator: Draft4Validator, details: Details) -> None:
        assert list(validator.iter_errors(json.loads(to_boamps(rich(), details).text))) == []

    def test_the_schema_would_have_complained(self, validator: Draft4Validator) -> None:
        document = json.loads(to_boamps(rich(), DETAILS).text)
        document["measures"][0]["powerConsumption"] = "much"
        del document["infrastructure"]["infraType"]
        assert len(list(validator.iter_errors(document))) == 2

    def test_fields(self) -> None:
        report = rich()
        document = json.loads(to_boamps(report, FULL).text)
        total = {one["impact"]: one["value"] for one in report["totals"]}["energy_metered"]
        assert document["measures"][0]["powerConsumption"] == total
        assert document["task"]["taskStage"] == "datacreation+training+finetuning+inference"
        assert document["task"]["algorithms"][0]["parametersNumber"] == 0.135
        assert document["infrastructure"]["infraType"] == "onPremise"
        assert document["quality"] in ("high", "medium", "low")

    def test_without_an_energy_there_is_no_report(self) -> None:
        with pytest.raises(ReportError, match="must have an energy"):
            to_boamps(poor(), DETAILS)


class TestSci:
    def test_the_formula(self) -> None:
        """(E × I + M) / R, cell by cell, location-based."""
        report = rich()
        document = json.loads(to_sci(report, FULL).text)
        run = {score["unit"]: score for score in document["sci"]["scores"]}["run"]
        used = [stage for stage in LifeStage if stage.value in run["stages"]]
        expected = math.fsum(value(report, stage, Impact.GWP_LOCATION) for stage in used)
        made = math.fsum(
            value(report, stage, Impact.GWP_LOCATION) for stage in (LifeStage.HARDWARE, LifeStage.INFRASTRUCTURE)
        )
        assert run["E_kwh"] * run["I_g_per_kwh"] == pytest.approx(run["E_times_I_g"])
        assert run["sci_g_per_unit"] == pytest.approx((expected + made) * 1000 / 2)

    def test_market_based_figures_change_nothing(self) -> None:
        report = rich()
        before = json.loads(to_sci(report, FULL).text)
        for cell in report["cells"]:
            if cell["impact"] == "gwp_market" and cell["value"] is not None:
                cell["value"] = 1e9
        after = json.loads(to_sci(report, FULL).text)
        for one in (before, after):
            del one["of"]
        assert before == after

    def test_scores_for_ai(self) -> None:
        document = json.loads(to_sci(rich(), FULL).text)["sci_ai"]
        provider = {score["unit"]: score["sci_g_per_unit"] for score in document["provider"]["scores"]}
        assert provider["parameter"] == pytest.approx(provider["training token"] * 1e6 / 135e6)
        assert provider["FLOP"] is not None
        assert document["consumer"]["scores"][0]["sci_g_per_unit"] is None
        assert "deployment" not in document["provider"]["scores"][0]["stages"]

    @pytest.mark.parametrize("unit", ["run", "student"])
    def test_a_term_that_is_not_known_gives_null(self, unit: str) -> None:
        made = to_sci(poor(), DETAILS)
        document = json.loads(made.text)
        score = {one["unit"]: one for one in document["sci"]["scores"]}[unit]
        assert score["sci_g_per_unit"] is None
        assert score["reason"]
        assert any(unit in loss.what for loss in made.losses)

    def test_a_building_alone_is_no_m(self) -> None:
        report = rich()
        for cell in report["cells"]:
            if cell["stage"] == "hardware_manufacturing" and cell["value"] is not None:
                cell.update(status="not_counted", value=None, low=None, high=None, reason="nobody knows the board")
        score = json.loads(to_sci(report, FULL).text)["sci"]["scores"][0]
        assert score["M_g"] is None
        assert score["sci_g_per_unit"] is None


class TestEuForm:
    def fields(self, report: dict[str, Any], details: Details) -> dict[str, Any]:
        document = json.loads(to_eu_gpai(report, details).text)
        return {field["id"]: field["value"] for field in document["fields"]}

    def test_what_is_known_is_filled_in(self) -> None:
        report = rich()
        found = self.fields(report, FULL)
        stages = (LifeStage.DATA, LifeStage.EXPERIMENTATION, LifeStage.TRAINING, LifeStage.POST_TRAINING)
        mwh = math.fsum(value(report, stage, Impact.ENERGY_FACILITY) for stage in stages) / 1000
        assert float(found["energy_mwh"]) == pytest.approx(mwh, rel=0.005)
        assert found["total_parameters"] == "135000000"
        assert found["training_flop"] == "1.23e+18"
        assert found["training_flop_magnitude"] == "10^18"
        assert found["compute_methodology"] == "6 FLOP a parameter and token"
        assert found["training_time_days"]["hardware_days"] == "365"
        assert found["training_time_range"] == ">6 months"
        assert found["model_dependencies"] == "teacher-1b"

    def test_the_rest_is_not_available_and_says_why(self) -> None:
        made = to_eu_gpai(poor(), DETAILS)
        found = self.fields(poor(), DETAILS)
        unknown = ("energy_mwh", "training_flop", "training_time_days", "total_parameters")
        for name in (*unknown, "training_flop_magnitude", "compute_methodology"):
            assert found[name] == "N/A"
        assert any("Amount of energy" in loss.what and "no energy" in loss.why for loss in made.losses)

    def test_the_methodology_is_short_and_from_the_ledger(self) -> None:
        text = self.fields(rich(), FULL)["energy_methodology"]
        assert len(text.split()) <= 100
        assert "Boundary: the facility, PUE included" in text
        assert "90 % interval" in text

    def test_a_long_methodology_is_cut_at_a_sentence_and_the_rest_listed(self) -> None:
        report = rich()
        for number, use in enumerate(report["inventory"]["uses"]):
            use["meter"] = " ".join(f"meter{number}-{word}" for word in range(30))
        made = to_eu_gpai(report, FULL)
        text = self.fields(report, FULL)["energy_methodology"]
        assert len(text.split()) <= 100
        assert any("100 words" in loss.why for loss in made.losses)

    def test_the_mapping_has_a_version(self) -> None:
        assert mapping()["mapping_version"] == "2"
        assert mapping()["form_date"] == "2025-07-10"

    @pytest.mark.parametrize(
        ("flop", "text"), [(1e18, "10^18"), (9.99e17, "10^17"), (9.999999999999999e17, "10^17"), (3.0, "10^0")]
    )
    def test_an_order_of_magnitude_is_the_power_of_ten_below(self, flop: float, text: str) -> None:
        assert self.fields(rich(), replace(FULL, training_flop=flop))["training_flop_magnitude"] == text

    def test_every_field_of_the_compute_part_is_there(self) -> None:
        """Each amount of the form has its methodology beside it, and goes to whom the form names."""
        to = {field["id"]: field["recipients"] for field in mapping()["field"]}
        assert {"compute_methodology", "energy_methodology", "inference_methodology"} <= set(to)
        assert to["training_flop"] == ["AIO"]
        assert to["training_flop_magnitude"] == ["NCA"]

    @pytest.mark.parametrize(
        ("number", "text"),
        [(0.0123456, "0.0123"), (99.96, "100.0"), (1.0, "1.00"), (1e-9, "1.00e-09"), (3e20, "3.00e+20"), (0.0, "0")],
    )
    def test_significant_figures(self, number: float, text: str) -> None:
        assert significant(number, 2) == text


class TestCard:
    def test_grams_and_not_kilograms(self) -> None:
        report = rich()
        emissions = to_card(report, DETAILS).emissions
        assert emissions is not None
        stages = (LifeStage.DATA, LifeStage.EXPERIMENTATION, LifeStage.TRAINING, LifeStage.POST_TRAINING)
        kilograms = math.fsum(value(report, stage, Impact.GWP_LOCATION) for stage in stages)
        assert emissions["emissions"] == pytest.approx(kilograms * 1000)
        assert emissions["geographical_location"] == report["goal_and_scope"]["place"]["name"]

    def test_without_a_figure_there_is_no_block(self) -> None:
        assert to_card(poor(), DETAILS).emissions is None

    def test_the_section_replaces_itself_alone(self) -> None:
        text = "# A model\n\nwords\n"
        once = with_section(text, f"{BEGIN}\none\n{END}")
        twice = with_section(once + "\nmore\n", f"{BEGIN}\ntwo \\1 \\g<0>\n{END}")
        assert once.startswith("# A model\n\nwords\n")
        assert "one" not in twice
        assert "two \\1 \\g<0>" in twice
        assert twice.endswith("\nmore\n")


class TestCrate:
    def test_holds_the_report_and_its_provenance(self) -> None:
        report = rich()
        made = to_rocrate(report, FULL)
        assert json.loads(made.files[REPORT]) == report
        document = ProvDocument.deserialize(content=made.files[PROVENANCE], format="json")
        assert len(list(document.get_records())) > 50
        graph = {one["@id"]: one for one in json.loads(made.files[METADATA])["@graph"]}
        assert graph["./"]["license"] == FULL.licence
        assert {"#stage-training", "#stage-data", "#account"} <= set(graph)
        assert made.losses
        assert not any(loss.path == "$.factors" for loss in made.losses)


class TestOpenTelemetry:
    def points(self, report: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        (resource,) = json.loads(to_opentelemetry(report, DETAILS).text)["resourceMetrics"]
        for metric in resource["scopeMetrics"][0]["metrics"]:
            for point in metric["gauge"]["dataPoints"]:
                said = {one["key"]: next(iter(one["value"].values())) for one in point["attributes"]}
                impact = metric["name"].removeprefix("stillwatt.lifecycle.")
                yield (
                    metric["name"],
                    {**said, "impact": impact, "value": point["asDouble"], "time": point["timeUnixNano"]},
                )

    def test_every_value_has_a_point_and_nothing_else(self) -> None:
        report = rich()
        found = {(point["stillwatt.stage"], point["impact"]): point for _, point in self.points(report)}
        valued = {(cell["stage"], cell["impact"]) for cell in report["cells"] if cell["value"] is not None}
        assert set(found) == valued
        node = found["training", "energy_node"]
        assert node["value"] == pytest.approx(value(report, LifeStage.TRAINING, Impact.ENERGY_NODE) * 3_600_000)
        assert node["time"] == "1777636800000000000"

    def test_nothing_of_one_name_counts_anything_twice(self) -> None:
        """A backend that adds all points of a name adds stages, and neither boundaries nor conventions."""
        report = rich()
        points = list(self.points(report))
        assert {name for name, _ in points} == {
            f"stillwatt.lifecycle.{cell['impact']}" for cell in report["cells"] if cell["value"] is not None
        }
        for total in (total for total in report["totals"] if total["value"] is not None):
            scale = 3_600_000 if total["unit"] == "kWh" else 1
            summed = math.fsum(
                point["value"] for name, point in points if name == f"stillwatt.lifecycle.{total['impact']}"
            )
            assert summed == pytest.approx(total["value"] * scale)


@pytest.mark.parametrize("make", ALL)
def test_the_same_report_gives_the_same_bytes(make: Any) -> None:
    first, second = make(rich(), FULL), make(rich(), FULL)
    assert first == second


@pytest.mark.parametrize("make", ALL)
def test_another_document_is_refused(make: Any) -> None:
    with pytest.raises(ReportError, match="no life-cycle report"):
        make({"schema": "stillwatt.report/1"}, DETAILS)


def test_every_topic_is_carried_or_listed() -> None:
    assert {loss.path for loss in losses_of(())} == {path for path, _ in TOPICS.values()}
    assert losses_of(TOPICS) == ()
    with pytest.raises(ValueError, match="no such topic"):
        losses_of(("colour",))
