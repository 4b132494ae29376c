-- Schema 2. Which entry of the history an entry reverts.
ALTER TABLE history ADD COLUMN reverts INTEGER;
