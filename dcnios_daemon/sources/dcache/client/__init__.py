"""How one talks to dCache's frontend; what follows from its words is decided a floor above.

``frontend`` makes the calls, at the ``pace`` that the site bears, with the credentials of ``login``.
``channel`` and ``namespace`` are its two interfaces: event channels with their subscriptions, and files,
which ``listing`` shows by the directory. ``sse`` decodes an event stream, ``inotify`` its events. Facts are
from dCache's sources, version 12.1.
"""
