"""A real Chromium, and the console it looks at."""

import shutil
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.support.consoles import Api, admin, api, console, db, settings

__all__ = ["admin", "api", "console", "db", "settings"]

#: Without these, a browser on a closed network spends its time with its maker's hosts.
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    assert binary, "Chromium is missing; 'make setup-tests' installs it."
    async with async_playwright() as driver:
        opened = await driver.chromium.launch(executable_path=binary, args=list(QUIET))
        yield opened
        await opened.close()


class Visit:
    """One tab, and every complaint of its console."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)

    async def open(self, path: str) -> None:
        await self.page.goto(f"{self.url}{path}")

    async def text(self, selector: str) -> str:
        return await self.page.inner_text(selector)


@pytest.fixture
async def visit(browser: Browser, api: Api) -> AsyncGenerator[Visit]:
    """A tab that nobody has signed in on."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    page = await context.new_page()
    page.set_default_timeout(10_000)
    yield Visit(page, api.url)
    await context.close()


@pytest.fixture
async def signed_in(visit: Visit, api: Api) -> Visit:
    """A tab of an administrator."""
    await visit.open("/login")
    await visit.page.fill("#token", await api.token("admin"))
    await visit.page.click("button[type=submit]")
    await visit.page.wait_for_selector("#runs", state="attached")
    return visit
