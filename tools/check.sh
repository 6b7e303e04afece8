#!/bin/sh
# `make check`: every check runs, whatever the one before it said, and the exit code tells of all of them.
set -u

bin=.venv/bin
failed=

check() {
    name=$1
    shift
    printf '\n== %s\n' "$name"
    "$@" || failed="$failed $name"
}

check lint "$bin/ruff" check .
check format "$bin/ruff" format --check .
check types "$bin/mypy"
check imports "$bin/lint-imports"
check sizes "$bin/python" -m tools.check_sizes
check docs "$bin/python" -m tools.check_docs

if [ -n "$failed" ]; then
    printf '\nFailed:%s\n' "$failed" >&2
    exit 1
fi
printf '\nAll checks passed.\n'
