#!/bin/sh
# Makes the virtual environment named by $1 with the first Python on the PATH that is new enough.
# PYTHON=/path/to/python chooses one by hand.
set -eu

venv=$1

new_enough() {
    command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

for python in ${PYTHON:-python3.12 python3.13 python3.11 python3}; do
    if new_enough "$python"; then
        echo "Creating $venv with $("$python" --version 2>&1) ($(command -v "$python"))"
        if "$python" -m venv "$venv"; then exit 0; fi
        rm -rf "$venv"
        echo "That Python cannot make a virtual environment: on Debian and Ubuntu, 'apt-get install python3-venv'." >&2
        exit 1
    fi
done

found=$(python3 --version 2>&1 || echo 'no python3')
echo "Headway needs Python 3.11, 3.12 or 3.13; found: $found." >&2
echo "Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2
exit 1
