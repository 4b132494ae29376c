-- Schema 7.

-- The layers of the drives of the VM, above the images of its definition, as JSON; null if there are none.
ALTER TABLE vm ADD COLUMN layers text;
