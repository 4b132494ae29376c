-- Schema 4: hosts that are away.

-- The users of hosts, and when a command of each last used the store, by the clock of the server.
CREATE TABLE host (
    host    text COLLATE "C" NOT NULL,
    owner   text COLLATE "C" NOT NULL,
    seen_at bigint NOT NULL,
    PRIMARY KEY (host, owner)
);
-- The clock of a host may be ahead of that of the server.
INSERT INTO host SELECT host COLLATE "C", owner COLLATE "C",
    least(max(at), (extract(epoch FROM now()) * 1000)::bigint * 1000000) FROM event GROUP BY 1, 2;

-- The history is limited for each user of a host.
CREATE INDEX history_of_store ON history (store_host, store_owner, sequence);

-- VMs whose rows and events went to another database, so that no host takes its old copy of one for that of a lost VM.
CREATE TABLE departed (
    vm         uuid PRIMARY KEY,
    at         bigint NOT NULL,
    -- Whether it had been removed before.
    is_removed boolean NOT NULL
);
