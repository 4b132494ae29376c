-- Schema 1. Times are nanoseconds since 1970 in UTC; paths are text, or a blob if they are not UTF-8.

-- What a list shows, in its order.
CREATE TABLE vm (
    name        TEXT NOT NULL PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    revision    INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    -- The last run; all null before the first.
    boot        INTEGER,
    started_at  INTEGER,
    phase       TEXT CHECK (phase IN ('starting', 'running', 'stopping', 'ended')),
    end_reason  TEXT,
    ended_at    INTEGER,
    pid         INTEGER,
    start_ticks INTEGER,
    host_boot   TEXT,
    sockets     ANY,
    records     ANY,
    -- The forwarded ports, as JSON; null if there are none.
    forwards    TEXT
) STRICT, WITHOUT ROWID;

-- Separate from `vm`, so that a list does not read it.
CREATE TABLE definition (
    vm      TEXT NOT NULL PRIMARY KEY REFERENCES vm (id) ON DELETE CASCADE,
    content TEXT NOT NULL,
    -- Where each value came from, as a JSON object.
    origins TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE storage (
    sequence   INTEGER PRIMARY KEY,
    path       ANY NOT NULL UNIQUE,
    vm         TEXT REFERENCES vm (id) ON DELETE SET NULL,
    drive      TEXT NOT NULL,
    kind       TEXT NOT NULL,
    size       INTEGER,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX storage_of_vm ON storage (vm, sequence);

-- History and events outlive their VM, so they have no foreign key to it.
CREATE TABLE history (
    sequence          INTEGER PRIMARY KEY AUTOINCREMENT,
    at                INTEGER NOT NULL,
    user              TEXT NOT NULL,
    host              TEXT NOT NULL,
    pid               INTEGER NOT NULL,
    vm                TEXT,
    operation         TEXT NOT NULL,
    arguments         TEXT NOT NULL,
    inverse_operation TEXT,
    inverse_arguments TEXT
) STRICT;

CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    vm       TEXT,
    vm_name  TEXT,
    data     TEXT NOT NULL
) STRICT;
