"""A directory whose files are moved away when they are done with, by a daemon that is killed on the way."""

import asyncio
from pathlib import Path

from tests.daemon import daemon, eventually

FILES = 40


async def test_each_file_runs_once_and_is_moved_once_over_kills(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    run = {
        "kind": "process",
        "script": 'cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH").$DCNIOS_ATTEMPT"',
        "stage_in": True,
        "stage_out": {"out": {"to": "file:outbox/", "using": "drop"}},
    }
    retry = {"attempts": 5, "backoff": "100ms", "on": ["infrastructure", "unknown"]}
    source = {"kind": "directory", "path": "inbox", "pattern": "**/*", "quiet": "100ms"}
    settings = {
        "sources": {"drop": source | {"processed": {"move_to": "inbox/done"}}},
        "routes": {"copy": {"from": ["drop"], "in_flight": 4, "retry": retry, "run": run}},
    }

    def moved() -> int:
        return len([path for path in (inbox / "done").glob("*.dat") if path.is_file()])

    async def some_moved() -> bool:
        return moved() > 0

    async def all_moved() -> bool:
        return moved() == FILES

    async with daemon(tmp_path, settings) as process:
        for number in range(FILES):
            (inbox / f"{number}.dat").write_text(f"{number}")
        await eventually(some_moved, "a file is moved")
        for _ in range(2):
            await process.kill()
            await asyncio.to_thread(process.start)
            await process.until_ready()
        await eventually(all_moved, "all files are moved", within=60)
        counts = await process.counts("copy")
        assert counts["succeeded"] == FILES
        assert not counts.get("dead")
    assert [path.name for path in inbox.iterdir()] == ["done"]
    assert {path.read_text() for path in (inbox / "done").iterdir()} == {f"{n}" for n in range(FILES)}
    outputs = [path.name.rpartition(".")[0] for path in (tmp_path / "outbox").glob("[!.]*")]
    assert sorted(set(outputs)) == sorted(f"{number}.dat" for number in range(FILES))
