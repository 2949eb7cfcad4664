-- The journal's tables. One writer (the daemon); `dcnios queue` reads and repairs beside it.
--
-- An event is one row of `events` and, per route that it takes, one row of `deliveries`. Ids come from one
-- counter (meta 'next') and are never used again: an event's id is the id of its first delivery, the others
-- follow without a gap, so that neither needs an index to find the other, and ids are the order of arrival.
--
-- Settling takes the body away (data NULL) and leaves the two thin rows for people until newer ones push them
-- out (`history`). The key stays longer, in `keys`: it is what makes a second arrival a duplicate.
--
-- No auto_vacuum: freed pages are used again by the next events, so the file is as large as the journal ever
-- was full, which its bounds limit; vacuuming would move pages (write them twice) to give back what will be
-- needed again at the next outage.

-- Single numbers: schema (version of this file), next (id), turn (of settlement), events, bytes, duplicates,
-- history (settled rows kept), clock (the journal's own time, see steady.py).
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    n NUMERIC NOT NULL
) WITHOUT ROWID;

-- Routes and sources, so that a delivery carries a small integer. The unrouted ones have the name ''.
CREATE TABLE names (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- How far each source has been read; written in the transaction that holds the events before it.
CREATE TABLE cursors (
    source INTEGER PRIMARY KEY,
    cursor BLOB NOT NULL
);

-- Every key that must not be accepted again: 20 bytes, and the event it belongs to.
CREATE TABLE keys (
    key BLOB PRIMARY KEY,
    event INTEGER NOT NULL,
    since REAL NOT NULL,            -- accepted or renewed, in the journal's own time
    routed INTEGER NOT NULL         -- 0: no route wanted it, so one may yet
) WITHOUT ROWID;

-- Keys by time of settlement or renewal, one row per transaction, 20 bytes each back to back. What is due to
-- be forgotten is at the front, so that neither a scan of `keys` nor an index over it is needed, and settling
-- writes to one place instead of touching a random page per key. A key may be in several rows; one that was
-- accepted or renewed since a row was written outlives that row.
CREATE TABLE remembered (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,               -- in the journal's own time; grows from row to row
    keys BLOB NOT NULL
);

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    source INTEGER NOT NULL,
    accepted REAL NOT NULL,
    routes INTEGER NOT NULL,        -- how many deliveries it was given
    open INTEGER NOT NULL,          -- how many of them are not settled
    bytes INTEGER NOT NULL,         -- what it counts against the bound
    head BLOB NOT NULL,             -- JSON array, see records.Head
    data BLOB                       -- NULL once settled
);

-- state: 0 queued, 1 queued but not before retry_at, 2 submitting, 3 running, 4 dead,
--        5 succeeded, 6 dropped, 7 unrouted. From 5 on it is settled.
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    event INTEGER NOT NULL,
    route INTEGER NOT NULL,
    state INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 1,
    retry_at REAL,                  -- in the journal's own time
    claimed REAL,
    submitted REAL,
    settled REAL,
    turn INTEGER,                   -- settled as the how-manyth: unlike a time it never goes back
    name TEXT NOT NULL DEFAULT '',  -- the order's name
    together INTEGER,               -- the first delivery of its order, if the order has several
    note TEXT NOT NULL DEFAULT '',
    outcome TEXT                    -- JSON, see core.ports.Outcome
);

-- A route's queue in order of arrival; also every list that people ask for. (The rowid is its last column.)
CREATE INDEX place ON deliveries (route, state);
-- What comes due next.
CREATE INDEX waiting ON deliveries (retry_at) WHERE state = 1;
-- What is pruned next.
CREATE INDEX settled ON deliveries (turn) WHERE turn IS NOT NULL;
-- Orders of several that were given back whole and must be made whole again.
CREATE INDEX together ON deliveries (together) WHERE together IS NOT NULL AND state = 0;

-- Deliveries by route and state, kept by every transaction; state 1 counts as 0.
CREATE TABLE counters (
    route INTEGER NOT NULL,
    state INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (route, state)
) WITHOUT ROWID;

-- Written to find out whether a disk that failed takes data again.
CREATE TABLE probe (
    id INTEGER PRIMARY KEY,
    filler BLOB NOT NULL
);

INSERT INTO names (id, name) VALUES (0, '');
INSERT INTO probe (id, filler) VALUES (0, x'');
INSERT INTO meta (name, n) VALUES
    ('schema', 1), ('next', 1), ('turn', 1), ('events', 0), ('bytes', 0), ('duplicates', 0), ('history', 0),
    ('clock', 0);
