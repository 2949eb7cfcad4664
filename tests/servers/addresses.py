"""Where the standing test bed is: the file `.testbed/env`, valid while `.testbed/lock` is held."""

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.servers.workspace import REPOSITORY

STANDING = REPOSITORY / ".testbed"
ENV_FILE = STANDING / "env"
LOCK_FILE = STANDING / "lock"


@dataclass(frozen=True)
class Addresses:
    """What the file says."""

    kubeconfig: Path
    s3_endpoint: str
    s3_access_key: str
    s3_secret_key: str
    kafka: str
    image: str
    containerd: Path
    """Only for us: where to import a newer daemon image."""

    def text(self) -> str:
        """The file's text."""
        values = {
            "KUBECONFIG": self.kubeconfig,
            "DCNIOS_TEST_S3_ENDPOINT": self.s3_endpoint,
            "DCNIOS_TEST_S3_ACCESS_KEY": self.s3_access_key,
            "DCNIOS_TEST_S3_SECRET_KEY": self.s3_secret_key,
            "DCNIOS_TEST_KAFKA": self.kafka,
            "DCNIOS_TEST_IMAGE": self.image,
            "DCNIOS_TESTBED_CONTAINERD": self.containerd,
        }
        return "".join(f"{key}={value}\n" for key, value in values.items())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads the file's text."""
        values = dict(line.split("=", 1) for line in text.splitlines())
        return cls(
            kubeconfig=Path(values["KUBECONFIG"]),
            s3_endpoint=values["DCNIOS_TEST_S3_ENDPOINT"],
            s3_access_key=values["DCNIOS_TEST_S3_ACCESS_KEY"],
            s3_secret_key=values["DCNIOS_TEST_S3_SECRET_KEY"],
            kafka=values["DCNIOS_TEST_KAFKA"],
            image=values["DCNIOS_TEST_IMAGE"],
            containerd=Path(values["DCNIOS_TESTBED_CONTAINERD"]),
        )


def standing() -> Addresses | None:
    """The test bed that `python -m tests.servers` keeps for this checkout, if it is ready."""
    try:
        with LOCK_FILE.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Addresses.parse(ENV_FILE.read_text()) if ENV_FILE.exists() else None
    except FileNotFoundError:
        pass
    return None
