-- Schema 3.

-- The PID namespace in which `pid` is valid: the inode of `/proc/self/ns/pid`. Null for processes of older versions.
ALTER TABLE vm ADD COLUMN pid_namespace INTEGER;
