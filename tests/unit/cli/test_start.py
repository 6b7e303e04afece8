from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("celery", "fastapi", "sqlalchemy", "uvicorn", "httpx", "alembic", "roadrunner", "numpy")


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["jobs", "--help"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, json\nfrom headway.cli.main import main\nsys.argv = ['headway', *json.loads(sys.argv[1])]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = json.loads(ran.stdout.splitlines()[-1])
    assert not [name for name in HEAVY if name in loaded]
