"""Pictures: right size, right words, no global state, the same bytes for the same data."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from headway.pbpk import chunks, errors
from headway.pbpk.combine import combine
from headway.pbpk.plot import Profile, profile_of, render
from headway.pbpk.plot_style import COLOURS, number
from headway.pbpk.population import population_spec, run_chunk
from headway.pbpk.simulation import run_simulation
from headway.pbpk.times import dosing_grid
from tests.unit.pbpk.sbml_texts import loaded

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("plot")
    description = loaded("midazolam").description
    spec = population_spec(description, size=30, seed=3, times=dosing_grid(24.0, 61))
    chunks.save_chunk(folder, run_chunk(loaded("midazolam"), spec, 0, 30))
    result: dict[str, Any] = json.loads(json.dumps(combine(folder, description, spec, [(0, 30)]).to_dict()))
    return result


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def count(image: np.ndarray[Any, Any], colour: str) -> int:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(image - wanted).sum(axis=-1) < 6).sum())


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("log", [False, True])
def test_a_png_shows_line_and_band_on_its_paper(population: dict[str, Any], theme: Any, log: bool) -> None:
    data = render(profile_of(population), theme=theme, log=log)
    image = pixels(data)
    assert image.shape == (768, 1280, 3)
    colours = COLOURS[theme]
    assert count(image, colours.paper) > 300_000
    assert count(image, colours.band) > 5_000
    assert count(image, colours.line) > 1_000


def test_words_and_units_stand_in_the_svg(population: dict[str, Any]) -> None:
    text = render(profile_of(population, title="Midazolam, 7.5 mg"), image="svg").decode()
    root = ET.fromstring(text)
    words = " ".join("".join(item.itertext()) for item in root.iter(f"{SVG}text"))
    for wanted in ("Midazolam, 7.5 mg", "30 individuals", "seed 3", "[ng/mL]", "Time [h]", "median", "percentile"):
        assert wanted in words, wanted
    described = root.find(f"{SVG}desc")
    assert described is not None
    assert "ng/mL" in (described.text or "")
    assert root.get("role") == "img"


def test_an_svg_follows_the_reader_or_a_fixed_theme(population: dict[str, Any]) -> None:
    profile = profile_of(population)
    auto = render(profile, image="svg", theme="auto").decode()
    assert "@media (prefers-color-scheme: dark)" in auto
    assert "var(--headway-line)" in auto
    assert "#0102" not in auto
    assert COLOURS["dark"].line in auto
    dark = render(profile, image="svg", theme="dark").decode()
    assert "var(" not in dark
    assert COLOURS["dark"].line in dark
    assert "DejaVu" not in auto + dark


def test_the_same_data_give_the_same_bytes(population: dict[str, Any]) -> None:
    profile = profile_of(population)
    for image in ("png", "svg"):
        assert render(profile, image=image) == render(profile, image=image)


def test_settings_of_matplotlib_stay_as_they_were(population: dict[str, Any]) -> None:
    before = dict(mpl.rcParams)
    render(profile_of(population), image="svg", theme="auto")
    assert dict(mpl.rcParams) == before
    code = "import sys; import headway.pbpk.plot; sys.exit('matplotlib' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_simulation_has_no_band() -> None:
    result = json.loads(json.dumps(run_simulation(loaded("caffeine"), {}, dosing_grid(24.0, 61)).to_dict()))
    profile = profile_of(result)
    assert profile.low is None
    assert profile.unit == "mg/L"
    text = render(profile, image="svg").decode()
    assert "percentile" not in text
    assert "one simulation" in text


def test_markup_in_a_title_is_text(population: dict[str, Any]) -> None:
    title = "<script>alert(1)</script> & \\1"
    text = render(profile_of(population, title=title), image="svg").decode()
    root = ET.fromstring(text)
    assert title in "".join(root.itertext())
    assert "<script>" not in text


def test_minutes_become_hours_and_units_may_be_unknown() -> None:
    profile = Profile([0, 300, 720], [0, 2, 1], None, None, "min", "unknown", "x")
    text = render(profile, image="svg").decode()
    assert "Time [h]" in text
    assert "[unit unknown]" in text


def test_what_cannot_be_drawn_is_refused(population: dict[str, Any], tmp_path: Path) -> None:
    profile = profile_of(population)
    with pytest.raises(errors.InvalidSimulation):
        render(profile, image="gif")  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidSimulation):
        render(replace(profile, times=[0.0], middle=[1.0], low=None, high=None))
    with pytest.raises(errors.InvalidSimulation):
        render(replace(profile, middle=[0.0] * 61, low=None, high=None), log=True)
    with pytest.raises(errors.UnknownOutput):
        profile_of(population, "Cq")
    # A flat line at zero is drawn all the same.
    assert render(replace(profile, middle=[0.0] * 61, low=None, high=None))[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (8.857, "8.86"), (41.27, "41.3"), (412.7, "413"), (0.0123, "0.0123"), (1e-7, "1.00e-07")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text
