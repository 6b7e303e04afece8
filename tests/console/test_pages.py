from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from headway.console.colours import COLOURS, states_css
from headway.model.commands import Finish
from headway.model.job import ErrorInfo
from headway.model.states import STATE_VIEWS, AttemptOutcome
from tests.acceptance.http_node import HttpNode
from tests.console.conftest import OpenPage

pytestmark = pytest.mark.browser
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def test_an_empty_list_teaches(open_page: OpenPage, node: HttpNode) -> None:
    page = open_page()
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    expect(page.get_by_text("headway demo")).to_be_visible()
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    node.submit("first.job")
    expect(page.get_by_text("first.job")).to_be_visible()


def test_the_list_is_live_from_queued_to_succeeded(open_page: OpenPage, node: HttpNode) -> None:
    page = open_page()
    job = node.submit("demo.add", max_retries=2)
    row = page.locator(f"[id='job-{job.id}']")
    expect(row.locator(".badge")).to_contain_text("queued")
    begun = node.begin()
    expect(row.locator(".badge")).to_contain_text("running")
    node.progress(begun, 3, 4, "nearly there")
    expect(row.locator("progress")).to_have_attribute("value", "75.00")
    expect(row).to_contain_text("nearly there")
    node.succeed(begun)
    expect(row.locator(".badge")).to_contain_text("succeeded")
    expect(row.locator(".c-tries")).to_have_text("1/3")


def test_a_job_page_is_live_with_log_attempts_and_result(open_page: OpenPage, node: HttpNode) -> None:
    job = node.submit("demo.add", args=[1, 2], kwargs={"c": "d"}, labels={"study": "A-12"}, max_retries=2)
    page = open_page(f"/jobs/{job.id}/view")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    first = node.begin()
    expect(page.locator(".title .badge")).to_contain_text("running")
    node.log(first, "line one", "line two")
    expect(page.locator(".log .line")).to_have_count(2)
    node.progress(first, 10, 40, "working")
    expect(page.locator(".progress-line")).to_contain_text("10 of 40")
    node.log(first, "line three")
    node.worker.finish(Finish(job.id, first.fence, AttemptOutcome.INTERRUPTED, begun=first))
    second = node.begin()
    node.log(second, "line four")
    node.succeed(second, '{"answer": 3}')
    expect(page.locator(".title .badge")).to_contain_text("succeeded")
    expect(page.locator(".log .line span")).to_have_text(["line one", "line two", "line three", "line four"])
    expect(page.locator(".outcome")).to_have_text(["succeeded", "interrupted"])
    expect(page.locator("pre.json").first).to_contain_text('"answer": 3')
    expect(page.get_by_text("A-12")).to_be_visible()


def test_a_failure_says_why_and_what_to_do(open_page: OpenPage, node: HttpNode) -> None:
    job = node.submit("demo.fail")
    node.fail(node.begin(), ErrorInfo("task_failed", "no such patient", "Traceback: here", "KeyError", "check the id"))
    page = open_page(f"/jobs/{job.id}/view")
    card = page.locator(".card.error")
    for text in ("task_failed", "KeyError", "no such patient", "check the id", f"headway jobs rerun {job.id}"):
        expect(card).to_contain_text(text)
    expect(page.get_by_text("Traceback: here")).to_be_hidden()
    page.get_by_text("Traceback", exact=True).click()
    expect(page.get_by_text("Traceback: here")).to_be_visible()


def test_a_result_with_a_plot_and_pk_parameters_is_shown(open_page: OpenPage, node: HttpNode) -> None:
    result = {
        "plots": {"svg": "/static/favicon.svg", "evil": "https://elsewhere.example/x.svg"},
        "outputs": [
            {"name": "plasma", "pk": {"cmax": {"p50": 23.1, "unit": "ug/L"}, "tmax": {"p50": 1.5, "unit": "h"}}}
        ],
    }
    job = node.run("pbpk", result=json.dumps(result))
    page = open_page(f"/jobs/{job.id}/view")
    image = page.locator(".plot img")
    expect(image).to_have_attribute("src", "/static/favicon.svg")
    assert image.evaluate("image => image.complete && image.naturalWidth > 0")
    expect(page.locator("table caption")).to_have_text("PK parameters · plasma")
    expect(page.locator("table:has(caption) tbody tr")).to_have_text(["cmax23.1ug/L", "tmax1.5h"])
    expect(page.locator(".plot a")).to_have_count(1)


def test_hostile_text_stays_text(open_page: OpenPage, node: HttpNode) -> None:
    job = node.submit(HOSTILE[:250], args=[HOSTILE], kwargs={HOSTILE: HOSTILE}, labels={HOSTILE[:60]: HOSTILE[:200]})
    begun = node.begin()
    node.progress(begun, 1, 2, HOSTILE)
    node.log(begun, HOSTILE)
    page = open_page("/")
    expect(page.locator("tbody tr")).to_contain_text("<script>")
    page.goto(f"/jobs/{job.id}/view")
    expect(page.locator(".log .line span")).to_have_text(HOSTILE)
    node.fail(begun, ErrorInfo("x", HOSTILE, HOSTILE, HOSTILE, HOSTILE))
    expect(page.locator(".card.error .message")).to_have_text(HOSTILE)
    assert page.title().startswith("<script>")
    assert page.locator("main script, main img").count() == 0


def test_filter_by_state_and_text_and_pages(open_page: OpenPage, node: HttpNode) -> None:
    for number in range(35):
        node.submit("bulk.load", args=[number])
    node.run("other.task")
    page = open_page("/")
    expect(page.locator("tbody tr")).to_have_count(30)
    page.get_by_role("link", name="Older →").click()
    expect(page.locator("tbody tr")).to_have_count(6)
    page.get_by_role("link", name="← Newest").click()
    page.get_by_placeholder("Search task").fill("other")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.wait_for_url("**/?text=other")
    node.submit("other.second")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_placeholder("Search task").fill("nothing like this")
    expect(page.get_by_role("heading", name="No job fits this filter")).to_be_visible()
    page.goto("/?state=succeeded")
    assert page.locator("tbody .badge").all_inner_texts() != []
    expect(page.get_by_label("State")).to_have_value("succeeded")


def test_a_lost_connection_is_shown_and_heals(open_page: OpenPage, node: HttpNode) -> None:
    page = open_page("/", quiet=False)
    live = page.locator("#live")
    expect(live).to_have_attribute("data-live", "live")
    page.context.set_offline(True)
    for subscription in list(node.tailer._subscriptions):
        node.tailer._loop.call_soon_threadsafe(subscription.close)  # type: ignore[union-attr] # a cut, as the server sees it
    expect(live).to_have_attribute("data-live", "lost")
    node.submit("while.away")
    page.context.set_offline(False)
    expect(live).to_have_attribute("data-live", "live")
    expect(page.get_by_text("while.away")).to_be_visible()


def test_an_unknown_job_is_a_page_with_a_way_back(open_page: OpenPage) -> None:
    page = open_page("/jobs/nobody/view", quiet=False)
    expect(page.get_by_text("nobody")).to_be_visible()
    page.get_by_role("link", name="All jobs", exact=True).click()
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(open_page: OpenPage, node: HttpNode, width: int, scheme: str) -> None:
    job = node.submit("a.rather.long.name.of_a_task.in_a_package" * 3, args=["x" * 400])
    begun = node.begin()
    node.log(begun, "y" * 400)
    node.progress(begun, 1, 3, "z" * 200)
    for path in ("/", f"/jobs/{job.id}/view"):
        page = open_page(path, width=width, height=844, scheme=scheme)
        expect(page.locator("#live")).to_have_attribute("data-live", "live")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_every_state_has_its_colour_and_can_be_read() -> None:
    assert set(COLOURS) == {view.state for view in STATE_VIEWS}
    css = states_css()
    for view in STATE_VIEWS:
        colour = COLOURS[view.state]
        assert f".state-{view.state.value} {{ --state: light-dark({colour.light}, {colour.dark})" in css
        assert _contrast(colour.light, colour.light_tint) >= 4.5
        assert _contrast(colour.dark, colour.dark_tint) >= 4.5
    assert len({colour.glyph for colour in COLOURS.values()}) == len(COLOURS)


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two colours."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
