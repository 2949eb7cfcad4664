"""dCache: uploads told by the frontend's event stream, made sure of by stats, and made complete by listings.

The stream alone cannot be trusted: it says *closed* for uploads that were broken off, it loses events without
a word while watches change, and what happens before a watch has reached every pool is never told. So every
happening is looked at before it becomes an event, and directories are listed after each possible loss and on
a period. The key of an upload is the file's PNFS-ID, which an overwrite changes and a rename keeps: so it is
one event, by whichever of these ways, and under whichever name, it was seen first.

``sse`` decodes the stream, ``inotify`` its events; ``frontend`` makes the calls, ``channel`` and
``namespace`` are the two interfaces behind them; ``watches`` knows what is watched, ``walker`` lists it,
``ledger`` keeps what is still to be looked at, what can be given, and how far the stream has been dealt with;
``reader`` reads the stream, ``interpreter`` draws the conclusions, ``checker`` looks, ``facts`` makes events,
``source`` is the port. The protocol's facts are from dCache's sources, version 12.1.
"""
