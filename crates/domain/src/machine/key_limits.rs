//! What the keys of drives and cards take at their limits, and what is one more or one less.

use super::{Machine, builtin_handlers};
use crate::config::Node;
use crate::storage::builtin_drivers;

/// Returns the machine and its problems as `path: message`.
fn read(definition: &str) -> (Machine, Vec<String>) {
    let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
    let definition: Node = serde_json::from_str(definition).unwrap();
    let (machine, problems) = Machine::read(&definition, &handlers);
    (machine, problems.into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect())
}

#[track_caller]
fn check_drive(keys: &str, expected: &[&str]) {
    let (machine, problems) = read(&format!(r#"{{"storage": [{{"name": "a", {keys}}}]}}"#));

    assert_eq!(problems, expected, "{keys}");
    assert_eq!(machine.storage.len(), 1, "{keys}");
}

#[track_caller]
fn check_network(network: &str, expected: &[&str]) {
    assert_eq!(read(&format!(r#"{{"network": {network}}}"#)).1, expected, "{network}");
}

#[test]
fn test_drive_size_is_a_sector_at_least() {
    check_drive(r#""size": 512"#, &[]);
    check_drive(r#""size": 513"#, &[]);
    check_drive(r#""size": 511"#, &["storage[0].size: a disk has 512 bytes at least, this has 511"]);
}

#[test]
fn test_drive_serial_has_twenty_bytes_at_most() {
    let serial = |length| format!(r#""serial": "{}""#, "s".repeat(length));

    check_drive(&serial(1), &[]);
    check_drive(&serial(20), &[]);
    check_drive(&serial(21), &["storage[0].serial: a serial number has at most 20 bytes, this has 21"]);
}

#[test]
fn test_drive_discard_takes_both_its_words_and_both_booleans() {
    for (word, expected) in [("true", true), (r#""unmap""#, true), ("false", false), (r#""ignore""#, false)] {
        let (machine, problems) = read(&format!(r#"{{"storage": [{{"name": "a", "discard": {word}}}]}}"#));

        assert_eq!((machine.storage[0].discard, problems.len()), (Some(expected), 0), "{word}");
    }
    check_drive(r#""discard": "maybe""#, &["storage[0].discard: expected `true` or `false`, found the text `maybe`"]);
}

#[test]
fn test_drive_backing_format_needs_a_backing_file_and_goes_with_it() {
    check_drive(
        r#""backing_format": "raw""#,
        &["storage[0].backing_format: there is no `backing_file` for this format"],
    );

    let (machine, _) = read(r#"{"storage": [{"name": "a", "backing_file": "/b", "backing_format": "raw"}]}"#);

    let backing = machine.storage[0].backing.as_ref().unwrap();
    assert_eq!((backing.file.to_str(), backing.format.as_deref()), (Some("/b"), Some("raw")));
}

#[test]
fn test_drives_of_one_name_are_told_and_keep_their_order() {
    let (machine, problems) = read(r#"{"storage": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}"#);

    let names: Vec<&str> = machine.storage.iter().map(|storage| storage.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "a"]);
    assert_eq!(problems, ["storage[2].name: there is a drive `a` already"]);
}

#[test]
fn test_drive_relative_file_is_that_of_its_folder_and_other_keys_are_let_alone() {
    let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
    let list: Node =
        serde_json::from_str(r#"[{"name": "a", "file": "f", "backing_file": "b", "serial": "s"}]"#).unwrap();

    let rebased = handlers.get("storage").unwrap().rebase(list, std::path::Path::new("/conf"));

    let expected = r#"[{"name":"a","file":"/conf/f","backing_file":"/conf/b","serial":"s"}]"#;
    assert_eq!(serde_json::to_string(&rebased).unwrap(), expected);
}

#[test]
fn test_cards_thirty_two_are_taken_and_one_more_is_told() {
    let cards = |count| format!("[{}]", vec!["{}"; count].join(","));

    check_network(&cards(32), &[]);
    check_network(&cards(33), &["network[32]: a machine takes 32 network cards at most, and this has 33"]);
}

#[test]
fn test_cards_of_one_name_are_told_whoever_gave_it() {
    check_network(
        r#"[{"name": "x"}, "user", {"name": "x"}, {"name": "net1"}]"#,
        &[
            "network[2].name: there is a network card `x` already",
            "network[3].name: there is a network card `net1` already",
        ],
    );
    check_network(
        r#"[{"name": "net1"}, {}]"#,
        &[
            "network[1].name: there is a network card `net1` already, and one without a `name` is called so by its place",
        ],
    );
}

#[test]
fn test_card_forwards_each_port_of_the_host_once_and_any_free_ones() {
    check_network(r#"{"forward": ["0:22", "0:80", "1:22", "2:22", "udp:1:22", "0.0.0.0:1:22"]}"#, &[]);
    check_network(
        r#"{"forward": ["1:22", "2:22", "1:80", "x"]}"#,
        &[
            "network.forward[3]: `x` is not a forwarded port: write it as `HOST:GUEST`, as in `2222:22`",
            "network.forward[2]: port 1 of the host is forwarded already",
        ],
    );
    check_network(r#"[{"forward": ["0:22", "1:22"]}, {"forward": ["0:22", "udp:1:22", "2:22"]}, "user"]"#, &[]);
    check_network(
        r#"[{"forward": ["2:22", "1:22"]}, {"forward": ["0:22", "1:22"]}]"#,
        &["network[1].forward[1]: port 1 of the host is forwarded already"],
    );
}

#[test]
fn test_drive_place_in_the_order_of_booting_is_of_one_drive() {
    let problems = |entries: &str| read(&format!(r#"{{"storage": [{entries}]}}"#)).1;

    let apart = r#"{"name": "a", "bootindex": 0}, {"name": "b", "bootindex": 1}, {"name": "c"}, {"name": "d"}"#;
    assert_eq!(problems(apart), Vec::<String>::new());
    let twice = r#"{"name": "a", "bootindex": 1}, {"name": "b"}, {"name": "c", "bootindex": 1}"#;
    assert_eq!(problems(twice), ["storage[2].bootindex: place 1 in the order of booting is taken already"]);
}

/// As `size: null` of a drive: it deletes what another file says, and says nothing itself.
#[test]
fn test_key_that_holds_nothing_in_a_map_says_as_much_as_no_key() {
    let given = |definition: &str| {
        let (machine, problems) = read(definition);
        assert_eq!(problems, Vec::<String>::new(), "{definition}");
        let switches = [machine.machine_type, machine.boot].map(|switch| switch?.argument().map(str::to_owned));
        (machine.labels.len(), machine.hooks.len(), switches)
    };

    assert_eq!(given(r#"{"labels": {"a": null, "b": 1}, "hooks": {"vm.started": null}}"#), (1, 0, [None, None]));
    assert_eq!(
        given(r#"{"machine": {"type": "q35", "usb": null}, "boot": {"menu": null, "order": "c"}}"#),
        (0, 0, [Some("type=q35".to_owned()), Some("order=c".to_owned())])
    );
    for nothing in ["{}", r#"{"x": null}"#] {
        let (machine, problems) = read(&format!(r#"{{"machine": {nothing}, "boot": {nothing}}}"#));
        assert_eq!((machine.machine_type, machine.boot, problems.len()), (None, None, 0), "{nothing}");
    }
}

#[test]
fn test_card_of_passt_takes_named_ports_alone() {
    check_network(r#"{"mode": "passt", "forward": ["1:22"]}"#, &[]);
    check_network(r#"{"mode": "passt"}"#, &[]);
    check_network(
        r#"{"mode": "passt", "forward": ["1:22", "0:80"]}"#,
        &["network.forward: `mode: passt` takes no free port by itself; name one"],
    );
}

#[test]
fn test_card_of_tap_or_bridge_needs_what_it_joins() {
    check_network(r#"{"mode": "bridge"}"#, &["network: `mode: bridge` needs the name of a `bridge`"]);
    check_network(r#"{"mode": "tap"}"#, &["network: `mode: tap` needs the `interface` to use"]);
    check_network(r#""tap""#, &["network: `mode: tap` needs the `interface` to use"]);
    check_network(r#"[{"mode": "bridge", "bridge": "b"}, {"mode": "tap", "interface": "t"}]"#, &[]);
}

#[test]
fn test_card_wrong_values_and_unknown_keys_are_told_at_their_keys() {
    check_network(
        r#"{"mac": "x", "models": "e1000"}"#,
        &[
            "network.models: unknown key `models`",
            "network.mac: `x` is not the address of a network card: write it as `52:54:00:12:34:56`",
        ],
    );
    let (machine, _) = read(r#"{"network": [{"mac": "52:54:00:00:00:0a", "model": "e1000", "name": "lan"}, "none"]}"#);
    let cards: Vec<String> =
        machine.network.iter().map(|card| format!("{} {} {:?}", card.name, card.model, card.mode)).collect();
    assert_eq!(cards, ["lan e1000 User", "net1 virtio-net-pci None"]);
    assert_eq!(machine.network[0].mac.unwrap().to_string(), "52:54:00:00:00:0a");
}

#[test]
fn test_drive_value_that_is_wrong_is_told_once_and_its_type_says_nothing_of_it() {
    for (entry, expected) in [
        (r#"{"name": "a", "type": "nvme", "interface": "usb"}"#, &["interface"][..]),
        (r#"{"name": "a", "type": "iso", "file": 7}"#, &["file"]),
        (r#"{"name": "a", "type": "iso", "file": 7, "readonly": "maybe"}"#, &["file", "readonly"]),
    ] {
        let (_, problems) = read(&format!(r#"{{"storage": [{entry}]}}"#));

        let told: Vec<&str> = problems.iter().filter_map(|problem| problem.split(": expected").next()).collect();
        let expected: Vec<String> = expected.iter().map(|key| format!("storage[0].{key}")).collect();
        assert_eq!(told, expected, "{entry}");
    }
}
