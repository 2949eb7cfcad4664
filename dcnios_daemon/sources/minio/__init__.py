"""Objects created in (or removed from) MinIO or any S3 store: told by it, found again by listing.

There are three ways to be told: the store's webhook (``receive: [webhook]``), a queue that it fills
(``sqs``), and a stream of MinIO's that we hold open (``listen``), which needs no change at the store. A
stream loses what happens while one side is away, a webhook what its store does not keep; a listing alone is
slow. Together with it they lose no creation, because all know a happening by the same key. Objects that were
there before the daemon's first start are taken, too. A removal that was not told is found only where it left
a delete marker.

``settings`` are the block in the configuration, ``records`` what the store says, ``listen`` the stream,
``queue`` and ``queue_client`` the queue, ``listing`` what it says, ``source`` the port. ``notification`` is
a bucket's own configuration, for ``setup``, which has the bucket tell us, and ``check``, which looks whether
all could work; ``filters`` says what is wanted in the stores' words.
"""
