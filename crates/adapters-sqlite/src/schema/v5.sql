-- Schema 5: undo.

-- The name that the VM had; it outlives the VM.
ALTER TABLE history ADD COLUMN vm_name TEXT;
UPDATE history SET vm_name = (SELECT name FROM vm WHERE vm.id = history.vm);

-- `work`, `note`, `undo` or `redo`.
ALTER TABLE history ADD COLUMN kind TEXT NOT NULL DEFAULT 'work';

-- Why the change cannot be undone. Calls that older versions recorded do not say what they expect to find.
ALTER TABLE history ADD COLUMN irreversible TEXT;
UPDATE history SET irreversible = 'older-version';

-- An entry is reverted once.
CREATE UNIQUE INDEX history_reverts ON history (reverts) WHERE reverts IS NOT NULL;

-- Copies of VMs are compared with the removals, also where there are many events.
CREATE INDEX event_removal ON event (vm, at) WHERE kind = 'vm.removed';
