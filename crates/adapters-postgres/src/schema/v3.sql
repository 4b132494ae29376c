-- Schema 3: the database has an ID, which is another one if its tables were dropped and created again. Hosts compare it with
-- the one that they recorded beside their copies of VMs.
ALTER TABLE maqet ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid();

-- Copies of VMs are compared with the removals, also where there are many events.
CREATE INDEX event_removal ON event (vm, at) WHERE kind = 'vm.removed';
