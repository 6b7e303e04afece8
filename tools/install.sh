#!/bin/sh
# Installs this checkout, editable, with extra $2 into the virtual environment $1.
set -eu

echo "Installing headway[$2] (once; again only when pyproject.toml changes)"
# Not compiled in advance: a third of the time, and Python compiles what is imported anyway.
exec "$1/bin/python" -m pip install -qq --disable-pip-version-check --no-compile --editable ".[$2]"
