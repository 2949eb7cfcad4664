"""The status page in a real browser: it shows what there is, and runs nothing that a subject brings."""

import asyncio
import html
import shutil
from pathlib import Path

import pytest

from tests.unit.web_rig import HOLE, Port, port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=3000",
    "--dump-dom",
)


async def _shown(web: Port, profile: Path) -> str:
    """The page's elements once its script has run."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={profile}",
        f"http://127.0.0.1:{web.number}/",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            shown, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return shown.decode()


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
async def test_markup_in_subjects_reasons_and_words_is_only_text(tmp_path: Path) -> None:
    async with port(status=_status) as web:
        page = await _shown(web, tmp_path / "profile")
    assert "<title>dcnios</title>" in page
    assert "<img" not in page
    assert page.count(html.escape(HOLE, quote=False)) >= 4, page
    assert "not ready" in page


def _status() -> dict[str, object]:
    return {
        "instance": HOLE,
        "version": "1",
        "ready": False,
        "reasons": {"sink job": HOLE},
        "limits": {"max_events": 10, "max_bytes": 1 << 20, "resume_at": 0.8},
        "sources": {"s": {"kind": "toy", "state": "waiting", "accepted": 1, "error": HOLE}},
        "routes": {"r": {"run": "dry-run", "from": ["s"]}},
    }


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
async def test_why_a_route_waits_is_shown(tmp_path: Path) -> None:
    waits = {**_status(), "routes": {"r": {"run": "job", "from": ["s"], "waits": "left alone for 9 s more"}}}
    async with port(status=lambda: waits) as web:
        page = await _shown(web, tmp_path / "profile")
    assert '<td class="bad">left alone for 9 s more' in page, page


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
async def test_a_paused_route_is_shown_as_such(tmp_path: Path) -> None:
    async with port(status=_status) as web:
        await web.journal.pause("r")
        page = await _shown(web, tmp_path / "profile")
    assert '<td class="bad">paused since ' in page, page
    assert '<td class="good">going' not in page
