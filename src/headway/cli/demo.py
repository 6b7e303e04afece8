"""`headway demo`: the main job on real input, from submit to plot."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from headway.cli import screen
from headway.cli.options import DataDir
from headway.cli.reaching import settings_for
from headway.model.commands import SubmitJob
from headway.model.states import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headway.cli.background import Server
    from headway.client import Client
    from headway.model.job import Job

PBPK_MODULES: Final = ("roadrunner", "libsbml", "numpy", "matplotlib", "pint")
"""What the extra ``pbpk`` installs and a population needs."""

_MODEL: Final = "caffeine"
_SEED: Final = 20_26


def demo(
    exit_: Annotated[
        bool, typer.Option("--exit", help="End when the result is shown; else serve until Ctrl-C.")
    ] = False,
    size: Annotated[int, typer.Option("--size", min=1, max=1_000_000, help="Individuals of the population.")] = 200,
    data_dir: DataDir = None,
) -> None:
    """Run a population of a shipped model: progress, PK table, plot. Starts Headway if none runs here."""
    from headway.cli.background import serving

    settings = settings_for(data_dir)
    with serving(settings) as server:
        succeeded = _show(server, size)
        if server.started_here and not exit_:
            screen.say(f"\nServing at {server.url} (Ctrl-C ends it)")
            try:
                server.wait()
            except KeyboardInterrupt:
                screen.say("")
    if not succeeded:
        raise typer.Exit(1)


def missing_modules() -> list[str]:
    """Which modules of the extra ``pbpk`` are not installed."""
    return [name for name in PBPK_MODULES if importlib.util.find_spec(name) is None]


def _show(server: Server, size: int) -> bool:
    from headway.cli.ending import show_end
    from headway.cli.follow import follow

    missing = missing_modules()
    with server.client() as client:
        if missing:
            screen.say(
                "The extra pbpk is not installed, so this is a small task. For the population: pip install 'headway[pbpk]'"
            )
            job = _small_job(client, size)
        else:
            screen.say(f"A population of {size} individuals of the shipped model {_MODEL} (seed {_SEED})")
            job = _population_job(client, size)
        try:
            ended = follow(client, job)
        except KeyboardInterrupt:
            return False
        show_end(ended)
        if ended.state is not JobState.SUCCEEDED:
            return False
        result = client.result(ended.id)
        if missing:
            screen.show_json(result)
        else:
            _show_population(result)
            for kind, path in result.get("plots", {}).items():
                screen.say(f"Plot ({kind})  {server.url}{path}")
        screen.say(f"Job  {server.url}/jobs/{ended.id}/view")
    return True


def _population_job(client: Client, size: int) -> Job:
    """Submit the population; the one place that knows how it is asked for."""
    return client.send(
        SubmitJob(
            task="headway.pbpk.run_population", kwargs={"model": _MODEL, "size": size, "seed": _SEED}, origin="cli"
        )
    )


def _small_job(client: Client, size: int) -> Job:
    """Submit the built-in task that needs nothing but Headway."""
    return client.send(SubmitJob(task="headway.demo", kwargs={"steps": min(size, 200)}, origin="cli"))


def _show_population(result: Mapping[str, Any]) -> None:
    """The PK table of each output that is a concentration."""
    for output in result["outputs"]:
        table = output["pk"]
        if not table:
            continue
        screen.say(
            f"\n{output['name']} [{output['unit']}], {result['size'] - result['failed']} of {result['size']} simulated"
        )
        screen.show_table(
            ("PARAMETER", "MEDIAN", "5 %", "95 %", "MEAN", "SD", "UNIT", "N"),
            [
                (
                    name,
                    *(_number(one[column]) for column in ("p50", "p5", "p95", "mean", "sd")),
                    one["unit"],
                    str(one["n"]),
                )
                for name, one in table.items()
            ],
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
