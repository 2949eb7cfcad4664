"""Runs a container for every file that lands and every message that arrives, exactly once.

Start reading at :mod:`dcnios_daemon.core.ports` (the contracts between the parts) and
:mod:`dcnios_daemon.app` (the one place that wires them).
"""

__version__ = "0.1.0"
