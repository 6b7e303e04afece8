"""The documents' way through a simulation, over HTTP, on a real server with real children."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from headway.pbpk.catalog import SHIPPED
from tests.acceptance.pbpk.server import PbpkServer, of_weight

CAFFEINE = (SHIPPED / "caffeine.xml").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PbpkServer]:
    data_dir = tmp_path_factory.mktemp("walk")
    models = data_dir / "models"
    models.mkdir()
    (models / "broken.xml").write_text(CAFFEINE[:30_000])
    (models / "units.xml").write_text(CAFFEINE.replace('units="mg"', 'units="nounit"'))
    (models / "mine.xml").write_text(of_weight(CAFFEINE, 74))
    with PbpkServer(data_dir) as running:
        running.post("/load_simulation", 201, filePath="caffeine", simulationId="walk", confirm=True)
        yield running


def test_a_loaded_model_says_where_it_comes_from(server: PbpkServer) -> None:
    loaded = server.post("/load_simulation", 201, filePath="midazolam")
    assert loaded["simulationId"]
    assert loaded["metadata"]["name"] == "midazolam"
    assert loaded["metadata"]["modelVersion"].startswith("sha256:")
    assert loaded["metadata"]["createdBy"].startswith("local:")
    assert loaded["metadata"]["createdAt"].endswith("Z")
    assert loaded["defaultOutput"] in {output["path"] for output in loaded["outputs"]}


def test_a_model_of_a_search_path_is_loaded_by_its_file_name(server: PbpkServer) -> None:
    server.post("/load_simulation", 201, filePath="mine.xml", simulationId="mine")
    value = server.post("/get_parameter_value", simulationId="mine", parameterPath="BW")["parameter"]
    assert (value["value"], value["unit"], value["source"]) == (74.0, "kg", "model")


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("nope", "no_such_model", "search path"),
        ("../../../etc/passwd", "no_such_model", "search path"),
        ("/etc/passwd", "no_such_model", "search path"),
        ("broken", "invalid_model", "line"),
        ("units", "invalid_model", "nounit"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_named(server: PbpkServer, path: str, code: str, words: str) -> None:
    assert words in server.refused("/load_simulation", 400, code, filePath=path, simulationId="never")
    server.refused("/list_parameters", 404, "session_not_found", simulationId="never")


def test_an_id_is_used_once(server: PbpkServer) -> None:
    server.refused("/load_simulation", 409, "session_conflict", filePath="caffeine", simulationId="walk")


def test_parameters_are_listed_by_a_pattern_over_paths_and_names(server: PbpkServer) -> None:
    everything = server.post("/list_parameters", simulationId="walk")
    doses = server.post("/list_parameters", simulationId="walk", searchPattern="*DOSE*")
    assert set(doses["parameters"]) < set(everything["parameters"])
    assert {"PODOSE", "IVDOSE"} <= set(doses["parameters"])
    assert [item["path"] for item in doses["items"]] == doses["parameters"]


def test_a_parameter_is_set_in_another_unit_and_by_a_difference(server: PbpkServer) -> None:
    server.post("/load_simulation", 201, filePath="caffeine", simulationId="units1")
    body = {"simulationId": "units1", "parameterPath": "BW"}
    assert server.post("/set_parameter_value", **body, value=80_000, unit="g")["parameter"]["value"] == 80.0
    changed = server.post("/set_parameter_value", **body, value=-2.5, updateMode="relative", comment="lost some")
    assert changed["parameter"]["value"] == 77.5
    now = server.post("/get_parameter_value", **body)["parameter"]
    assert (now["value"], now["source"], now["comment"]) == (77.5, "session", "lost some")


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"parameterPath": "BWX", "value": 1}, 404, "unknown_parameter"),
        ({"parameterPath": "A_total", "value": 1}, 400, "parameter_set_by_rule"),
        ({"parameterPath": "BW", "value": -1}, 400, "invalid_parameter_value"),
        ({"parameterPath": "fa", "value": 1.5}, 400, "invalid_parameter_value"),
        ({"parameterPath": "BW", "value": 1, "unit": "h"}, 400, "unit_mismatch"),
        ({"parameterPath": "BW", "value": 1, "unit": "stones_of_old"}, 400, "unit_mismatch"),
        ({"parameterPath": "BW", "value": 1, "updateMode": "twice"}, 400, "invalid_simulation"),
        ({"parameterPath": "BW", "value": "70"}, 400, "invalid_request"),
        ({"parameterPath": "BW", "value": True}, 400, "invalid_request"),
        ({"parameterPath": "BW", "value": 70, "colour": "red"}, 400, "invalid_request"),
        ({"parameterPath": "BW"}, 400, "invalid_request"),
    ],
)
def test_a_wrong_value_is_refused_and_changes_nothing(
    server: PbpkServer, fields: dict[str, Any], status: int, code: str
) -> None:
    before = server.post("/list_parameters", simulationId="walk")["items"]
    server.refused("/set_parameter_value", status, code, simulationId="walk", **fields)
    assert server.post("/list_parameters", simulationId="walk")["items"] == before


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_what_is_no_finite_number_is_refused(server: PbpkServer, value: str) -> None:
    body = f'{{"simulationId": "walk", "parameterPath": "BW", "value": {value}}}'
    answer = server.http.post("/set_parameter_value", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "finite" in answer.json()["error"]["message"]


def test_a_run_carries_the_changes_and_its_results_say_so(server: PbpkServer) -> None:
    server.post("/load_simulation", 201, filePath="caffeine", simulationId="run1")
    plain = server.post("/run_simulation", 202, simulationId="run1", runId="first", confirm=True)
    assert (plain["status"], plain["expiresAt"]) == ("queued", None)
    server.post("/set_parameter_value", simulationId="run1", parameterPath="PODOSE", value=0.6, unit="g")
    doubled = server.post("/run_simulation", 202, simulationId="run1")
    server.ended(plain["jobId"])
    server.ended(doubled["jobId"])

    first = server.post("/get_simulation_results", resultsId=plain["jobId"])
    second = server.post("/get_simulation_results", resultsId=doubled["jobId"])
    assert first["simulationMetadata"]["parameters"] == {}
    assert first["simulationMetadata"]["runId"] == "first"
    assert second["simulationMetadata"]["parameters"] == {"PODOSE": 600.0}
    assert first["series"][0]["unit"] == "mg/L"
    assert len(first["series"][0]["values"]) == 241
    assert first["series"][0]["values"][-1]["time"] == 48.0

    one = server.post("/calculate_pk_parameters", resultsId=plain["jobId"])["metrics"][0]
    two = server.post("/calculate_pk_parameters", resultsId=doubled["jobId"], outputPath="Cp")["metrics"][0]
    # The model is linear in the dose.
    assert two["cmax"] == pytest.approx(2 * one["cmax"], rel=1e-3)
    assert two["halfLife"] == pytest.approx(one["halfLife"], rel=1e-3)
    assert one["ncaStatus"] == "derived"
    assert one["units"]["auc"] == "mg*h/L"
    server.refused("/calculate_pk_parameters", 404, "unknown_output", resultsId=plain["jobId"], outputPath="nope")


def test_a_population_ends_in_percentiles_a_table_and_plots(server: PbpkServer) -> None:
    accepted = server.post(
        "/run_population_simulation",
        202,
        modelPath="midazolam",
        simulationId="people",
        cohort={"size": 60, "seed": 7, "sampling": "random"},
        outputs={"timeSeries": [{"path": "Cp"}], "aggregates": ["meanCmax", "sdCmax"]},
        metadata={"study": "S1"},
        timeoutSeconds=100,
        maxRetries=1,
    )
    assert (accepted["simulationId"], accepted["timeoutSeconds"], accepted["maxRetries"]) == ("people", 100.0, 1)
    job_id = accepted["jobId"]
    server.ended(job_id)
    found = server.post("/get_population_results", resultsId=job_id)
    assert found["cohort"]["size"] == 60
    assert found["metadata"]["study"] == "S1"
    assert set(found["aggregates"]) == {"meanCmax", "sdCmax"}
    assert all(value > 0 for value in found["aggregates"].values())
    output = found["outputs"][0]
    assert all(low <= mid <= high for low, mid, high in zip(output["p5"], output["p50"], output["p95"], strict=True))
    metrics = server.post("/calculate_pk_parameters", resultsId=job_id)["metrics"][0]
    assert metrics["statistic"] == "median"
    assert metrics["cmax"] == output["pk"]["cmax"]["p50"]

    svg = server.http.get(found["plots"]["svg"])
    assert svg.headers["content-type"] == "image/svg+xml"
    assert ET.fromstring(svg.text).tag.endswith("svg")
    # A second policy would take the picture's own style away again.
    assert svg.headers.get_list("content-security-policy") == ["default-src 'none'; style-src 'unsafe-inline'; sandbox"]
    png = server.http.get(found["plots"]["png"])
    assert png.headers["content-type"] == "image/png"
    assert png.content.startswith(b"\x89PNG\r\n\x1a\n")
    page = server.http.get(f"/jobs/{job_id}/view").text
    assert found["plots"]["svg"] in page
    assert "half_life" in page


def test_a_population_of_a_loaded_simulation_has_its_changes(server: PbpkServer) -> None:
    server.post("/load_simulation", 201, filePath="caffeine", simulationId="changed")
    server.post("/set_parameter_value", simulationId="changed", parameterPath="PODOSE", value=0)
    covariates = [{"path": "BW", "distribution": "fixed", "mean": 70}]
    cohort = {"size": 3, "covariates": covariates}
    body: dict[str, Any] = {"simulationId": "changed", "cohort": cohort, "endTime": 4, "points": 11}
    job_id = server.post("/run_population_simulation", 202, **body)["jobId"]
    found = server.result(job_id)
    assert found["parameters"] == {"PODOSE": 0.0}
    assert len(found["times"]) == 11
    assert found["times"][-1] == 4.0
    assert max(found["outputs"][0]["p95"]) == 0.0


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"cohort": {"size": 0}, "modelPath": "caffeine"}, 400, "invalid_simulation"),
        ({"cohort": {"size": 20_000_000}, "modelPath": "caffeine"}, 400, "invalid_simulation"),
        ({"cohort": {"size": 5, "seed": -1}, "modelPath": "caffeine"}, 400, "invalid_simulation"),
        ({"cohort": {"size": 5, "seed": 2**64}, "modelPath": "caffeine"}, 400, "invalid_simulation"),
        ({"cohort": {"size": 5}, "modelPath": "caffeine", "endTime": -4}, 400, "invalid_simulation"),
        ({"cohort": {"size": 5}, "modelPath": "caffeine", "points": 1}, 400, "invalid_simulation"),
        ({"cohort": {"size": 5}}, 404, "session_not_found"),
        ({"cohort": {"size": 5}, "modelPath": "nope"}, 400, "no_such_model"),
        ({"cohort": {"size": 5, "sampling": "sobol"}, "modelPath": "caffeine"}, 400, "invalid_simulation"),
        ({"cohort": {"size": 5, "covariates": [{"path": "BW"}]}, "modelPath": "caffeine"}, 400, "invalid_simulation"),
        ({"cohort": {"size": 5}, "modelPath": "caffeine", "outputs": {"aggregates": ["x"]}}, 400, "invalid_request"),
        ({"cohort": {"size": 5}, "modelPath": "caffeine", "aucMethod": "x"}, 400, "invalid_request"),
        ({"cohort": {"size": 5}, "modelPath": "midazolam", "simulationId": "walk"}, 400, "invalid_request"),
    ],
)
def test_a_wrong_population_is_refused_before_anything_runs(
    server: PbpkServer, fields: dict[str, Any], status: int, code: str
) -> None:
    before = server.http.get("/api/v1/jobs", params={"task": "headway.pbpk.run_population"}).json()["items"]
    server.refused("/run_population_simulation", status, code, **{"simulationId": "nobody", **fields})
    after = server.http.get("/api/v1/jobs", params={"task": "headway.pbpk.run_population"}).json()["items"]
    assert [job["id"] for job in after] == [job["id"] for job in before]


@pytest.mark.parametrize("fields", [{"endTime": -4}, {"endTime": 0}, {"points": 1}, {"points": 100_001}])
def test_an_impossible_run_is_refused_before_anything_runs(server: PbpkServer, fields: dict[str, float]) -> None:
    before = server.http.get("/api/v1/jobs", params={"task": "headway.pbpk.run_simulation"}).json()["items"]
    server.refused("/run_simulation", 400, "invalid_simulation", simulationId="walk", **fields)
    after = server.http.get("/api/v1/jobs", params={"task": "headway.pbpk.run_simulation"}).json()["items"]
    assert [job["id"] for job in after] == [job["id"] for job in before]


def test_what_only_the_model_can_say_fails_the_job_at_once(server: PbpkServer) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"model": "nope", "size": 5}, "model_not_found"),
        ({"model": "caffeine", "size": 5, "outputs": "nope"}, "unknown_output"),
        ({"model": "caffeine", "size": 5, "parameters": {"BW": -1}}, "invalid_parameter_value"),
        ({"model": "caffeine", "size": 5, "points": 1}, "invalid_simulation"),
        ({"model": "caffeine", "size": "many"}, "invalid_simulation"),
        ({"model": "caffeine", "size": 5, "model_hash": "sha256:x"}, "model_not_found"),
        ({"model": "caffeine", "size": 5, "workers": 0}, "invalid_simulation"),
    ]
    jobs = [(server.submit("headway.pbpk.run_population", **kwargs), code) for kwargs, code in wrong]
    for job_id, code in jobs:
        job = server.ended(job_id, "failed")
        assert (job["error"]["code"], job["attempts"]) == (code, 1)
        assert job["error"]["hint"] is not None or code == "invalid_simulation"


def test_a_solver_that_gives_up_fails_with_its_own_words(server: PbpkServer) -> None:
    # A time scale of 1e-300 h cannot be stepped through.
    job_id = server.submit("headway.pbpk.run_simulation", model="caffeine", parameters={"ka": 1e300})
    job = server.ended(job_id, "failed")
    assert job["error"]["code"] == "simulation_failed"
    assert "CV" in job["error"]["message"]


def test_results_of_other_jobs_and_of_unfinished_ones_are_refused(server: PbpkServer) -> None:
    demo = server.submit("headway.demo", steps=1)
    server.ended(demo)
    server.refused("/get_simulation_results", 404, "not_such_a_result", resultsId=demo)
    server.refused("/get_population_results", 404, "job_not_found", resultsId="nobody")
    assert server.http.get(f"/api/v1/populations/{demo}/plot.svg").json()["code"] == "not_such_a_result"
    running = server.submit("headway.pbpk.run_population", model="caffeine", size=100_000)
    server.refused("/get_population_results", 409, "result_not_ready", resultsId=running)
    assert server.http.get(f"/api/v1/populations/{running}/plot.svg").status_code == 409
    server.post("/cancel_job", jobId=running)
    server.ended(running, "cancelled")
    server.refused("/get_population_results", 409, "job_has_no_result", resultsId=running)


def test_a_task_in_a_thread_of_the_service_is_refused(server: PbpkServer) -> None:
    body = {"task": "headway.pbpk.run_simulation", "kwargs": {"model": "caffeine"}, "isolation": "thread"}
    job_id = server.http.post("/api/v1/jobs", json=body).json()["id"]
    assert server.ended(job_id, "failed")["error"]["code"] == "process_isolation_needed"


def test_the_same_key_is_the_same_run(server: PbpkServer) -> None:
    body = {"simulationId": "walk", "points": 50}
    headers = {"Idempotency-Key": "once"}
    answers = [server.http.post("/run_simulation", json=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["jobId"] == answers[1].json()["jobId"]
    other: httpx.Response = server.http.post("/run_simulation", json={**body, "points": 51}, headers=headers)
    assert other.status_code == 409


def test_a_plot_that_was_removed_is_gone(server: PbpkServer) -> None:
    job_id = server.submit("headway.pbpk.run_simulation", model="caffeine", points=20)
    links = server.result(job_id)["plots"]
    file = server.data_dir / "simulations" / job_id / "plot.svg"
    assert server.http.get(links["svg"]).content == file.read_bytes()
    file.unlink()
    assert server.http.get(links["svg"]).status_code == 410
    assert server.http.get(links["png"]).status_code == 200


def test_the_service_never_loads_the_native_libraries(server: PbpkServer) -> None:
    (service,) = server.processes("headway.serve")
    mapped = {Path(entry.path).name for entry in service.memory_maps()}
    assert not [name for name in mapped if "roadrunner" in name or "libsbml" in name or "ft2font" in name]
    assert server.service_mb() < 250
