\set number random(1, 1000000000000)
SELECT * FROM maqet;
BEGIN;
INSERT INTO vm (id, revision, host, owner, name, created_at, pending, boot, started_at, phase, end_reason, ended_at, pid, start_ticks, host_boot, pid_namespace, sockets, records, forwards) VALUES (md5(:number::text)::uuid, 1, 'bench', 'bench', 'vm-' || :number, 1796031618388731434, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO definition (vm, content, origins) VALUES (md5(:number::text)::uuid, '{"accel":"tcg","memory":"32M"}', '{"accel":"option `--set accel`","memory":"option `--set memory`"}');
SELECT pg_current_xact_id()::text AS transaction, maqet.* FROM maqet;
INSERT INTO history (at, "user", host, pid, vm, operation, arguments, inverse_operation, inverse_arguments, reverts, vm_name, kind, irreversible, store_host, store_owner) VALUES (1796031618388862032, 'bench', 'bench', 19965, md5(:number::text)::uuid, 'add', '{"name":"b","memory":null,"cpu":null,"empty":true,"lenient":false}', 'rm', '{"vm":"e007883a-b4f0-448d-babd-20488e5033c6","force":false,"delete_storage":true,"revert":{"expected":{"vm":"e007883a-b4f0-448d-babd-20488e5033c6","definition":"40353d0f3f1fc294","boot":0,"stopped":true}}}', NULL, 'vm-' || :number, 'work', NULL, 'bench', 'bench');
DELETE FROM history WHERE sequence IN (SELECT sequence FROM history WHERE store_host = 'bench' AND store_owner = 'bench' AND sequence <= CASE WHEN hashint8(currval(pg_get_serial_sequence('history', 'sequence'))) % 16 = 0 THEN (SELECT sequence FROM history WHERE store_host = 'bench' AND store_owner = 'bench' ORDER BY sequence DESC OFFSET 10000 LIMIT 1) END ORDER BY sequence LIMIT 100 FOR UPDATE SKIP LOCKED);
SELECT pg_advisory_xact_lock(1836148084, 'event'::regclass::oid::int4);
INSERT INTO event (host, owner, at, kind, vm, vm_name, data) VALUES ('bench', 'bench', 1796031618388752680, 'vm.defined', md5(:number::text)::uuid, 'vm-' || :number, '{}');
SELECT pg_notify('maqet_event', current_schema()::text);
COMMIT;
