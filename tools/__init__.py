"""The checks of this repository that no released tool does; run by `make check` and by tests/architecture."""
