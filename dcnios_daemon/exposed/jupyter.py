"""What JupyterLab is told, in a pod and on this machine alike: a file without secrets, and variables.

jupyter-fs shows each bucket as a tree in the side bar, by s3fs: no FUSE, no privileges. The keys are the
variables that every S3 client knows, so that a notebook's own code needs none; they are not in jupyter-fs's
``kwargs``, which it sends to the browser.
"""

from collections.abc import Sequence
from typing import Any

from dcnios_daemon.exposed.settings import Notebook

CONFIG_NAME = "jupyter_server_config.py"
TOKEN = "JUPYTER_TOKEN"  # noqa: S105 - the variable's name
ACCESS_KEY, SECRET_KEY = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
INSTALL = "pip install 'dcnios-daemon[notebook]'"

_HEAD = f'''\
"""Written by dcnios: changes are lost. Secrets are in variables."""

import importlib.util
import os
import sys

for module in ("jupyterfs", "s3fs"):
    if importlib.util.find_spec(module) is None:
        sys.exit(f"the notebook server's Python lacks {{module}}: {INSTALL}")
if not os.environ.get("{TOKEN}"):
    sys.exit("{TOKEN} is empty: nobody would be asked for a login")
'''


def variables(service: Notebook) -> dict[str, str]:
    """What tells S3 clients of the store; the keys are added where they are."""
    return {"AWS_ENDPOINT_URL": service.endpoint, "AWS_DEFAULT_REGION": service.region}


def config(service: Notebook, *, ip: str, base: str) -> str:
    """The text of the configuration file.

    Args:
        service: What was asked for.
        ip: The address to listen on; empty: all.
        base: The path below which the server answers.
    """
    told: dict[str, Any] = {
        "ServerApp.ip": ip,
        "ServerApp.port": service.port,
        "ServerApp.port_retries": 0,
        "ServerApp.base_url": base.rstrip("/") + "/",
        "ServerApp.open_browser": False,
        "ServerApp.jpserver_extensions": {"jupyterfs.extension": True},  # its package (1.2.1) does not say so
        "ServerApp.contents_manager_class": "jupyterfs.metamanager.MetaManager",
        "LabApp.news_url": None,  # nobody outside of the site is asked for anything
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "JupyterFs.allow_user_resources": False,
        "JupyterFs.surface_init_errors": True,
        "JupyterFs.resources": [_resource(bucket) for bucket in service.buckets],
    }
    if not ip:
        told["ServerApp.allow_remote_access"] = True
    lines = [f"c.{trait} = {value!r}" for trait, value in told.items()]
    return "\n".join([_HEAD, "c = get_config()  # noqa: F821 - Jupyter gives it", *lines, ""])


def _resource(bucket: str) -> dict[str, Any]:
    """Others write there, too: what was listed once is not believed later."""
    kwargs = {"use_listings_cache": False}
    return {"name": bucket, "url": f"s3://{bucket}", "type": "fsspec", "auth": "none", "kwargs": kwargs}


def command(program: str, config_file: str, args: Sequence[str]) -> list[str]:
    """The command line."""
    return [program, f"--config={config_file}", *args]
