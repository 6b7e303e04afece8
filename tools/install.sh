#!/bin/sh
# Installs this checkout, editable, with extra $2 into the virtual environment $1.
set -eu

echo "Installing headway[$2] (once; again only when pyproject.toml changes)"
exec "$1/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$2]"
