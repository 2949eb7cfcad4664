"""``python -m dcnios_daemon`` is the ``dcnios`` command."""

from dcnios_daemon import cli

cli.main()
