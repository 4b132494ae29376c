-- Schema 4.

-- Work on the images of the VM that was begun and is not finished, as JSON; null if there is none.
ALTER TABLE vm ADD COLUMN pending TEXT;

-- What the images cannot hold about their snapshots.
CREATE TABLE snapshot (
    vm          TEXT NOT NULL REFERENCES vm (id) ON DELETE CASCADE,
    drive       TEXT NOT NULL,
    -- The name inside the image.
    tag         TEXT NOT NULL,
    name        TEXT NOT NULL,
    image_id    TEXT NOT NULL,
    image_date  INTEGER NOT NULL,
    set_id      TEXT,
    kind        TEXT NOT NULL,
    description TEXT,
    -- As JSON.
    fingerprint TEXT,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (vm, drive, tag)
) STRICT, WITHOUT ROWID;
