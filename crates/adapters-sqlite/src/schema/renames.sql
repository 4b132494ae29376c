-- What schema 1 stored under other names. The JSON is as maqet writes it, without spaces, so text is replaced and the
-- order of keys kept: an unescaped quote before a name followed by a colon can only begin a key.
UPDATE event SET data = replace(data, '"how":"nothing"', '"how":"none"') WHERE kind = 'vm.stopped';
UPDATE event SET data = replace(data, '"how":"term"', '"how":"sigterm"') WHERE kind = 'vm.stopped';
UPDATE event SET data = replace(data, '"how":"kill"', '"how":"sigkill"') WHERE kind = 'vm.stopped';
UPDATE event SET data = replace(data, '"how":"unseen"', '"how":"unobserved"') WHERE kind = 'vm.stopped';
UPDATE event SET data = replace(data, '"how":', '"method":') WHERE kind = 'vm.stopped';
UPDATE event SET data = replace(data, '"back_end":', '"backend":') WHERE kind = 'device.removed';
