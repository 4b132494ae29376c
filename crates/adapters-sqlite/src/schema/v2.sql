-- Schema 2: a history entry names the entry that it reverts.
ALTER TABLE history ADD COLUMN reverts INTEGER;
