"""The pages of what is observed on a server that runs jobs, and on one whose database is away."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.acceptance.http_node import HttpNode
from tests.console.conftest import OpenPage

pytestmark = pytest.mark.browser
HOSTILE = "<script>document.title='owned'</script>"


def test_a_server_that_runs_jobs_has_the_pages_too(open_page: OpenPage, node: HttpNode) -> None:
    page = open_page("/tasks")
    expect(page.get_by_role("heading", name="No tasks yet")).to_be_visible()
    expect(page.get_by_text("headway demo")).to_be_visible()
    job = node.submit("demo.add", args=[HOSTILE])
    expect(page.locator(f"[id='task-{job.id}'] .badge")).to_contain_text("queued")
    node.succeed(node.begin())
    expect(page.locator(f"[id='task-{job.id}'] .badge")).to_contain_text("succeeded")
    page.locator(f"[id='link-{job.id}']").click()
    page.wait_for_url(f"**/jobs/{job.id}/view")
    page.goto(f"/tasks/{job.id}/view")
    page.wait_for_url(f"**/jobs/{job.id}/view")
    ways = page.get_by_role("navigation", name="Main").get_by_role("link")
    expect(ways).to_have_text(["Jobs", "Tasks", "Situation"])
    ways.nth(2).click()
    expect(page.get_by_role("heading", name="OK", exact=True)).to_be_visible()
    expect(page.locator(".verdict")).to_contain_text("No cluster is watched here")
    ways.nth(0).click()
    expect(page.locator(f"[id='job-{job.id}']")).to_be_visible()


def test_without_our_own_database_nobody_can_tell(open_page: OpenPage, node: HttpNode) -> None:
    page = open_page("/situation", quiet=False)
    expect(page.get_by_role("heading", name="OK", exact=True)).to_be_visible()
    database, aside = node.folder / "registry.db", node.folder / "aside.db"
    node.store.close()
    database.rename(aside)
    database.mkdir()
    expect(page.get_by_role("heading", name="Unknown", exact=True)).to_be_visible()
    expect(page.locator(".attention")).to_contain_text("own database does not answer")
    # What was last known is shown as that.
    expect(page.locator(".verdict")).to_contain_text("What is below is what was known before.")
    expect(page.locator(".tile").first).to_contain_text("incomplete")
    assert page.goto("/situation").status == 200  # type: ignore[union-attr]
    database.rmdir()
    aside.rename(database)
    expect(page.get_by_role("heading", name="OK", exact=True)).to_be_visible()
