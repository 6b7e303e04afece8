"""The pages of what is observed: a real browser, a real `headway observe`, a real Valkey, a real Celery worker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from celery import chain
from playwright.sync_api import Browser, Page, Request, expect

from tests.cluster.load import Load
from tests.cluster.settings import Cluster
from tests.cluster.workers import Worker
from tests.console.conftest import OpenPage, pages_of
from tests.servers.own import running_valkey
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.valkey]
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
READY = re.compile(r"^Headway is ready at (http://\S+)$", re.MULTILINE)


class Observing:
    """A `headway observe` of its own, from its URLs alone."""

    def __init__(self, cluster: Cluster) -> None:
        self.said = ""
        command = [sys.executable, "-m", "headway", "observe"]
        command += ["--broker", cluster.broker, "--result-backend", str(cluster.results)]
        self._process = subprocess.Popen(
            [*command, "--port", "0", "--data-dir", str(cluster.folder / "observer")],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            cwd=cluster.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said += line

    def url(self) -> str:
        found = wait_until(
            lambda: READY.search(self.said) or self._process.poll() is not None, what="the observer", seconds=60
        )
        assert isinstance(found, re.Match), self.said
        return found[1]

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._reader.join(10)
            assert self._process.stdout is not None
            self._process.stdout.close()


@dataclass
class Trial:
    """A watched cluster with some history.

    `ids` are those of tasks that ended before the first test, by what they are there for.
    """

    url: str
    cluster: Cluster
    worker: Worker
    load: Load
    ids: dict[str, str] = field(default_factory=dict)

    def send(self, name: str, *args: Any, **options: Any) -> str:
        """Send a task of the cluster's application; its id."""
        return str(self.load.sign(name, *args).apply_async(**options).id)

    def ask(self, path: str) -> Any:
        return httpx.get(f"{self.url}/api/v1{path}", timeout=20).raise_for_status().json()

    def reaches(self, task_id: str, *states: str) -> None:
        """Wait until the observer knows that a task is in one of these states."""

        def state() -> bool:
            answer = httpx.get(f"{self.url}/api/v1/tasks/{task_id}", timeout=20)
            return answer.status_code == 200 and answer.json()["state"] in states

        wait_until(state, what=f"{task_id} to be {states}", seconds=30, every=0.1)

    def said(self, task_id: str) -> list[str]:
        return [mark["said"] for mark in self.ask(f"/tasks/{task_id}")["trail"]]

    def history(self) -> None:
        """Send what the tests look at, and wait until it is known."""
        ids = self.ids
        ids["add"] = self.send("add", 1, 2)
        ids["fail"] = self.send("fail", HOSTILE)
        ids["hostile"] = self.send("unicode_huge", HOSTILE)
        ids["flaky"] = self.send("flaky", 2)
        ids["later"] = self.send("add", 5, 5, countdown=3000)
        last: Any = chain(self.load.sign("add", 1, 1), self.load.sign("add", 1), app=self.load.app).apply_async()
        ids["child"], ids["root"] = last.id, last.parent.id
        for name, state in (("add", "succeeded"), ("fail", "failed"), ("hostile", "succeeded")):
            self.reaches(ids[name], state)
        for name in ("flaky", "child", "root"):
            self.reaches(ids[name], "succeeded")

        def all_heard() -> bool:
            # A worker reads its children's pipes in any order: a retry may be told after the success that followed it.
            said = self.said(ids["flaky"])
            return "succeeded" in said and said.count("retried") == 2

        # Its result may be found before its events are stored.
        wait_until(all_heard, what="all events", seconds=30, every=0.1)
        wait_until(
            lambda: self.ask("/sitrep")["health_status"] == "ok", what="the situation to be ok", seconds=30, every=0.2
        )


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    folder: Path = tmp_path_factory.mktemp("observed")
    with running_valkey() as valkey:
        url = f"redis://127.0.0.1:{valkey.port}"
        cluster = Cluster(f"{url}/0", folder, f"{url}/1", {"task_send_sent_event": True})
        observing = Observing(cluster)
        # Not its pool of threads: those race in Celery's buffer of events, and some are lost before anybody hears them.
        worker = Worker(cluster)
        load = Load(cluster)
        try:
            with worker:
                trial = Trial(observing.url(), cluster, worker, load)
                trial.history()
                yield trial
        finally:
            load.close()
            observing.stop()


@pytest.fixture
def open_trial(browser: Browser, trial: Trial) -> Iterator[OpenPage]:
    """As `open_page`, of the observing server."""
    with pages_of(browser, trial.url) as open_:
        yield open_


def figure(page: Page, label: str) -> Any:
    return page.locator(".tile", has=page.get_by_text(label, exact=True)).locator("b")


def test_the_first_page_is_the_situation_with_all_of_it(open_trial: OpenPage, trial: Trial) -> None:
    page = open_trial("/")
    expect(page.get_by_role("heading", name="OK", exact=True)).to_be_visible()
    expect(page.locator(".verdict")).to_contain_text("nothing wants attention")
    expect(figure(page, "Failed")).to_have_text("1")
    expect(figure(page, "Success rate")).to_contain_text("%")
    for tile in page.locator(".tile-note").all():
        expect(tile).to_have_text(re.compile("just now|s ago"))
    worker = page.locator("[id='worker-one@cluster']")
    for text in ("online", "prefork · Celery", "clock in step", "/ 2"):
        expect(worker).to_contain_text(text)
    expect(page.locator("#queue-celery")).to_contain_text("celery")
    expect(page.locator(f"[id='upcoming-{trial.ids['later']}']")).to_contain_text("in 49 min")
    expect(page.locator("#source-broker")).to_contain_text("complete")
    expect(page.locator("#source-events")).to_contain_text("heard by this server")
    row = page.locator(f"[id='task-{trial.ids['flaky']}']")
    expect(row).to_contain_text("Flaky")
    expect(row).to_contain_text("cluster.flaky")
    figure(page, "Failed").click()
    page.wait_for_url("**/tasks?state=failed")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_the_ways_between_the_pages(open_trial: OpenPage) -> None:
    page = open_trial("/situation")
    ways = page.get_by_role("navigation", name="Main").get_by_role("link")
    expect(ways).to_have_text(["Situation", "Tasks"])
    expect(ways.nth(0)).to_have_attribute("aria-current", "page")
    ways.nth(1).click()
    expect(page.get_by_role("heading", name="Tasks", exact=True)).to_be_attached()
    expect(ways.nth(1)).to_have_attribute("aria-current", "page")
    page.goto("/jobs")
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    page.goto("/jobs?state=failed")
    page.get_by_role("link", name="show all jobs").click()
    page.wait_for_url("**/jobs")


def test_the_situation_refreshes_itself_and_leaves_the_focus_alone(open_trial: OpenPage, trial: Trial) -> None:
    page = open_trial("/")
    before = int(figure(page, "Completed").inner_text())
    page.evaluate("window.same = true")
    page.locator(f"[id='link-{trial.ids['child']}']").focus()
    new = trial.send("add", 7, 7)
    expect(page.locator(f"[id='task-{new}'] .badge")).to_contain_text("succeeded")
    expect(figure(page, "Completed")).to_have_text(str(before + 1))
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    assert page.evaluate("document.activeElement.id") == f"link-{trial.ids['child']}"
    assert page.evaluate("window.same")


def test_a_page_that_nobody_sees_asks_nothing(open_trial: OpenPage) -> None:
    asked: list[str] = []

    def watch(request: Request) -> None:
        if "/console/" in request.url:
            asked.append(request.url)

    def prepare(page: Page) -> None:
        page.clock.install()
        page.on("request", watch)

    page = open_trial("/", before=prepare)
    hide = "hidden => { Object.defineProperty(document, 'hidden', {get: () => hidden, configurable: true}); document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, True)
    expect(page.locator("#live")).to_have_attribute("data-live", "paused")
    del asked[:]
    page.clock.run_for(60_000)
    assert asked == []
    with page.expect_request("**/console/situation"):
        page.evaluate(hide, False)
    expect(page.locator("#live")).to_have_attribute("data-live", "live")


def test_a_server_that_does_not_answer_is_said_and_what_was_known_stays(open_trial: OpenPage) -> None:
    page = open_trial("/", quiet=False)
    page.context.set_offline(True)
    expect(page.locator("#live")).to_have_attribute("data-live", "lost")
    expect(page.get_by_role("heading", name="OK", exact=True)).to_be_visible()
    page.context.set_offline(False)
    expect(page.locator("#live")).to_have_attribute("data-live", "live")


def test_tasks_are_filtered_by_the_address(open_trial: OpenPage, trial: Trial) -> None:
    page = open_trial("/tasks?task=cluster.flaky")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(1)
    expect(rows.locator(".c-tries")).to_have_text("2")
    expect(page.get_by_role("combobox", name="Task", exact=True)).to_have_value("cluster.flaky")
    page.goto("/tasks?state=FAILURE")
    expect(rows).to_have_count(1)
    expect(rows.locator(".why")).to_contain_text("ValueError")
    page.goto("/tasks?orphaned=true")
    expect(page.get_by_role("heading", name="No task fits this filter")).to_be_visible()
    page.get_by_role("link", name="show all tasks").click()
    page.get_by_label("State").select_option("failed")
    page.wait_for_url("**/tasks?state=failed")
    expect(rows).to_have_count(1)
    page.get_by_label("State").select_option("")
    page.get_by_placeholder("Search task").fill(trial.ids["flaky"])
    expect(rows).to_have_count(1)
    for query, some in (("worker=one%40cluster", True), ("queue=celery", True), ("worker=nobody", False)):
        page.goto(f"/tasks?{query}")
        expect(rows.first if some else page.get_by_role("heading", name="No task fits")).to_be_visible()


def test_tasks_have_pages_and_only_the_first_refreshes(open_trial: OpenPage, trial: Trial) -> None:
    tag = uuid4().hex
    sent = [trial.send("unicode_huge", f"{tag} {number}") for number in range(33)]
    trial.reaches(sent[-1], "succeeded")
    page = open_trial(f"/tasks?text={tag}")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(30)
    new = trial.send("unicode_huge", f"{tag} new")
    expect(rows.first).to_have_attribute("id", f"task-{new}")
    with page.expect_navigation():
        page.get_by_role("link", name="Older →").click()
    expect(rows).to_have_count(4)
    assert tag in page.url
    expect(page.locator("#live")).to_have_count(0)
    expect(page.locator("#tasks")).to_have_attribute("data-older", "")
    page.get_by_role("link", name="← Newest").click()
    expect(rows).to_have_count(30)


def test_a_task_shows_its_trail_with_the_retries(open_trial: OpenPage, trial: Trial) -> None:
    page = open_trial(f"/tasks/{trial.ids['flaky']}/view")
    expect(page.get_by_role("heading", name="Flaky", exact=True)).to_be_visible()
    expect(page.locator(".title .badge")).to_contain_text("succeeded")
    expect(page.locator(".full")).to_contain_text("cluster.flaky")
    said = page.locator(".trail b").all_inner_texts()
    assert said.count("started") == 3
    assert said.count("to be tried again") == 2
    assert said.count("succeeded") == 1
    expect(page.locator(".trail")).to_contain_text("try 3")
    expect(page.locator(".trail")).to_contain_text("one@cluster")
    expect(page.locator("pre.json").first).to_have_text("(2,)")
    page.get_by_role("link", name="one@cluster").click()
    page.wait_for_url("**/tasks?worker=one%40cluster")
    # And a chain is walked by links.
    page.goto(f"/tasks/{trial.ids['child']}/view")
    family = page.locator(".family li")
    expect(family).to_have_count(2)
    expect(family.nth(0)).to_contain_text("root and parent")
    expect(family.nth(1)).to_contain_text("this task")
    family.nth(0).get_by_role("link").click()
    page.wait_for_url(f"**/tasks/{trial.ids['root']}/view")
    expect(page.locator(".family li").nth(1)).to_contain_text("child")


def test_a_task_is_live_and_what_was_unfolded_stays_so(open_trial: OpenPage, trial: Trial) -> None:
    page = open_trial(f"/tasks/{trial.ids['fail']}/view")
    page.get_by_text("Traceback", exact=True).click()
    expect(page.locator("details pre")).to_contain_text("ValueError")
    # A refresh of its own accord would come in ten seconds: it has ended.
    with page.expect_response("**/console/tasks/**"):
        page.evaluate("document.querySelector('#task').dispatchEvent(new Event('refresh'))")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    expect(page.locator("details pre")).to_be_visible()
    running = trial.send("sleepy", 3)
    trial.reaches(running, "running")
    page.goto(f"/tasks/{running}/view")
    expect(page.locator(".title .badge")).to_contain_text("running")
    expect(page.locator(".title .badge")).to_contain_text("succeeded")


def test_hostile_text_stays_text(open_trial: OpenPage, trial: Trial) -> None:
    named = str(uuid4())
    trial.load.app.send_task(HOSTILE, args=[HOSTILE], task_id=named)
    trial.reaches(named, "queued", "failed")
    page = open_trial("/")
    expect(page.locator(f"[id='task-{named}']")).to_contain_text("<script>")
    page.goto(f"/tasks/{named}/view")
    expect(page.locator(".full")).to_contain_text("<script>")
    page.goto(f"/tasks/{trial.ids['fail']}/view")
    expect(page.locator(".card.error .message")).to_contain_text("<script>")
    page.goto(f"/tasks/{trial.ids['hostile']}/view")
    expect(page.locator("pre.json").first).to_contain_text("<script>")
    page.goto("/tasks?text=%3Cscript%3E")
    expect(page.locator("tbody tr").first).to_contain_text("<script>")
    expect(page.get_by_placeholder("Search task")).to_have_value("<script>")
    assert "owned" not in page.title()
    assert page.locator("main script, main img").count() == 0


def test_what_nobody_knows_is_a_page_with_a_way_back(open_trial: OpenPage) -> None:
    page = open_trial("/tasks/nobody/of/them/view", quiet=False)
    expect(page.get_by_text("nobody/of/them")).to_be_visible()
    page.get_by_role("link", name="All tasks", exact=True).click()
    page.wait_for_url("**/tasks")
    answer = page.request.get("/tasks?cursor=nonsense")
    assert answer.status == 422
    assert "expected cursor" in answer.text()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(open_trial: OpenPage, trial: Trial, width: int, scheme: str) -> None:
    page = open_trial("/", width=width, height=844, scheme=scheme)
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == ("rgb(16, 20, 22)" if scheme == "dark" else "rgb(246, 247, 248)")
    for path in ("/", "/tasks", *(f"/tasks/{trial.ids[name]}/view" for name in ("flaky", "hostile"))):
        page.goto(path)
        expect(page.locator("#live")).to_have_attribute("data-live", "live")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path


def test_a_killed_worker_is_seen_at_once(open_trial: OpenPage, trial: Trial) -> None:
    """The last of this file: the worker does not come back."""
    page = open_trial("/")
    expect(page.get_by_role("heading", name="OK", exact=True)).to_be_visible()
    trial.worker.kill()
    expect(page.get_by_role("heading", name="Degraded", exact=True)).to_be_visible()
    attention = page.locator(".attention")
    expect(attention).to_contain_text("No worker answers.")
    expect(attention.locator("code")).to_have_text("celery -A APP worker -E")
    expect(page.locator("[id='worker-one@cluster'] .badge")).to_contain_text("silent")
    expect(figure(page, "Success rate")).to_have_text("–")  # noqa: RUF001 - the dash of the page
    expect(page.locator(".tile").last).to_contain_text("when last known: no worker is online")
