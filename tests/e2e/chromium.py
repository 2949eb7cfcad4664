"""A real browser, worked as a person works it: it looks at the page, clicks on places and types.

Chromium's own protocol (https://chromedevtools.github.io/devtools-protocol/) over its websocket; no driver is
needed beside the browser.
"""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.servers import polling

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 120.0
"""Seconds until what is waited for must be there: the machine may be slow and shared."""
LOOKS = 0.1
AGAIN = 10.0
"""Seconds after which what had no effect is done again."""
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--window-size=1400,1000",
)
_PLACE = """
(() => {
  const found = [...document.querySelectorAll(%s)].filter(
    (element) => element.textContent.includes(%s) && element.getClientRects().length);
  const element = found.at(-1);
  if (!element) return null;
  element.scrollIntoView({block: "nearest"});
  const box = element.getBoundingClientRect();
  return {x: box.x + box.width / 2, y: box.y + box.height / 2};
})()
"""


class Page:
    """The browser's one page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._count = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; what happens meanwhile is not listened to."""
        self._count += 1
        await self._socket.send_json({"id": self._count, "method": method, "params": parameters})
        while True:
            async with asyncio.timeout(PATIENCE):
                answer: dict[str, Any] = await self._socket.receive_json()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    async def open(self, url: str) -> None:
        """Go there."""
        await self.call("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression is in the page now."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait for an expression to be true; a page that is just being left has none."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._seen(expression)
        except TimeoutError:
            said = await self.value("document.body?.innerText")
            pytest.fail(f"never true: {expression}\nThe page says:\n{said}")

    async def _seen(self, expression: str) -> Any:
        while not (seen := await self.value(expression)):  # noqa: ASYNC110 - pages tell of nothing
            await asyncio.sleep(LOOKS)
        return seen

    async def click(self, selector: str, text: str = "", *, times: int = 1) -> None:
        """Click on the innermost, last element of this selector that shows the text, once it is there."""
        place = await self.until(_PLACE % (json.dumps(selector), json.dumps(text)))
        for count in range(1, times + 1):
            for event in ("mousePressed", "mouseReleased"):
                await self.call(
                    "Input.dispatchMouseEvent", type=event, button="left", clickCount=count, **place
                )

    async def work(self, action: Callable[[], Awaitable[None]], *, until: str) -> None:
        """Do it until an expression is true: a page that is still busy with itself overlooks clicks."""
        for _ in range(int(PATIENCE / AGAIN)):
            await action()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN):
                    await self._seen(until)
                    return
        await self.until(until)

    async def type(self, text: str) -> None:
        """Type it where the cursor is."""
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, *, code: int, control: bool = False) -> None:
        """Press a key; ``code`` is its number on a keyboard (``keyCode``)."""
        keys = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 2 if control else 0}
        await self.call("Input.dispatchKeyEvent", type="rawKeyDown", **keys)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **keys)


@contextlib.asynccontextmanager
async def browser(profile: Path) -> AsyncIterator[Page]:
    """A browser with an empty page, gone afterwards."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *_FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port = await asyncio.to_thread(_port, profile / "DevToolsActivePort")
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(await _page(session, port), max_msg_size=0) as socket,
        ):
            yield Page(socket)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _port(file: Path) -> str:
    """Chromium writes it down when it listens."""
    polling.until(lambda: file.exists() and "\n" in file.read_text(), "Chromium's port", PATIENCE)
    return file.read_text().splitlines()[0]


async def _page(session: aiohttp.ClientSession, port: str) -> str:
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        targets = await answer.json()
    return str(next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page"))
