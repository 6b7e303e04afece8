"""The few places where SQLite and Postgres must be spoken to differently, declared, never asked for by type."""

from __future__ import annotations

from dataclasses import dataclass

# Reports of a beat travel as one JSON text, so that one statement serves any number of attempts.
_SQLITE_REPORTS = """(SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS fence,
    json_extract(value, '$[2]') AS moved, json_extract(value, '$[3]') AS done, json_extract(value, '$[4]') AS total,
    json_extract(value, '$[5]') AS message, json_extract(value, '$[6]') AS custom_state,
    json_extract(value, '$[7]') AS custom_meta FROM json_each(:reports)) AS r"""
_POSTGRES_REPORTS = """(SELECT value->>0 AS id, (value->>1)::int AS fence, (value->>2)::int AS moved,
    (value->>3)::float8 AS done, (value->>4)::float8 AS total, value->>5 AS message, value->>6 AS custom_state,
    value->>7 AS custom_meta FROM jsonb_array_elements(CAST(%(reports)s AS jsonb))) AS r"""


@dataclass(frozen=True, slots=True)
class DialectFacts:
    """What one database can do and how it says it.

    Attributes:
        name: ``sqlite`` or ``postgres``.
        reports: derived table ``r`` over the JSON parameter ``reports``.
        ids: select of the column ``id`` over the JSON parameter ``ids``, as text for ``sa.text``.
        skip_locked: whether rows locked by another process must be stepped over.
        round_trips: whether every statement costs one, so that rows travel together and statements that
            answer nothing go with the commit.
        begin: how a writing transaction begins.
        database_time: query for UTC microseconds of the database's own clock; None where the machine's is it.
        sequencer_lock: query that takes the sequencer's lock until the transaction ends; None where
            holding the write transaction is the lock.
    """

    name: str
    reports: str
    ids: str
    skip_locked: bool
    round_trips: bool
    begin: str
    database_time: str | None
    sequencer_lock: str | None

    def parameter(self, name: str) -> str:
        """A named parameter in the driver's style."""
        return f":{name}" if self.name == "sqlite" else f"%({name})s"


SQLITE = DialectFacts(
    name="sqlite",
    reports=_SQLITE_REPORTS,
    ids="SELECT value AS id FROM json_each(:ids)",
    skip_locked=False,
    round_trips=False,
    begin="BEGIN IMMEDIATE",
    database_time=None,
    sequencer_lock=None,
)
POSTGRES = DialectFacts(
    name="postgres",
    reports=_POSTGRES_REPORTS,
    ids="SELECT jsonb_array_elements_text(CAST(:ids AS jsonb)) AS id",
    skip_locked=True,
    round_trips=True,
    begin="BEGIN",
    database_time="SELECT (extract(epoch from clock_timestamp()) * 1000000)::bigint",
    sequencer_lock="SELECT pg_try_advisory_xact_lock(5207061)",
)
