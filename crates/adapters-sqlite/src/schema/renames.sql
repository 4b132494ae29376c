-- Renames what schema 1 stored under other names. maqet writes JSON without spaces, so replacing text is safe and keeps
-- the order of keys: a name between an unescaped quote and a colon can only be a key.
UPDATE event SET data = replace(data, '"how":"nothing"', '"how":"none"') WHERE kind = 'vm.stopped';
UPDATE event SET data = replace(data, '"how":"term"', '"how":"sigterm"') WHERE kind = 'vm.stopped';
UPDATE event SET data = replace(data, '"how":"kill"', '"how":"sigkill"') WHERE kind = 'vm.stopped';
UPDATE event SET data = replace(data, '"how":"unseen"', '"how":"unobserved"') WHERE kind = 'vm.stopped';
UPDATE event SET data = replace(data, '"how":', '"method":') WHERE kind = 'vm.stopped';
UPDATE event SET data = replace(data, '"back_end":', '"backend":') WHERE kind = 'device.removed';
