//! Tests with the schema of QEMU 7.2 (Debian 12, x86-64).

use proptest::prelude::*;
use serde_json::json;

use super::*;

const REPLY: &str = include_str!("../../../data/qmp-schema-7.2.json");

fn schema() -> Schema {
    Schema::from_reply(&serde_json::from_str(REPLY).unwrap()).unwrap()
}

/// Parses a command and its arguments, separated by spaces.
fn parse(line: &str) -> Result<Value, SchemaError> {
    let args: Vec<&str> = line.split(' ').collect();
    schema().command_from_args(args[0], &args[1..]).map(|command| Value::Object(command.arguments))
}

#[track_caller]
fn check(line: &str, expected: &Value) {
    assert_eq!(parse(line).unwrap(), *expected);
}

#[track_caller]
fn refused(line: &str, message: &str, hints: &[&str]) {
    let error = parse(line).unwrap_err();
    assert_eq!(error.to_string(), message);
    let all = crate::Explain::hints(&error);
    for hint in hints {
        assert!(all.iter().any(|one| one.contains(hint)), "`{hint}` is not in {all:?}");
    }
}

#[test]
fn test_args_value_of_long_choice_lists_some_and_suggests_one() {
    let error = parse("send-key keys.0.type=qcode keys.0.data=crtl").unwrap_err();

    let text = error.to_string();
    assert!(text.ends_with(" more") && text.matches('`').count() < 60, "{text}");
    let hints = crate::Explain::hints(&error);
    assert!(hints.iter().any(|hint| hint.contains("`ctrl`")), "{hints:?}");
}

#[test]
fn test_schema_has_commands_and_events() {
    let schema = schema();

    assert_eq!((schema.commands().count(), schema.events().count()), (216, 52));
    assert!(schema.has_command("query-status") && !schema.has_command("query-statu"));
    assert!(schema.events().any(|event| event == "DEVICE_DELETED"));
    assert!(schema.commands().is_sorted() && schema.events().is_sorted());
}

#[test]
fn test_schema_text_round_trips_and_is_small() {
    let schema = schema();

    let again = Schema::from_text(schema.as_text().to_owned()).unwrap();

    assert_eq!(again, schema);
    assert!(schema.as_text().len() < 40_000, "{}", schema.as_text().len());
}

#[test]
fn test_schema_text_truncated_anywhere_is_refused() {
    let text = schema().as_text().to_owned();

    for end in (0..text.len()).step_by(97) {
        assert!(Schema::from_text(text[..end].to_owned()).is_err(), "cut at {end}");
    }
    assert!(Schema::from_text(format!("{text}x")).is_err());
    assert!(Schema::from_text(text.replacen("schema 1 ", "schema 2 ", 1)).is_err());
}

#[test]
fn test_args_are_converted_to_types_of_schema() {
    check("query-status", &json!({}));
    check("block_resize node-name=7 size=10G", &json!({"node-name": "7", "size": 10_737_418_240_u64}));
    check("block_resize size=0x200", &json!({"size": 512}));
    check("balloon value=18446744073709551615", &json!({"value": u64::MAX}));
    check("calc-dirty-rate calc-time=-1", &json!({"calc-time": -1}));
    check("system_wakeup", &json!({}));
    check("eject id=cd force=on", &json!({"id": "cd", "force": true}));
    check("eject id=cd force=no", &json!({"id": "cd", "force": false}));
    check("set-action panic=pause", &json!({"panic": "pause"}));
    check("human-monitor-command command-line=info", &json!({"command-line": "info"}));
    check("human-monitor-command command-line=a=b.c", &json!({"command-line": "a=b.c"}));
}

#[test]
fn test_args_with_dots_become_objects_and_lists() {
    check(
        "blockdev-add driver=qcow2 node-name=n file.driver=file file.filename=/a.b discard=unmap",
        &json!({"driver": "qcow2", "node-name": "n", "discard": "unmap",
            "file": {"driver": "file", "filename": "/a.b"}}),
    );
    check("blockdev-add driver=qcow2 file=base", &json!({"driver": "qcow2", "file": "base"}));
    check(
        "input-send-event events.0.type=key events.0.data.down=on events.0.data.key.type=qcode events.0.data.key.data=a",
        &json!({"events": [{"type": "key", "data": {"down": true, "key": {"type": "qcode", "data": "a"}}}]}),
    );
    check(
        "migrate-set-capabilities capabilities.1.capability=events capabilities.1.state=on \
         capabilities.0.capability=xbzrle capabilities.0.state=off",
        &json!({"capabilities": [{"capability": "xbzrle", "state": false}, {"capability": "events", "state": true}]}),
    );
    check(
        "announce-self initial=1 max=2 rounds=3 step=4 interfaces=a interfaces=b",
        &json!({"initial": 1, "max": 2, "rounds": 3, "step": 4, "interfaces": ["a", "b"]}),
    );
}

#[test]
fn test_args_json_values_become_objects_and_lists() {
    check(
        "transaction actions=[{\"type\":\"abort\",\"data\":{}}]",
        &json!({"actions": [{"type": "abort", "data": {}}]}),
    );
    check("qom-set path=/m property=p value={\"a\":[1]}", &json!({"path": "/m", "property": "p", "value": {"a": [1]}}));
    check("qom-set path=/m property=p value=text", &json!({"path": "/m", "property": "p", "value": "text"}));
    refused(
        "transaction actions=[{\"type\":\"abrt\",\"data\":{}}]",
        "invalid value `abrt` for `actions.0.type` of `transaction`: expected one of `abort`, \
         `block-dirty-bitmap-add`, `block-dirty-bitmap-remove`, `block-dirty-bitmap-clear`, \
         `block-dirty-bitmap-enable`, `block-dirty-bitmap-disable`, `block-dirty-bitmap-merge`, `blockdev-backup`, \
         `blockdev-snapshot`, `blockdev-snapshot-internal-sync`, `blockdev-snapshot-sync`, `drive-backup`",
        &["did you mean `abort`?"],
    );
}

#[test]
fn test_args_for_alternate_choose_a_type() {
    check("migrate-set-parameters tls-creds=null", &json!({"tls-creds": null}));
    check("migrate-set-parameters tls-creds=t0", &json!({"tls-creds": "t0"}));
    check(
        "block-dirty-bitmap-merge node=n target=t bitmaps=a bitmaps.x=b".split(" bitmaps.x").next().unwrap(),
        &json!({"node": "n", "target": "t", "bitmaps": ["a"]}),
    );
    check(
        "block-dirty-bitmap-merge node=n target=t bitmaps.0.node=m bitmaps.0.name=b bitmaps.1=c",
        &json!({"node": "n", "target": "t", "bitmaps": [{"node": "m", "name": "b"}, "c"]}),
    );
}

#[test]
fn test_args_of_device_add_are_not_limited_to_schema() {
    check(
        "device_add driver=virtio-blk-pci id=x share-rw=on x.y=1 num-queues=2",
        &json!({"driver": "virtio-blk-pci", "id": "x", "share-rw": "on", "x.y": "1", "num-queues": "2"}),
    );
    refused("device_add id=x", "`device_add` requires `driver`", &["add `driver=…`"]);
}

#[test]
fn test_unknown_command_suggests_similar_names() {
    refused("query-statsu", "QEMU has no command `query-statsu`", &["did you mean `query-stats`", "`query-status`"]);
    refused("Query-Block", "QEMU has no command `Query-Block`", &["`query-block`"]);
    refused("no", "QEMU has no command `no`", &[]);
    refused(
        "{\"execute\":\"stop\"}",
        "QEMU has no command `{\"execute\":\"stop\"}`",
        &["pass the name of the command"],
    );
}

#[test]
fn test_unknown_argument_suggests_and_lists_names() {
    refused(
        "block_resize nodename=hdd size=1",
        "`block_resize` has no argument `nodename`",
        &["did you mean `node-name`?", "use one of `device`, `node-name`, `size`"],
    );
    refused("query-status x=1", "`query-status` has no argument `x`", &["takes no arguments"]);
    refused(
        "blockdev-add driver=qcow2 file.driver=file file.filname=/a",
        "`blockdev-add` has no argument `file.filname`",
        &["did you mean `file.filename`?"],
    );
    refused(
        "netdev_add type=tap id=n hostfwd.0.str=tcp::1-:2",
        "`netdev_add` has no argument `hostfwd`",
        &["add `type=user`"],
    );
}

#[test]
fn test_missing_arguments_are_reported_together() {
    refused("pmemsave", "`pmemsave` requires `val`, `size`, `filename`", &["add `val=… size=… filename=…`"]);
    refused("pmemsave size=1", "`pmemsave` requires `val`, `filename`", &[]);
    refused("netdev_add hostfwd=x", "`netdev_add` requires `id`, `type`", &[]);
    refused("blockdev-add driver=qcow2", "`blockdev-add` requires `file`", &[]);
    refused("blockdev-add driver=qcow2 file.driver=file", "`blockdev-add` requires `file.filename`", &[]);
}

#[test]
fn test_invalid_value_names_what_is_expected() {
    refused("block_resize size=big", "invalid value `big` for `size` of `block_resize`: expected an integer", &[]);
    refused("block_resize size=+5", "invalid value `+5` for `size` of `block_resize`: expected an integer", &[]);
    refused("block_resize size=1.5", "invalid value `1.5` for `size` of `block_resize`: expected an integer", &[]);
    refused("eject force=maybe", "invalid value `maybe` for `force` of `eject`: expected `on` or `off`", &[]);
    refused(
        "set-action panic=pasue",
        "invalid value `pasue` for `panic` of `set-action`: expected one of `pause`, `shutdown`, `exit-failure`, `none`",
        &["did you mean `pause`?"],
    );
    refused(
        "blockdev-add driver=qcow3 node-name=x",
        &parse("blockdev-add driver=qcow3").unwrap_err().to_string(),
        &["`qcow2`"],
    );
    refused("block_resize size.x=1", "invalid value `size.x` for `size` of `block_resize`: expected an integer", &[]);
    refused(
        "transaction actions=x",
        "invalid value `x` for `actions.0` of `transaction`: expected an object, as in `actions.0.…=…`",
        &[],
    );
    refused(
        "migrate-set-capabilities capabilities.1.capability=events",
        "invalid value `capabilities.1` for `capabilities` of `migrate-set-capabilities`: expected a list, as in \
         `capabilities.0=…`",
        &[],
    );
}

/// Quadratic time would show with this many.
#[test]
fn test_args_by_the_thousand_keep_their_order() {
    let item = |at: usize| {
        let pairs =
            [("type", "block-dirty-bitmap-clear"), ("data.node", "disk"), ("data.name", &format!("bitmap-{at}"))];
        pairs.map(|(key, value)| format!("actions.{at}.{key}={value}"))
    };
    let args: Vec<String> = (0..10_000).rev().flat_map(item).collect();

    let command = schema().command_from_args("transaction", &args).unwrap();

    let actions = command.arguments["actions"].as_array().unwrap();
    assert_eq!(actions.len(), 10_000);
    for (at, action) in actions.iter().enumerate() {
        let data = json!({"node": "disk", "name": format!("bitmap-{at}")});
        assert_eq!(*action, json!({"type": "block-dirty-bitmap-clear", "data": data}));
    }
}

#[test]
fn test_args_for_recursive_list_are_refused() {
    let reply = json!([
        {"name": "x", "meta-type": "command", "arg-type": "o"},
        {"name": "o", "meta-type": "object", "members": [{"name": "l", "type": "l"}]},
        {"name": "l", "meta-type": "array", "element-type": "a"},
        {"name": "a", "meta-type": "alternate", "members": [{"type": "l"}, {"type": "l"}]},
    ]);

    let refused = Schema::from_reply(&reply).unwrap().command_from_args("x", &["l=1"]).unwrap_err();

    assert!(matches!(&refused, SchemaError::InvalidValue { argument, .. } if argument == "l"), "{refused:?}");
}

#[test]
fn test_reply_with_endless_types_is_refused() {
    let list = |at: usize| json!({"name": at.to_string(), "meta-type": "array", "element-type": (at + 1).to_string()});
    let mut reply: Vec<Value> = (0..50_000).map(list).collect();
    reply.push(json!({"name": "x", "meta-type": "command", "arg-type": "0"}));

    let refused = Schema::from_reply(&Value::from(reply)).unwrap_err();

    assert!(refused.to_string().contains("too deeply"), "{refused}");
}

#[test]
fn test_args_without_key_are_refused() {
    refused("eject force", "invalid argument `force`: expected `key=value`", &["key=value"]);
    refused(
        "human-monitor-command info",
        "invalid argument `info`: expected `key=value`",
        &["`command-line=…` is required"],
    );
    refused(
        "block_resize node-name=d size 1",
        "invalid argument `size`: expected `key=value`",
        &["`size=…` is required"],
    );
    refused("eject =x", "invalid argument `=x`: expected `key=value`", &[]);
    refused("eject a..b=x", "invalid argument `a..b=x`: expected `key=value`", &[]);
    let deep = format!("eject {}=x", ["a"; 17].join("."));
    refused(&deep, &format!("invalid argument `{}=x`: expected `key=value`", ["a"; 17].join(".")), &[]);
    refused("eject id=a id=b", "`id` of `eject` is given more than once", &[]);
    refused("blockdev-add file=a file.driver=raw", "`file.driver` of `blockdev-add` is given more than once", &[]);
}

#[test]
fn test_json_arguments_keep_types_and_are_checked() {
    let json = |value: Value| {
        let Value::Object(map) = value else { panic!("not an object") };
        map
    };
    let schema = schema();
    let message = |name: &str, arguments| schema.command_from_json(name, json(arguments)).unwrap_err().to_string();

    let command = schema.command_from_json("block_resize", json(json!({"size": 5, "device": "d"}))).unwrap();

    assert_eq!(Value::Object(command.arguments), json!({"size": 5, "device": "d"}));
    assert_eq!(
        message("block_resize", json!({"size": "5"})),
        "invalid value `5` for `size` of `block_resize`: expected an integer"
    );
    assert!(message("block_resize", json!({"size": 5.5})).starts_with("invalid value `5.5` for `size`"));
    assert_eq!(message("netdev_add", json!({"hostfwd": []})), "`netdev_add` requires `id`, `type`");
    assert_eq!(message("netdev_add", json!({"id": "n", "hostfwd": []})), "`netdev_add` requires `type`");
    assert_eq!(message("block_resize", json!({"sise": 5})), "`block_resize` has no argument `sise`");
    assert_eq!(
        message("eject", json!({"force": 1})),
        "invalid value `1` for `force` of `eject`: expected `on` or `off`"
    );
    assert_eq!(message("pmemsave", json!({"val": 1})), "`pmemsave` requires `size`, `filename`");
    assert_eq!(
        message("blockdev-add", json!({"driver": "qcow2", "file": {"driver": "file", "filename": 1}})),
        "invalid value `1` for `file.filename` of `blockdev-add`: expected a string"
    );
    for number in [json!(-1), json!(u64::MAX)] {
        assert!(schema.command_from_json("balloon", json(json!({"value": number}))).is_ok(), "{number}");
    }
    assert!(schema.command_from_json("device_add", json(json!({"driver": "x", "any": {"a": 1}}))).is_ok());
    assert!(schema.command_from_json("blockdev-add", json(json!({"driver": "qcow2", "file": "n"}))).is_ok());
}

#[test]
fn test_arguments_for_completion_follow_what_was_parse() {
    let schema = schema();
    let names = |args: &[&str], under: &str| -> Vec<String> {
        schema.arguments("blockdev-add", args, under).into_iter().map(|argument| argument.name).collect()
    };

    let driver = schema.arguments("blockdev-add", &[""; 0], "").into_iter().find(|one| one.name == "driver").unwrap();
    assert!(driver.is_required && driver.values.contains(&"qcow2".to_owned()) && !driver.has_parts);
    assert!(!names(&[], "").contains(&"lazy-refcounts".to_owned()));
    assert!(names(&["driver=qcow2"], "").contains(&"lazy-refcounts".to_owned()));
    assert!(names(&["driver=qcow2", "file.driver=file"], "file").contains(&"file.filename".to_owned()));
    assert!(!names(&["driver=qcow2"], "file").contains(&"file.filename".to_owned()));
    assert_eq!(names(&[], "nothing.there"), Vec::<String>::new());
    let action = schema.arguments("transaction", &[""; 0], "actions.0");
    assert_eq!(action[0].name, "actions.0.type");
    assert!(action[0].values.contains(&"abort".to_owned()));
    let force = schema.arguments("eject", &[""; 0], "").into_iter().find(|one| one.name == "force").unwrap();
    assert_eq!((force.values, force.is_required), (vec!["on".to_owned(), "off".to_owned()], false));
}

#[test]
fn test_reply_invalid_is_refused_with_reason() {
    let reason = |reply: Value| Schema::from_reply(&reply).unwrap_err().reason;

    assert_eq!(reason(json!({})), "not a list");
    assert_eq!(reason(json!([{}])), "an entity has no name");
    assert_eq!(reason(json!([{"name": "", "meta-type": "event"}])), "invalid name ``");
    assert_eq!(reason(json!([{"name": "a b", "meta-type": "event"}])), "invalid name `a b`");
    assert_eq!(reason(json!([{"name": "x", "meta-type": "command", "arg-type": "9"}])), "there is no type `9`");
    let recursive = json!([{"name": "x", "meta-type": "command", "arg-type": "l"},
        {"name": "l", "meta-type": "array", "element-type": "l"}]);
    assert_eq!(reason(recursive), "the arguments of `x` are not an object");
}

/// QEMU 7.2 has no such command; QAPI allows it.
#[test]
fn test_args_of_nested_union_depend_on_both_tags() {
    let object = |name: &str, members: Value| json!({"name": name, "meta-type": "object", "members": members});
    let mut outer = object("1", json!([{"name": "kind", "type": "str"}]));
    outer["tag"] = json!("kind");
    outer["variants"] = json!([{"case": "a", "type": "2"}]);
    let mut inner = object("2", json!([{"name": "sort", "type": "str"}]));
    inner["tag"] = json!("sort");
    inner["variants"] = json!([{"case": "b", "type": "3"}]);
    let reply = json!([
        {"name": "x", "meta-type": "command", "arg-type": "1"},
        {"name": "str", "meta-type": "builtin", "json-type": "string"},
        outer,
        inner,
        object("3", json!([{"name": "deep", "type": "str"}])),
    ]);
    let schema = Schema::from_reply(&reply).unwrap();

    let command = schema.command_from_args("x", &["deep=1", "sort=b", "kind=a"]).unwrap();

    assert_eq!(Value::Object(command.arguments), json!({"deep": "1", "sort": "b", "kind": "a"}));
    assert_eq!(schema.command_from_args("x", &["kind=a", "sort=b"]).unwrap_err().to_string(), "`x` requires `deep`");
    assert!(schema.command_from_args("x", &["kind=a", "sort=c", "deep=1"]).is_err());
}

/// Passes a value of the right type for every argument of every command.
#[test]
fn test_args_of_every_command_are_accepted_as_json() {
    let schema = schema();
    for name in schema.commands() {
        let args: Vec<String> = schema
            .arguments(name, &[""; 0], "")
            .iter()
            .filter(|argument| !argument.has_parts)
            .map(|argument| format!("{}={}", argument.name, argument.values.first().map_or("7", String::as_str)))
            .collect();
        match schema.command_from_args(name, &args) {
            Ok(command) => drop(schema.command_from_json(name, command.arguments).unwrap()),
            Err(SchemaError::ArgumentsRequired { .. }) => {}
            Err(other) => panic!("{name} {args:?}: {other}"),
        }
    }
}

proptest! {
    #[test]
    fn test_args_any_text_is_valid_or_refused(
        index in 0_usize..216, args in prop::collection::vec("[a-z.0-9=\\[{\"-]{0,12}", 0..5)
    ) {
        let schema = schema_once();
        let name = schema.commands().nth(index).unwrap();

        if let Ok(command) = schema.command_from_args(name, &args) {
            prop_assert!(schema.command_from_json(name, command.arguments).is_ok());
        }
    }

    #[test]
    fn test_schema_text_any_content_does_not_panic(text in ".{0,200}", from in 0_usize..20_000, word in "[a-z:@?0-9 ]{0,10}") {
        let _ = Schema::from_text(text);
        let mut kept = schema_once().as_text().to_owned();
        kept.insert_str(from.min(kept.len()), &word);
        if let Ok(schema) = Schema::from_text(kept) {
            for name in ["blockdev-add", "transaction", "netdev_add", "device_add"] {
                let _ = schema.command_from_args(name, &["driver=qcow2", "file.driver=file", "a=b"]);
                let _ = schema.arguments(name, &["driver=qcow2"], "file");
            }
        }
    }
}

/// Parsed once for all cases of a property.
fn schema_once() -> &'static Schema {
    static ONCE: std::sync::OnceLock<Schema> = std::sync::OnceLock::new();
    ONCE.get_or_init(schema)
}
