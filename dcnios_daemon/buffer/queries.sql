-- Every statement of the journal, by name.
--
-- Two habits explain their form. Each statement of the hot path handles many rows and gives at most one row
-- back, as JSON: sqlite3 lets go of Python's interpreter lock at every row, and under a busy event loop
-- getting it back costs more than the row. And rows come in as a JSON array, or as VALUES groups that
-- queries.py repeats, for the same reason.

-- == books: what is kept in memory ==

-- name: meta
SELECT name, n FROM meta;

-- name: names
SELECT json_group_object(name, id) FROM names;

-- name: counters
SELECT json_group_array(json_array(route, state, n)) FROM counters;

-- When the oldest queued delivery of each route was accepted.
-- name: oldest
SELECT json_group_array(json_array(route, accepted)) FROM (
    SELECT r.value AS route, (
        SELECT e.accepted FROM events AS e WHERE e.id = (
            SELECT d.event FROM deliveries AS d WHERE d.id = (
                SELECT min(first) FROM (
                    SELECT min(id) AS first FROM deliveries WHERE route = r.value AND state = 0
                    UNION ALL
                    SELECT min(id) FROM deliveries WHERE route = r.value AND state = 1
                )
            )
        )
    ) AS accepted
    FROM json_each(:routes) AS r
);

-- name: next_due
SELECT min(retry_at) FROM deliveries WHERE state = 1;

-- name: next_expiry
SELECT at FROM remembered ORDER BY id LIMIT 1;

-- name: set_meta
INSERT OR REPLACE INTO meta (name, n) VALUES (?, ?);

-- name: forget_meta
DELETE FROM meta WHERE name = :name;

-- name: set_counters
INSERT OR REPLACE INTO counters (route, state, n) VALUES (?, ?, ?);

-- name: add_name
INSERT INTO names (id, name) VALUES (:id, :name);

-- == append ==

-- name: known_keys
SELECT key, event, since, routed FROM keys WHERE key IN (?);

-- name: open_events
SELECT json_group_array(id) FROM events WHERE open > 0 AND id IN (SELECT value FROM json_each(:ids));

-- New ones, renewed ones, and those of unrouted events that are accepted after all.
-- name: put_keys
INSERT OR REPLACE INTO keys (key, event, since, routed) VALUES (?, ?, ?, ?);

-- The same where all belong to new events, from an id on. In the order of the keys, or each would cost a page;
-- of a key that is there twice (no route wanted it, then one did) the later event counts.
-- name: put_new_keys
INSERT OR REPLACE INTO keys (key, event, since, routed)
SELECT key, id, :since, open > 0 FROM events WHERE id >= :first ORDER BY key, id;

-- name: add_events
INSERT INTO events (id, key, source, accepted, routes, open, bytes, head, data)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_deliveries
INSERT INTO deliveries (id, event, route, state) VALUES (?, ?, ?, ?);

-- name: add_unrouted
INSERT INTO deliveries (id, event, route, state, settled, turn) VALUES (?, ?, 0, 7, ?, ?);

-- name: set_cursor
INSERT OR REPLACE INTO cursors (source, cursor) VALUES (:source, :cursor);

-- name: cursor
SELECT cursor FROM cursors WHERE source = :source;

-- == claim ==

-- Retries whose time has come stand in their old place again.
-- name: promote
UPDATE deliveries SET state = 0, retry_at = NULL WHERE state = 1 AND retry_at <= :now;

-- name: ready
SELECT json_group_array(json_array(id, event, attempt, together, bytes)) FROM (
    SELECT d.id, d.event, d.attempt, d.together, e.bytes
    FROM deliveries AS d INDEXED BY place CROSS JOIN events AS e ON e.id = d.event
    WHERE d.route = :route AND d.state = 0
    ORDER BY d.id LIMIT :most
);

-- name: members
SELECT json_group_array(json_array(d.id, d.event, d.attempt, d.together, e.bytes))
FROM deliveries AS d INDEXED BY together CROSS JOIN events AS e ON e.id = d.event
WHERE d.together = :together AND d.together IS NOT NULL AND d.state = 0;

-- Four columns side by side, each gathered by itself: joining them row by row costs six times as much. Data
-- goes as hex digits because group_concat of older versions ends a text at its first zero byte.
-- name: bodies
SELECT
    '[' || group_concat('[' || e.id || ',' || e.source || ',' || e.accepted || ']') || ']',
    '[' || group_concat(e.head) || ']',
    group_concat(lower(hex(e.key))),
    group_concat(hex(e.data))
FROM json_each(:events) AS j CROSS JOIN events AS e ON e.id = j.value;

-- name: claim
WITH j (id, name, together, claimed, sink, keep) AS (VALUES (?, ?, ?, ?, ?, ?))
UPDATE deliveries SET
    state = 2, claimed = j.claimed, submitted = NULL, note = '', name = j.name, together = j.together,
    sink = j.sink, keep = j.keep
FROM j WHERE deliveries.id = j.id;

-- == from claim to settlement ==

-- name: look
SELECT json_group_array(json_array(
    d.id, d.route, d.state, d.attempt, d.name, d.together, d.note, d.event, e.open, e.bytes, lower(hex(e.key))
))
FROM json_each(:ids) AS j
CROSS JOIN deliveries AS d ON d.id = j.value
CROSS JOIN events AS e ON e.id = d.event;

-- name: submitting
SELECT json_group_array(json_array(d.id, d.route))
FROM json_each(:ids) AS j CROSS JOIN deliveries AS d ON d.id = j.value
WHERE d.state = 2;

-- name: start
UPDATE deliveries SET state = 3, submitted = :now WHERE id IN (SELECT value FROM json_each(:ids));

-- name: change
WITH j (id, state, attempt, name, together, note, retry_at, turn, settled, outcome) AS (
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
)
UPDATE deliveries SET
    state = j.state, attempt = j.attempt, name = j.name, together = j.together, note = j.note,
    retry_at = j.retry_at, turn = j.turn, settled = j.settled, outcome = coalesce(j.outcome, deliveries.outcome)
FROM j WHERE deliveries.id = j.id;

-- name: close_events
UPDATE events SET open = 0, data = NULL WHERE id IN (SELECT value FROM json_each(:ids));

-- name: close_in_part
WITH j (id, open) AS (VALUES (?, ?))
UPDATE events SET open = j.open FROM j WHERE events.id = j.id;

-- name: remember
INSERT INTO remembered (at, keys) VALUES (:at, :keys);

-- == housekeeping ==

-- name: longest_remembered
SELECT id, at, keys FROM remembered ORDER BY id;

-- name: forget_rows
DELETE FROM remembered WHERE id <= :upto;

-- name: forget_keys
WITH j (key, at) AS (VALUES (?, ?))
DELETE FROM keys WHERE key IN (
    SELECT j.key FROM j CROSS JOIN keys AS k ON k.key = j.key WHERE k.since <= j.at
);

-- name: oldest_settled
SELECT json_group_array(json_array(id, event)) FROM (
    SELECT id, event FROM deliveries WHERE turn IS NOT NULL ORDER BY turn LIMIT :most
);

-- name: prune_deliveries
DELETE FROM deliveries WHERE id IN (SELECT value FROM json_each(:ids));

-- name: prune_events
DELETE FROM events WHERE id IN (SELECT value FROM json_each(:ids)) AND NOT EXISTS (
    SELECT 1 FROM deliveries AS d WHERE d.id >= events.id AND d.id < events.id + events.routes
);

-- name: fill_probe
UPDATE probe SET filler = zeroblob(:bytes);

-- == views: what people and a later life ask for ==

-- name: in_flight
SELECT d.id, n.name, d.attempt, lower(hex(e.key)), d.name, d.state, d.claimed, d.sink, d.keep
FROM names AS n
CROSS JOIN deliveries AS d INDEXED BY place ON d.route = n.id AND d.state IN (2, 3)
CROSS JOIN events AS e ON e.id = d.event;

-- name: newest
SELECT d.id, d.route, d.state, d.attempt, d.retry_at, d.claimed, d.submitted, d.settled, d.name, d.note,
    d.outcome, e.key, e.source, e.accepted, e.head
FROM deliveries AS d NOT INDEXED CROSS JOIN events AS e ON e.id = d.event
WHERE d.id < :after ORDER BY d.id DESC LIMIT :most;

-- name: newest_in_place
SELECT d.id, d.route, d.state, d.attempt, d.retry_at, d.claimed, d.submitted, d.settled, d.name, d.note,
    d.outcome, e.key, e.source, e.accepted, e.head
FROM deliveries AS d INDEXED BY place CROSS JOIN events AS e ON e.id = d.event
WHERE d.route = :route AND d.state = :state AND d.id < :after ORDER BY d.id DESC LIMIT :most;

-- name: picked
SELECT d.id, d.route, d.state, d.attempt, d.retry_at, d.claimed, d.submitted, d.settled, d.name, d.note,
    d.outcome, e.key, e.source, e.accepted, e.head
FROM json_each(:ids) AS j
CROSS JOIN deliveries AS d ON d.id = j.value
CROSS JOIN events AS e ON e.id = d.event;

-- Events by key: the remembered ones, and those whose key was forgotten before their row was pruned.
-- name: events_by_key
SELECT e.id, e.key, e.source, e.head, e.data, e.routes
FROM (
    SELECT event FROM (SELECT event FROM keys WHERE key BETWEEN :low AND :high LIMIT 10000)
    UNION
    SELECT d.event FROM deliveries AS d INDEXED BY settled CROSS JOIN events AS s ON s.id = d.event
    WHERE d.turn IS NOT NULL AND s.key BETWEEN :low AND :high
) AS found
CROSS JOIN events AS e ON e.id = found.event
ORDER BY e.id DESC LIMIT :most;

-- What is left of the deliveries of events: their least and greatest state; settled rows may be pruned.
-- name: ends
SELECT k.key, coalesce((
    SELECT min(d.state) FROM events AS e CROSS JOIN deliveries AS d ON d.id >= e.id AND d.id < e.id + e.routes
    WHERE e.id = k.event
), 5), coalesce((
    SELECT max(d.state) FROM events AS e CROSS JOIN deliveries AS d ON d.id >= e.id AND d.id < e.id + e.routes
    WHERE e.id = k.event
), 5)
FROM keys AS k WHERE k.routed = 1 AND k.key IN (?);

-- name: deliveries_of
SELECT d.id, d.route, d.state, d.attempt, d.retry_at, d.claimed, d.submitted, d.settled, d.name, d.note,
    d.outcome, e.key, e.source, e.accepted, e.head
FROM events AS e CROSS JOIN deliveries AS d ON d.id >= e.id AND d.id < e.id + e.routes
WHERE e.id = :event ORDER BY d.id DESC;

-- == fsck: whole tables, on a journal that nobody uses ==

-- Values that no journal writes: SQLite keeps what it finds in a damaged row.
-- name: check_values
SELECT 'delivery', id FROM deliveries AS d
WHERE typeof(d.state) <> 'integer' OR d.state NOT BETWEEN 0 AND 7 OR typeof(d.attempt) <> 'integer'
    OR d.attempt < 1 OR typeof(d.name) <> 'text' OR typeof(d.note) <> 'text'
    OR typeof(d.event) <> 'integer' OR d.route NOT IN (SELECT id FROM names)
    OR (d.state IN (2, 3) AND (d.name = '' OR typeof(d.claimed) NOT IN ('real', 'integer')))
    OR (d.outcome IS NOT NULL AND NOT json_valid(d.outcome))
UNION ALL
SELECT 'event', id FROM events AS e
WHERE typeof(e.key) <> 'blob' OR length(e.key) <> 20 OR e.source NOT IN (SELECT id FROM names)
    OR typeof(e.routes) <> 'integer' OR e.routes < 1 OR typeof(e.open) <> 'integer'
    OR typeof(e.head) <> 'blob' OR typeof(e.data) NOT IN ('blob', 'null') OR typeof(e.bytes) <> 'integer'
    OR (e.data IS NOT NULL AND e.bytes <> 256 + length(e.head) + length(e.data))
UNION ALL
SELECT 'name', id FROM names WHERE typeof(name) <> 'text' OR id NOT BETWEEN 0 AND 9999
UNION ALL
SELECT 'number', rowid FROM (
    SELECT 0 AS rowid FROM meta WHERE typeof(n) NOT IN ('integer', 'real')
    UNION ALL
    SELECT 8 - count(*) FROM meta WHERE name IN (
        'schema', 'next', 'turn', 'events', 'bytes', 'duplicates', 'history', 'clock'
    ) HAVING count(*) < 8
    UNION ALL
    SELECT max(id) - count(*) + 1 FROM names HAVING count(*) <> max(id) + 1
);

-- name: check_lone_deliveries
SELECT id FROM deliveries WHERE NOT EXISTS (SELECT 1 FROM events AS e WHERE e.id = deliveries.event);

-- name: mend_lone_deliveries
DELETE FROM deliveries WHERE NOT EXISTS (SELECT 1 FROM events AS e WHERE e.id = deliveries.event);

-- name: check_lone_events
SELECT id FROM events WHERE NOT EXISTS (
    SELECT 1 FROM deliveries AS d WHERE d.id >= events.id AND d.id < events.id + events.routes
);

-- What has a body is kept for people to see; nobody can know which routes it had.
-- name: mend_lone_events
INSERT INTO deliveries (id, event, route, state, note)
SELECT id, id, 0, 4, 'its deliveries were lost' FROM events WHERE data IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM deliveries AS d WHERE d.id >= events.id AND d.id < events.id + events.routes
);

-- name: drop_lone_events
DELETE FROM events WHERE data IS NULL AND NOT EXISTS (
    SELECT 1 FROM deliveries AS d WHERE d.id >= events.id AND d.id < events.id + events.routes
);

-- name: check_lost_bodies
SELECT d.id FROM deliveries AS d JOIN events AS e ON e.id = d.event WHERE d.state < 5 AND e.data IS NULL;

-- name: mend_lost_bodies
UPDATE deliveries SET
    state = 6, settled = coalesce(claimed, 0), turn = 0, retry_at = NULL, note = 'its event''s body was lost'
WHERE state < 5 AND EXISTS (SELECT 1 FROM events AS e WHERE e.id = deliveries.event AND e.data IS NULL);

-- name: check_kept_bodies
SELECT id FROM events WHERE data IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM deliveries AS d WHERE d.id >= events.id AND d.id < events.id + events.routes AND d.state < 5
);

-- name: mend_kept_bodies
UPDATE events SET data = NULL WHERE data IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM deliveries AS d WHERE d.id >= events.id AND d.id < events.id + events.routes AND d.state < 5
);

-- name: check_heads
SELECT id, head FROM events;

-- name: check_open
SELECT id, open, counted FROM (
    SELECT e.id, e.open, (
        SELECT count(*) FROM deliveries AS d
        WHERE d.id >= e.id AND d.id < e.id + e.routes AND d.state < 5
    ) AS counted
    FROM events AS e
) WHERE open <> counted;

-- name: mend_open
UPDATE events SET open = (
    SELECT count(*) FROM deliveries AS d
    WHERE d.id >= events.id AND d.id < events.id + events.routes AND d.state < 5
)
WHERE open <> (
    SELECT count(*) FROM deliveries AS d
    WHERE d.id >= events.id AND d.id < events.id + events.routes AND d.state < 5
);

-- name: check_keys
SELECT id FROM events WHERE open > 0 AND NOT EXISTS (SELECT 1 FROM keys AS k WHERE k.key = events.key);

-- name: mend_keys
INSERT OR IGNORE INTO keys (key, event, since, routed)
SELECT key, id, (SELECT n FROM meta WHERE name = 'clock'), 1 FROM events WHERE open > 0;

-- Only what is counted as of now: the settled ones are counted for all time.
-- name: check_counters
SELECT place.route, place.state, coalesce(c.n, 0), coalesce(real.n, 0)
FROM (
    SELECT route, state FROM counters WHERE state < 5
    UNION
    SELECT route, CASE state WHEN 1 THEN 0 ELSE state END FROM deliveries WHERE state < 5
) AS place
LEFT JOIN counters AS c ON c.route = place.route AND c.state = place.state
LEFT JOIN (
    SELECT route, CASE state WHEN 1 THEN 0 ELSE state END AS code, count(*) AS n
    FROM deliveries WHERE state < 5 GROUP BY route, code
) AS real ON real.route = place.route AND real.code = place.state
WHERE coalesce(c.n, 0) <> coalesce(real.n, 0);

-- name: check_totals
SELECT meta.name, meta.n, counted.n FROM meta JOIN (
    SELECT 'events' AS name, count(*) AS n FROM events WHERE open > 0
    UNION ALL
    SELECT 'bytes', coalesce(sum(bytes), 0) FROM events WHERE open > 0
    UNION ALL
    SELECT 'history', count(*) FROM deliveries WHERE turn IS NOT NULL
) AS counted ON counted.name = meta.name
WHERE meta.n <> counted.n;

-- name: check_next
SELECT meta.name, meta.n, taken.n + 1 FROM meta JOIN (
    SELECT 'next' AS name, coalesce(max(id), 0) AS n FROM deliveries
    UNION ALL
    SELECT 'turn', coalesce(max(turn), 0) FROM deliveries
) AS taken ON taken.name = meta.name
WHERE meta.n <= taken.n;

-- == salvage: from a damaged file into a new one; what was read first counts ==

-- name: salvage_make_witnesses
CREATE TEMP TABLE witnesses (id INTEGER PRIMARY KEY, route INTEGER, state INTEGER, flawed INTEGER DEFAULT 0);

-- name: salvage_make_unplaced
CREATE TEMP TABLE unplaced (id INTEGER, key BLOB, source INTEGER, head BLOB, data BLOB, why TEXT);

-- name: salvage_make_recalled
CREATE TEMP TABLE recalled (key BLOB PRIMARY KEY, at REAL) WITHOUT ROWID;

-- name: salvage_name
INSERT OR REPLACE INTO names (id, name) VALUES (?, ?);

-- name: salvage_cursor
INSERT OR IGNORE INTO cursors (source, cursor) VALUES (?, ?);

-- name: salvage_key
INSERT OR IGNORE INTO keys (key, event, since, routed) VALUES (?, ?, ?, ?);

-- name: salvage_remembered
INSERT OR IGNORE INTO remembered (id, at, keys) VALUES (?, ?, ?);

-- name: salvage_recalled
INSERT OR REPLACE INTO recalled (key, at) VALUES (?, ?);

-- name: salvage_event
INSERT OR IGNORE INTO events (id, key, source, accepted, routes, open, bytes, head, data)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: salvage_delivery
INSERT OR IGNORE INTO deliveries (
    id, event, route, state, attempt, retry_at, claimed, submitted, settled, turn, name, together, note, outcome,
    sink, keep
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: salvage_witness
INSERT INTO witnesses (id, route, state) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET route = excluded.route, state = excluded.state;

-- The delivery stood on a page with damaged rows: only a witness makes it certain.
-- name: salvage_doubt_one
INSERT INTO witnesses (id, flawed) VALUES (?, 1) ON CONFLICT DO UPDATE SET flawed = 1;

-- name: salvage_unplaced
INSERT INTO unplaced (id, key, source, head, data, why) VALUES (?, ?, ?, ?, ?, ?);

-- name: salvage_clock
UPDATE meta SET n = max(
    n, coalesce((SELECT max(since) FROM keys), 0), coalesce((SELECT max(at) FROM remembered), 0),
    coalesce((SELECT max(accepted) FROM events), 0)
) WHERE name = 'clock';

-- name: salvage_keys_of_events
INSERT OR IGNORE INTO keys (key, event, since, routed)
SELECT e.key, e.id, (SELECT n FROM meta WHERE name = 'clock'), NOT EXISTS (
    SELECT 1 FROM deliveries AS d WHERE d.id = e.id AND d.state = 7
)
FROM events AS e WHERE e.open = 0;

-- name: salvage_keys_recalled
INSERT OR IGNORE INTO keys (key, event, since, routed) SELECT key, 0, at, 1 FROM recalled;

-- name: salvage_never_forgotten
SELECT k.key FROM keys AS k WHERE k.key NOT IN (SELECT key FROM recalled) AND NOT EXISTS (
    SELECT 1 FROM events AS e WHERE e.id = k.event AND e.open > 0
);

-- name: salvage_remember
INSERT INTO remembered (at, keys) SELECT n, ? FROM meta WHERE name = 'clock';

-- name: salvage_used_names
SELECT number FROM (
    SELECT DISTINCT source AS number FROM events UNION SELECT DISTINCT route FROM deliveries
    UNION SELECT source FROM cursors UNION SELECT route FROM counters
);

-- name: salvage_bury_route
UPDATE deliveries SET state = 4, retry_at = NULL, note = 'the name of its route was lost'
WHERE route = :route AND state < 5;

-- name: salvage_bury_doubtful
UPDATE deliveries SET state = 4, retry_at = NULL, note = 'the journal was damaged here: it may have run'
WHERE state < 4 AND EXISTS (
    SELECT 1 FROM witnesses AS w WHERE w.id = deliveries.id AND (
        w.route <> deliveries.route OR w.state <> deliveries.state OR (w.flawed AND w.state IS NULL)
    )
);

-- An event whose key is known for another one, or not known although all keys could be read.
-- name: salvage_bury_keyless
UPDATE deliveries SET state = 4, retry_at = NULL, note = 'the journal was damaged here: it may have run'
WHERE state < 4 AND EXISTS (
    SELECT 1 FROM events AS e LEFT JOIN keys AS k ON k.key = e.key
    WHERE e.id = deliveries.event AND (k.event <> e.id OR (:all AND k.key IS NULL))
);

-- What the new journal cannot run: what was not taken, and what has no route to go.
-- name: salvage_told
SELECT u.key, u.source, u.head, u.data, u.why FROM unplaced AS u
WHERE NOT EXISTS (SELECT 1 FROM events AS e WHERE e.key = u.key)
UNION ALL
SELECT e.key, e.source, e.head, e.data, 'its deliveries were lost' FROM events AS e
WHERE e.data IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM deliveries AS d WHERE d.id >= e.id AND d.id < e.id + e.routes
)
UNION ALL
SELECT e.key, e.source, e.head, e.data, d.note FROM events AS e CROSS JOIN deliveries AS d
ON d.id >= e.id AND d.id < e.id + e.routes
WHERE e.data IS NOT NULL AND d.state = 4 AND d.note = 'the name of its route was lost'
GROUP BY e.id;

-- name: salvage_lone
SELECT count(*) FROM deliveries AS d WHERE NOT EXISTS (SELECT 1 FROM events AS e WHERE e.id = d.event);

-- Deliveries with something left to do that an event had, and has no more.
-- name: salvage_deliveries_fewer
SELECT coalesce(sum(max(0, e.open - (
    SELECT count(*) FROM deliveries AS d WHERE d.id >= e.id AND d.id < e.id + e.routes AND d.state < 5
))), 0) FROM events AS e WHERE e.open > 0;

-- name: salvage_bodies
SELECT count(*) FROM events WHERE open > 0 AND data IS NULL;

-- How many events had something left to do by the journal's own count, and how many there are.
-- name: salvage_events_counted
SELECT (SELECT n FROM meta WHERE name = 'events'), (SELECT count(*) FROM events WHERE open > 0);
