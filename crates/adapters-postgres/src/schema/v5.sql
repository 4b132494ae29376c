-- Schema 5: marks of moves are rows, so that no move locks out other hosts.

-- The users of hosts that do not use the database because of a move.
CREATE TABLE move (
    host  text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    -- As JSON.
    mark  text NOT NULL,
    PRIMARY KEY (host, owner)
);
-- A move to or from a database of schema 3 or 4 added this column.
ALTER TABLE maqet ADD COLUMN IF NOT EXISTS moves text;
INSERT INTO move SELECT one->>'host', one->>'owner', one->>'mark' FROM maqet, json_array_elements(moves::json) AS one;
-- A process of schema 4 that has the database open finds marks only here: not even a mark can be read from this, so that it
-- writes nothing any more.
UPDATE maqet SET moves = 'see the table move';
