"""The composition root: settings in, running daemon out. What it gives to the commands is named here.

``wiring`` makes the ``parts`` from the settings, ``life`` starts and ends them, ``reload`` changes routes and
limits on the way, ``status`` says how they are, ``commands`` is for whoever needs a part without a life.
"""

from dcnios_daemon.app.commands import journal, render
from dcnios_daemon.app.life import run
from dcnios_daemon.app.wiring import build_route, build_sinks, build_stores

__all__ = ["build_route", "build_sinks", "build_stores", "journal", "render", "run"]
