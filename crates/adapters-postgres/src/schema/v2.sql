-- Schema 2: undo.

-- The store that wrote the entry, which only that one undoes; null for entries of schema 1. `host` and `user` are those of
-- the process.
ALTER TABLE history ADD COLUMN store_host text;
ALTER TABLE history ADD COLUMN store_owner text;

-- The name that the VM had; it outlives the VM.
ALTER TABLE history ADD COLUMN vm_name text COLLATE "C";
UPDATE history SET vm_name = (SELECT name FROM vm WHERE vm.id = history.vm);

-- `work`, `note`, `undo` or `redo`.
ALTER TABLE history ADD COLUMN kind text NOT NULL DEFAULT 'work';

-- Why the change cannot be undone. Calls that schema 1 recorded do not say what they expect to find.
ALTER TABLE history ADD COLUMN irreversible text;
UPDATE history SET irreversible = 'older-version';

-- An entry is reverted once.
CREATE UNIQUE INDEX history_reverts ON history (reverts) WHERE reverts IS NOT NULL;
