"""What the API server itself says of the Jobs that were created: its audit log, read as it grows."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path


class Audit:
    """Creations of Jobs in one namespace, in the order of the log."""

    def __init__(self, log: Path, namespace: str) -> None:
        self._log = log
        self._namespace = namespace
        self._offset = log.stat().st_size if log.exists() else 0

    def new(self) -> list[float]:
        """When each Job created since the last call was done, seconds since the epoch."""
        return list(self._read())

    def _read(self) -> Iterator[float]:
        with self._log.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                if b'"verb":"create"' not in line or b'"resource":"jobs"' not in line:
                    continue
                entry = json.loads(line)
                if (
                    entry["objectRef"]["namespace"] == self._namespace
                    and entry["responseStatus"]["code"] == 201
                ):
                    yield datetime.fromisoformat(entry["stageTimestamp"]).timestamp()
