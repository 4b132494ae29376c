-- Schema 6.

-- The history of one VM is found also where hosts have made many changes.
CREATE INDEX history_of_vm ON history (vm, sequence);
CREATE INDEX history_of_name ON history (vm_name, sequence);

-- Which files the images of a VM were when it was last started, as JSON: for a host that takes it over.
CREATE TABLE used_images (
    vm     uuid PRIMARY KEY REFERENCES vm (id) ON DELETE CASCADE,
    images text NOT NULL
);
