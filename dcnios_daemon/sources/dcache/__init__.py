"""dCache: uploads told by the frontend's event stream, made sure of by stats, and made complete by listings.

The stream alone cannot be trusted: it says *closed* for uploads that were broken off, it loses events
without a word while watches change, and what happens before a watch has reached every pool is never told.
So every happening is looked at before it becomes an event, and directories are listed after each possible
loss and on a period. The key of an upload is the file's PNFS-ID, which an overwrite changes and a rename
keeps: so it is one event, by whichever of these ways, and under whichever name, it was seen first.

``client`` talks to the frontend. ``source`` is the port and puts the parts of a ``connection`` together:
``reader`` reads the stream and ``interpreter`` draws the conclusions; ``walker`` goes through directories,
in the ``passes`` and ``visits`` that are due, keeps what is watched (``watches``), and ``finds`` says what
a listing shows. What is not certain is one of the ``checks`` that ``looker`` does, what was given up
incomplete is ``unfinished``, what lies on ``tape`` is remembered; ``facts`` makes events. ``ledger`` keeps
what is still to be looked at, what can be given, and how far the stream has been dealt with. Beside these:
``settings``, ``timing``, ``door`` (the store for staging) and ``check`` (for ``check --connect``).
"""
