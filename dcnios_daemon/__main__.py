"""``python -m dcnios_daemon`` is the ``dcnios`` command."""

from dcnios_daemon.cli import main

main()
