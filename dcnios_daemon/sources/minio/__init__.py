"""Objects created in (or removed from) MinIO or any S3 store: told by it, found again by listing.

There are two ways to be told: the store's webhook (``receive: [webhook]``), and a stream of MinIO's that we
hold open (``listen``), which needs no change at the store. Either loses events whenever one side restarts at
the wrong moment; a listing alone is slow. Together with it they lose no creation, because all know a
happening by the same key. Objects that were there before the daemon's first start are taken, too. A removal
that was not told is not found by listing: nothing is left of it.

``settings`` are the block in the configuration, ``records`` what the store says, ``listen`` the stream,
``source`` the port with the listing, ``check`` looks whether it could work.
"""
