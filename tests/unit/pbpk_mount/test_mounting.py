"""Without the extra: everything imports, and says what to install."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = """
import sys

class Absent:
    names = {"roadrunner", "libsbml", "numpy", "matplotlib", "pint"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in Absent.names else real(name, package)
sys.meta_path.insert(0, Absent())
"""

ROUTES = """
from pathlib import Path
from types import SimpleNamespace
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from headway.bootstrap.workloads import workload
from headway.config import Settings
from headway.http import problems

services = SimpleNamespace(clock=SimpleNamespace(now=lambda: 0), ids=SimpleNamespace(new_id=lambda: "x"))
work = workload()
assert work.task_modules == ()
assert work.adapter()["health"]["status"] == "unavailable", work.adapter()
app = FastAPI()
for router in [*work.routers(services, Settings()), *work.document_routers(services, Settings())]:
    app.include_router(router)

@app.middleware("http")
async def door(request: Request, call_next):
    request.state.trace_id, request.state.document = "t", True
    return await call_next(request)

problems.install(app)
client = TestClient(app)
answer = client.post("/load_simulation", json={"filePath": "caffeine"})
assert answer.status_code == 503, answer.text
detail = answer.json()["error"]["details"][0]
assert detail["code"] == "pbpk_not_installed"
assert "pip install 'headway[pbpk]'" in detail["hint"]
print("said so")
"""

LIGHT = """
import sys
import headway.pbpk.tasks, headway.bootstrap.workloads
from headway.pbpk import mounting, routes_models, routes_results, routes_runs, retention
heavy = {"roadrunner", "libsbml", "numpy", "matplotlib", "pint"} & set(sys.modules)
assert not heavy, heavy
print("light")
"""


def _run(script: str) -> str:
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_without_the_extra_the_routes_say_what_to_install() -> None:
    assert _run(WITHOUT + ROUTES) == "said so\n"


def test_mounting_and_tasks_load_nothing_heavy() -> None:
    assert _run(LIGHT) == "light\n"
