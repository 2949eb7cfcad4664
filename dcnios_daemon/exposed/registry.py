"""Which kinds of exposed services there are."""

from dcnios_daemon.exposed.settings import Container, Exposed, Notebook

KINDS: dict[str, type[Exposed]] = {"container": Container, "notebook": Notebook}
