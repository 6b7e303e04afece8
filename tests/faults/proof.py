"""What must be true of a registry and of the effects after a run, read without Headway's own store."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from headway.model.states import BY_VERB, TERMINAL_STATES, JobState, Verb

_TERMINAL = {str(state) for state in TERMINAL_STATES}
_OPENING = {str(verb) for verb, row in BY_VERB.items() if not row.from_states}


@dataclass(slots=True)
class Proof:
    """Counts of a run, and everything that is wrong with it."""

    states: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    events: int = 0
    attempts: int = 0
    begun_effects: int = 0
    ended_effects: int = 0
    overlaps: int = 0
    wrong: list[str] = field(default_factory=list)

    def holds(self) -> None:
        """Fail with everything that is wrong."""
        assert not self.wrong, "\n".join(self.wrong[:20])

    def __str__(self) -> str:
        return (
            f"jobs {sum(self.states.values())} {dict(self.states)}; attempts {self.attempts} {dict(self.outcomes)}; "
            f"events {self.events}; effects begun {self.begun_effects}, ended {self.ended_effects}; "
            f"overlaps of superseded attempts {self.overlaps}"
        )


def examine(registry: str, effects: Path, *, accepted: Collection[str], several_owners: bool = False) -> Proof:
    """Read everything and compare.

    Args:
        registry: SQLAlchemy URL of the database; no server needs to run.
        effects: what the tasks wrote.
        accepted: ids that were answered with 202.
        several_owners: whether superseded attempts may still have run when their successor began.
    """
    proof = Proof()
    engine = sa.create_engine(registry)
    try:
        with engine.connect() as connection:
            jobs = {row["id"]: row for row in _rows(connection, "SELECT * FROM jobs")}
            events = _rows(connection, "SELECT * FROM events ORDER BY pos")
            attempts = _rows(connection, "SELECT * FROM attempts")
    finally:
        engine.dispose()
    _examine_jobs(proof, jobs, accepted)
    _examine_feed(proof, jobs, events)
    _examine_attempts(proof, jobs, attempts, events)
    _examine_effects(proof, attempts, effects, several_owners=several_owners)
    return proof


def _rows(connection: sa.Connection, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(sa.text(query)).mappings()]


def _examine_jobs(proof: Proof, jobs: dict[str, dict[str, Any]], accepted: Collection[str]) -> None:
    proof.states.update(job["state"] for job in jobs.values())
    proof.wrong += [f"accepted and not there: {job_id}" for job_id in accepted if job_id not in jobs]
    for job in jobs.values():
        name = f"job {job['id']} ({job['task']}, {job['state']})"
        if job["state"] not in _TERMINAL:
            proof.wrong.append(f"{name} has not ended")
        if job["state"] != JobState.SUCCEEDED and (job["result"] is not None or job["result_blob"] is not None):
            proof.wrong.append(f"{name} has a result")
        if job["held_by"] is not None:
            proof.wrong.append(f"{name} is still held by {job['held_by']}")


def _examine_feed(proof: Proof, jobs: dict[str, dict[str, Any]], events: list[dict[str, Any]]) -> None:
    proof.events = len(events)
    positions = [event["pos"] for event in events]
    if positions != list(range(1, len(events) + 1)):
        proof.wrong.append(f"positions are not 1..{len(events)}: {positions[:5]} … {positions[-5:]}")
    of_job: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        of_job[event["job_id"]].append(event)
    proof.wrong += [f"no event of job {job_id}" for job_id in jobs if job_id not in of_job]
    for job_id, own in of_job.items():
        proof.wrong += [f"job {job_id}: {text}" for text in _illegal(own)]
        if jobs[job_id]["state"] != own[-1]["state"]:
            proof.wrong.append(f"job {job_id} is {jobs[job_id]['state']}, its last event says {own[-1]['state']}")


def _illegal(own: list[dict[str, Any]]) -> list[str]:
    """What the table of transitions forbids in the events of one job."""
    found = []
    if own[0]["verb"] not in _OPENING:
        found.append(f"begins with {own[0]['verb']}")
    for before, event in itertools.pairwise(own):
        row = BY_VERB[Verb(event["verb"])]
        if before["state"] not in row.from_states:
            found.append(f"{event['verb']} from {before['state']}")
        if event["state"] != row.to_state:
            found.append(f"{event['verb']} led to {event['state']}")
        grown = event["fence"] - before["fence"]
        if grown != (1 if event["verb"] == Verb.BEGIN else 0):
            found.append(f"{event['verb']} moved the fence from {before['fence']} to {event['fence']}")
    return found


def _examine_attempts(
    proof: Proof, jobs: dict[str, dict[str, Any]], attempts: list[dict[str, Any]], events: list[dict[str, Any]]
) -> None:
    proof.attempts = len(attempts)
    proof.outcomes.update(str(one["outcome"]) for one in attempts)
    begun = {(event["job_id"], event["fence"]) for event in events if event["verb"] == Verb.BEGIN}
    recorded = {(one["job_id"], one["fence"]) for one in attempts}
    proof.wrong += [f"begun without an attempt: {key}" for key in begun - recorded]
    proof.wrong += [f"attempt without a begin: {key}" for key in recorded - begun]
    proof.wrong += [
        f"attempt {one['job_id']}/{one['fence']} has no outcome" for one in attempts if one["outcome"] is None
    ]
    good = Counter(one["job_id"] for one in attempts if one["outcome"] in {"succeeded", "ignored"})
    proof.wrong += [f"job {job_id} succeeded {count} times" for job_id, count in good.items() if count > 1]
    for job_id, job in jobs.items():
        if (job["state"] == JobState.SUCCEEDED) != (good[job_id] == 1):
            proof.wrong.append(f"job {job_id} is {job['state']} with {good[job_id]} successful attempts")


def read_effects(path: Path) -> list[dict[str, Any]]:
    """What the tasks wrote, in order."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _examine_effects(proof: Proof, attempts: list[dict[str, Any]], path: Path, *, several_owners: bool) -> None:
    outcome = {(one["job_id"], one["fence"]): one["outcome"] for one in attempts}
    newest: dict[str, int] = {}
    seen: Counter[tuple[str, int, str]] = Counter()
    for line in read_effects(path):
        key = (line["job"], line["fence"])
        seen[*key, line["what"]] += 1
        if key not in outcome:
            proof.wrong.append(f"an effect of {key}, which was never begun")
        if line["what"] == "begin":
            proof.begun_effects += 1
            newest[key[0]] = max(newest.get(key[0], 0), key[1])
            continue
        proof.ended_effects += line["what"] == "end"
        if key[1] < newest[key[0]]:
            proof.overlaps += 1
            if not several_owners:
                proof.wrong.append(f"{key} still computed when attempt {newest[key[0]]} had begun")
            elif outcome.get(key) != "abandoned":
                proof.wrong.append(f"{key} overlaps and was not superseded: {outcome.get(key)}")
    proof.wrong += [
        f"{count} effects {what} of {job}/{fence}" for (job, fence, what), count in seen.items() if count > 1
    ]
    for key, ended in outcome.items():
        if ended == "succeeded" and not seen[*key, "end"]:
            proof.wrong.append(f"{key} succeeded without having ended")
