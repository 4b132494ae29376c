-- Schema 1. Times are nanoseconds since 1970 in UTC; paths are the bytes of their names.

-- What a list shows. Names are unique for each host and owner.
CREATE TABLE vm (
    id            uuid PRIMARY KEY,
    host          text COLLATE "C" NOT NULL,
    owner         text COLLATE "C" NOT NULL,
    name          text COLLATE "C" NOT NULL,
    revision      bigint NOT NULL,
    created_at    bigint NOT NULL,
    -- The last run; all null before the first.
    boot          bigint,
    started_at    bigint,
    phase         text CHECK (phase IN ('starting', 'running', 'stopping', 'ended')),
    end_reason    text,
    ended_at      bigint,
    pid           bigint,
    start_ticks   bigint,
    host_boot     text,
    -- The inode of `/proc/self/ns/pid` in which `pid` is valid.
    pid_namespace bigint,
    sockets       bytea,
    records       bytea,
    -- The forwarded ports, as JSON; null if there are none.
    forwards      text,
    -- Work on the images of the VM that was begun and is not finished, as JSON; null if there is none.
    pending       text,
    CONSTRAINT vm_name UNIQUE (host, owner, name)
);

-- Separate from `vm`, so that a list does not read it.
CREATE TABLE definition (
    vm      uuid PRIMARY KEY REFERENCES vm (id) ON DELETE CASCADE,
    -- As JSON. The types `json` and `jsonb` do not keep the order of keys, or are checked again at every read.
    content text NOT NULL,
    -- Where each value came from, as a JSON object.
    origins text NOT NULL
);

CREATE TABLE storage (
    sequence   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Where the path is, also after its VM was removed.
    host       text COLLATE "C" NOT NULL,
    owner      text COLLATE "C" NOT NULL,
    path       bytea NOT NULL,
    vm         uuid REFERENCES vm (id) ON DELETE SET NULL,
    drive      text NOT NULL,
    kind       text NOT NULL,
    size       bigint,
    created_at bigint NOT NULL
);
-- A path can be longer than an entry of an index.
CREATE UNIQUE INDEX storage_path ON storage (host, owner, sha256(path));
CREATE INDEX storage_of_vm ON storage (vm, sequence);

-- What the images cannot hold about their snapshots.
CREATE TABLE snapshot (
    vm          uuid NOT NULL REFERENCES vm (id) ON DELETE CASCADE,
    drive       text COLLATE "C" NOT NULL,
    -- The name inside the image.
    tag         text COLLATE "C" NOT NULL,
    name        text NOT NULL,
    image_id    text NOT NULL,
    image_date  bigint NOT NULL,
    set_id      text,
    kind        text NOT NULL,
    description text,
    -- As JSON.
    fingerprint text,
    created_at  bigint NOT NULL,
    PRIMARY KEY (vm, drive, tag)
);

-- History and events outlive their VM, so they have no foreign key to it.
CREATE TABLE history (
    sequence          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at                bigint NOT NULL,
    "user"            text NOT NULL,
    host              text NOT NULL,
    pid               bigint NOT NULL,
    vm                uuid,
    operation         text NOT NULL,
    arguments         text NOT NULL,
    inverse_operation text,
    inverse_arguments text,
    -- The sequence number of the entry that this one reverts.
    reverts           bigint
);

-- Sequence numbers increase in the order of the commits: a reader that continues after the last number misses nothing.
CREATE TABLE event (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The store that wrote it.
    host     text NOT NULL,
    owner    text NOT NULL,
    at       bigint NOT NULL,
    kind     text NOT NULL,
    vm       uuid,
    vm_name  text,
    data     text NOT NULL
);
