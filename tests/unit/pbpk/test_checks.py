"""What comes from outside, and what is installed."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from headway.pbpk.checks import is_integer, is_number, require_extra

WITHOUT = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in {"roadrunner", "libsbml"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
from headway.pbpk import errors, sbml
try:
    sbml.describe("<sbml/>")
except errors.PbpkNotInstalled as error:
    sys.exit(error.code + " " + error.hint)
"""


@pytest.mark.parametrize("value", [True, "1", None, math.nan, math.inf, [1]])
def test_what_is_no_number(value: object) -> None:
    assert not is_number(value)
    assert not is_integer(value, 0, 10)


def test_what_is_one() -> None:
    assert is_number(1)
    assert is_number(-0.5)
    assert is_integer(10, 0, 10)
    assert not is_integer(11, 0, 10)
    assert not is_integer(1.0, 0, 10)


def test_the_extra_is_looked_for_without_importing_it() -> None:
    require_extra()
    code = (
        "import sys; from headway.pbpk.checks import require_extra; require_extra(); sys.exit('libsbml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_extra_the_error_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert "pbpk_not_installed" in done.stderr
    assert "pip install 'headway[pbpk]'" in done.stderr
