"""The recipe for dCache's billing records, with the real daemon and a real broker."""

import asyncio
import json
import secrets
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from aiokafka import AIOKafkaProducer

from tests.daemon import daemon, eventually
from tests.fakes import billing
from tests.servers.fixtures import KafkaAccess

RECIPE = Path(__file__).parents[2] / "config/examples/dcache-billing-to-job.yaml"


def _here(kafka: KafkaAccess, topic: str) -> dict[str, Any]:
    """The recipe as it stands, but for the broker's address and that processes stand in for Jobs."""
    recipe = yaml.safe_load(RECIPE.read_text())
    recipe["sources"]["billing"] |= {"bootstrap": [kafka.bootstrap], "topics": [topic], "group": topic}
    recipe["sources"]["out"] = {"kind": "directory", "path": "out"}
    run = recipe["routes"]["uploaded"]["run"]
    recipe["routes"]["uploaded"]["run"] = {
        "kind": "process",
        "env": run["env"],
        "script": 'echo "$FILE_URL $FILE_SIZE $PNFSID" > "$TMP_OUTPUT_DIR/$DCNIOS_KEY"',
        "stage_out": {"said": {"to": "file:said/", "using": "out"}},
    }
    retry = recipe["routes"]["uploaded"]["retry"]
    retry["on"] = retry.pop(True)  # YAML 1.1, which the daemon does not read so
    del recipe["kubernetes"], recipe["daemon"]
    return dict(recipe)


async def test_only_finished_uploads_are_run(kafka: KafkaAccess, tmp_path: Path) -> None:
    topic = f"billing-{secrets.token_hex(4)}"
    wanted, others = billing.samples()
    records = [record for pair in zip(others, wanted * len(others), strict=False) for record in pair]
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await producer.start()
    try:
        for record in records:
            await producer.send_and_wait(topic, billing.encoded(record))  # without a key, as dCache does
    finally:
        await producer.stop()
    async with daemon(tmp_path, _here(kafka, topic)) as process:

        async def all_told() -> bool:
            counts = (await process.counts("uploaded")).get("succeeded", 0)
            unrouted = (await process.counts("")).get("unrouted", 0)
            return counts + unrouted >= len(records)

        await eventually(all_told, "all records taken or left", within=60)
        assert (await process.counts("uploaded"))["succeeded"] == len(others)
        assert (await process.counts("")) == {"unrouted": len(others)}
    said = await asyncio.to_thread(lambda: [file.read_text() for file in (tmp_path / "said").iterdir()])
    expected = Counter((record["pnfsid"], record["fileSize"]) for record in records if record in wanted)
    found = Counter((line.split()[2], int(line.split()[1])) for line in said)
    assert found == expected
    assert any("/data/raw/deep/b%20c%2B%E2%82%AC%23%25.h5" in line for line in said), json.dumps(said)
