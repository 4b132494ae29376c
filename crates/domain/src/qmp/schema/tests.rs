//! The schema of a real QEMU 7.2 (Debian 12, x86-64), as `query-qmp-schema` told it.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const TOLD: &str = include_str!("../../../data/qmp-schema-7.2.json");

fn schema() -> Schema {
    Schema::of_reply(&serde_json::from_str(TOLD).unwrap()).unwrap()
}

/// Types `line`, a command and its words with spaces between them.
fn typed(line: &str) -> Result<Value, SchemaError> {
    let words: Vec<&str> = line.split(' ').collect();
    schema().command_of_words(words[0], &words[1..]).map(|command| Value::Object(command.arguments))
}

#[track_caller]
fn check(line: &str, expected: &Value) {
    assert_eq!(typed(line).unwrap(), *expected);
}

#[track_caller]
fn refused(line: &str, message: &str, hints: &[&str]) {
    let error = typed(line).unwrap_err();
    assert_eq!(error.to_string(), message);
    let all = crate::Explain::hints(&error);
    for hint in hints {
        assert!(all.iter().any(|one| one.contains(hint)), "`{hint}` is none of {all:?}");
    }
}

#[test]
fn test_words_of_a_long_choice_are_told_in_part_with_the_near_one() {
    let error = typed("send-key keys.0.type=qcode keys.0.data=crtl").unwrap_err();

    let text = error.to_string();
    assert!(text.ends_with(" more") && text.matches('`').count() < 60, "{text}");
    let hints = crate::Explain::hints(&error);
    assert!(hints.iter().any(|hint| hint.contains("`ctrl`")), "{hints:?}");
}

#[test]
fn test_schema_of_a_real_qemu_has_its_commands_and_events() {
    let schema = schema();

    assert_eq!((schema.commands().count(), schema.events().count()), (216, 52));
    assert!(schema.has_command("query-status") && !schema.has_command("query-statu"));
    assert!(schema.events().any(|event| event == "DEVICE_DELETED"));
    assert!(schema.commands().is_sorted() && schema.events().is_sorted());
}

#[test]
fn test_schema_as_text_is_small_and_reads_the_same() {
    let schema = schema();

    let again = Schema::of_text(schema.as_text().to_owned()).unwrap();

    assert_eq!(again, schema);
    assert!(schema.as_text().len() < 40_000, "{}", schema.as_text().len());
}

#[test]
fn test_schema_text_that_is_cut_is_refused_wherever_it_is() {
    let text = schema().as_text().to_owned();

    for end in (0..text.len()).step_by(97) {
        assert!(Schema::of_text(text[..end].to_owned()).is_err(), "cut at {end}");
    }
    assert!(Schema::of_text(format!("{text}x")).is_err());
    assert!(Schema::of_text(text.replacen("schema 1 ", "schema 2 ", 1)).is_err());
}

#[test]
fn test_words_get_the_types_of_the_schema() {
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
fn test_words_with_dots_go_into_objects_and_lists() {
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
fn test_words_that_are_json_are_taken_where_an_object_or_list_is_due() {
    check(
        "transaction actions=[{\"type\":\"abort\",\"data\":{}}]",
        &json!({"actions": [{"type": "abort", "data": {}}]}),
    );
    check("qom-set path=/m property=p value={\"a\":[1]}", &json!({"path": "/m", "property": "p", "value": {"a": [1]}}));
    check("qom-set path=/m property=p value=text", &json!({"path": "/m", "property": "p", "value": "text"}));
    refused(
        "transaction actions=[{\"type\":\"abrt\",\"data\":{}}]",
        "`abrt` does not go with `actions.0.type` of `transaction`, which takes one of `abort`, \
         `block-dirty-bitmap-add`, `block-dirty-bitmap-remove`, `block-dirty-bitmap-clear`, \
         `block-dirty-bitmap-enable`, `block-dirty-bitmap-disable`, `block-dirty-bitmap-merge`, `blockdev-backup`, \
         `blockdev-snapshot`, `blockdev-snapshot-internal-sync`, `blockdev-snapshot-sync`, `drive-backup`",
        &["did you mean `abort`?"],
    );
}

#[test]
fn test_words_for_alternates_are_tried_by_type() {
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
fn test_words_of_a_device_are_taken_whatever_the_schema_says() {
    check(
        "device_add driver=virtio-blk-pci id=x share-rw=on x.y=1 num-queues=2",
        &json!({"driver": "virtio-blk-pci", "id": "x", "share-rw": "on", "x.y": "1", "num-queues": "2"}),
    );
    refused("device_add id=x", "`device_add` needs `driver`", &["add `driver=…`"]);
}

#[test]
fn test_command_unknown_is_answered_with_near_names() {
    refused("query-statsu", "QEMU has no command `query-statsu`", &["did you mean `query-stats`", "`query-status`"]);
    refused("Query-Block", "QEMU has no command `Query-Block`", &["`query-block`"]);
    refused("no", "QEMU has no command `no`", &["query-commands"]);
    refused("{\"execute\":\"stop\"}", "QEMU has no command `{\"execute\":\"stop\"}`", &["write the command's name"]);
}

#[test]
fn test_arguments_unknown_are_answered_with_near_names_and_the_list() {
    refused(
        "block_resize nodename=hdd size=1",
        "`block_resize` has no argument `nodename`",
        &["did you mean `node-name`?", "use one of `device`, `node-name`, `size`"],
    );
    refused("query-status x=1", "`query-status` has no argument `x`", &["it takes no arguments"]);
    refused(
        "blockdev-add driver=qcow2 file.driver=file file.filname=/a",
        "`blockdev-add` has no argument `file.filname`",
        &["did you mean `file.filename`?"],
    );
    refused(
        "netdev_add type=tap id=n hostfwd.0.str=tcp::1-:2",
        "`netdev_add` has no argument `hostfwd`",
        &["give `type=user` for it to be one"],
    );
}

#[test]
fn test_arguments_missing_are_named_all_at_once() {
    refused("pmemsave", "`pmemsave` needs `val`, `size`, `filename`", &["add `val=… size=… filename=…`"]);
    refused("pmemsave size=1", "`pmemsave` needs `val`, `filename`", &[]);
    refused("netdev_add hostfwd=x", "`netdev_add` needs `id`, `type`", &[]);
    refused("blockdev-add driver=qcow2", "`blockdev-add` needs `file`", &[]);
    refused("blockdev-add driver=qcow2 file.driver=file", "`blockdev-add` needs `file.filename`", &[]);
}

#[test]
fn test_values_that_do_not_fit_are_answered_with_what_fits() {
    refused(
        "block_resize size=big",
        "`big` does not go with `size` of `block_resize`, which takes a whole number",
        &[],
    );
    refused("block_resize size=+5", "`+5` does not go with `size` of `block_resize`, which takes a whole number", &[]);
    refused(
        "block_resize size=1.5",
        "`1.5` does not go with `size` of `block_resize`, which takes a whole number",
        &[],
    );
    refused("eject force=maybe", "`maybe` does not go with `force` of `eject`, which takes `on` or `off`", &[]);
    refused(
        "set-action panic=pasue",
        "`pasue` does not go with `panic` of `set-action`, which takes one of `pause`, `shutdown`, `exit-failure`, `none`",
        &["did you mean `pause`?"],
    );
    refused(
        "blockdev-add driver=qcow3 node-name=x",
        &typed("blockdev-add driver=qcow3").unwrap_err().to_string(),
        &["`qcow2`"],
    );
    refused(
        "block_resize size.x=1",
        "`size.x` does not go with `size` of `block_resize`, which takes a whole number",
        &[],
    );
    refused(
        "transaction actions=x",
        "`x` does not go with `actions.0` of `transaction`, which takes an object, as in `actions.0.…=…`",
        &[],
    );
    refused(
        "migrate-set-capabilities capabilities.1.capability=events",
        "`capabilities.1` does not go with `capabilities` of `migrate-set-capabilities`, which takes a list, as in \
         `capabilities.0=…`",
        &[],
    );
}

/// So many that time which grows with the square of their number is felt here.
#[test]
fn test_words_by_the_thousand_come_out_in_order() {
    let item = |at: usize| {
        let pairs =
            [("type", "block-dirty-bitmap-clear"), ("data.node", "disk"), ("data.name", &format!("bitmap-{at}"))];
        pairs.map(|(key, value)| format!("actions.{at}.{key}={value}"))
    };
    let words: Vec<String> = (0..10_000).rev().flat_map(item).collect();

    let command = schema().command_of_words("transaction", &words).unwrap();

    let actions = command.arguments["actions"].as_array().unwrap();
    assert_eq!(actions.len(), 10_000);
    for (at, action) in actions.iter().enumerate() {
        let data = json!({"node": "disk", "name": format!("bitmap-{at}")});
        assert_eq!(*action, json!({"type": "block-dirty-bitmap-clear", "data": data}));
    }
}

#[test]
fn test_words_for_a_list_of_itself_are_refused() {
    let told = json!([
        {"name": "x", "meta-type": "command", "arg-type": "o"},
        {"name": "o", "meta-type": "object", "members": [{"name": "l", "type": "l"}]},
        {"name": "l", "meta-type": "array", "element-type": "a"},
        {"name": "a", "meta-type": "alternate", "members": [{"type": "l"}, {"type": "l"}]},
    ]);

    let refused = Schema::of_reply(&told).unwrap().command_of_words("x", &["l=1"]).unwrap_err();

    assert!(matches!(&refused, SchemaError::WrongValue { argument, .. } if argument == "l"), "{refused:?}");
}

#[test]
fn test_reply_whose_types_never_end_is_refused() {
    let list = |at: usize| json!({"name": at.to_string(), "meta-type": "array", "element-type": (at + 1).to_string()});
    let mut told: Vec<Value> = (0..50_000).map(list).collect();
    told.push(json!({"name": "x", "meta-type": "command", "arg-type": "0"}));

    let refused = Schema::of_reply(&Value::from(told)).unwrap_err();

    assert!(refused.to_string().contains("too deep"), "{refused}");
}

#[test]
fn test_words_that_are_no_pairs_are_refused() {
    refused("eject force", "`force` is not an argument of a QMP command", &["key=value"]);
    refused(
        "human-monitor-command info",
        "`info` is not an argument of a QMP command",
        &["`command-line=…` is needed"],
    );
    refused("block_resize node-name=d size 1", "`size` is not an argument of a QMP command", &["`size=…` is needed"]);
    refused("eject =x", "`=x` is not an argument of a QMP command", &[]);
    refused("eject a..b=x", "`a..b=x` is not an argument of a QMP command", &[]);
    let deep = format!("eject {}=x", ["a"; 17].join("."));
    refused(&deep, &format!("`{}=x` is not an argument of a QMP command", ["a"; 17].join(".")), &[]);
    refused("eject id=a id=b", "`id` of `eject` is given more than once", &[]);
    refused("blockdev-add file=a file.driver=raw", "`file.driver` of `blockdev-add` is given more than once", &[]);
}

#[test]
fn test_json_keeps_its_types_and_is_checked() {
    let json = |value: Value| {
        let Value::Object(map) = value else { panic!("it is an object") };
        map
    };
    let schema = schema();
    let message = |name: &str, arguments| schema.command_of_json(name, json(arguments)).unwrap_err().to_string();

    let command = schema.command_of_json("block_resize", json(json!({"size": 5, "device": "d"}))).unwrap();

    assert_eq!(Value::Object(command.arguments), json!({"size": 5, "device": "d"}));
    assert_eq!(
        message("block_resize", json!({"size": "5"})),
        "`5` does not go with `size` of `block_resize`, which takes a whole number"
    );
    assert!(message("block_resize", json!({"size": 5.5})).starts_with("`5.5` does not go with `size`"));
    assert_eq!(message("netdev_add", json!({"hostfwd": []})), "`netdev_add` needs `id`, `type`");
    assert_eq!(message("netdev_add", json!({"id": "n", "hostfwd": []})), "`netdev_add` needs `type`");
    assert_eq!(message("block_resize", json!({"sise": 5})), "`block_resize` has no argument `sise`");
    assert_eq!(
        message("eject", json!({"force": 1})),
        "`1` does not go with `force` of `eject`, which takes `on` or `off`"
    );
    assert_eq!(message("pmemsave", json!({"val": 1})), "`pmemsave` needs `size`, `filename`");
    assert_eq!(
        message("blockdev-add", json!({"driver": "qcow2", "file": {"driver": "file", "filename": 1}})),
        "`1` does not go with `file.filename` of `blockdev-add`, which takes a text"
    );
    for number in [json!(-1), json!(u64::MAX)] {
        assert!(schema.command_of_json("balloon", json(json!({"value": number}))).is_ok(), "{number}");
    }
    assert!(schema.command_of_json("device_add", json(json!({"driver": "x", "any": {"a": 1}}))).is_ok());
    assert!(schema.command_of_json("blockdev-add", json(json!({"driver": "qcow2", "file": "n"}))).is_ok());
}

#[test]
fn test_arguments_for_completion_follow_what_was_typed() {
    let schema = schema();
    let names = |words: &[&str], under: &str| -> Vec<String> {
        schema.arguments("blockdev-add", words, under).into_iter().map(|argument| argument.name).collect()
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
fn test_reply_that_is_no_schema_is_refused_with_a_reason() {
    let why = |reply: Value| Schema::of_reply(&reply).unwrap_err().why;

    assert_eq!(why(json!({})), "it is no list");
    assert_eq!(why(json!([{}])), "something in it has no name");
    assert_eq!(why(json!([{"name": "", "meta-type": "event"}])), "`` is no name");
    assert_eq!(why(json!([{"name": "a b", "meta-type": "event"}])), "`a b` is no name");
    assert_eq!(why(json!([{"name": "x", "meta-type": "command", "arg-type": "9"}])), "the type `9` is not there");
    let itself = json!([{"name": "x", "meta-type": "command", "arg-type": "l"},
        {"name": "l", "meta-type": "array", "element-type": "l"}]);
    assert_eq!(why(itself), "the arguments of `x` are no object");
}

/// None has such in QEMU 7.2; QAPI lets them be.
#[test]
fn test_words_of_a_union_within_a_union_are_known_by_both_tags() {
    let object = |name: &str, members: Value| json!({"name": name, "meta-type": "object", "members": members});
    let mut outer = object("1", json!([{"name": "kind", "type": "str"}]));
    outer["tag"] = json!("kind");
    outer["variants"] = json!([{"case": "a", "type": "2"}]);
    let mut inner = object("2", json!([{"name": "sort", "type": "str"}]));
    inner["tag"] = json!("sort");
    inner["variants"] = json!([{"case": "b", "type": "3"}]);
    let told = json!([
        {"name": "x", "meta-type": "command", "arg-type": "1"},
        {"name": "str", "meta-type": "builtin", "json-type": "string"},
        outer,
        inner,
        object("3", json!([{"name": "deep", "type": "str"}])),
    ]);
    let schema = Schema::of_reply(&told).unwrap();

    let command = schema.command_of_words("x", &["deep=1", "sort=b", "kind=a"]).unwrap();

    assert_eq!(Value::Object(command.arguments), json!({"deep": "1", "sort": "b", "kind": "a"}));
    assert_eq!(schema.command_of_words("x", &["kind=a", "sort=b"]).unwrap_err().to_string(), "`x` needs `deep`");
    assert!(schema.command_of_words("x", &["kind=a", "sort=c", "deep=1"]).is_err());
}

/// Every argument of every command of a real QEMU, filled with what its type takes.
#[test]
fn test_words_for_every_command_are_what_the_check_of_json_takes() {
    let schema = schema();
    for name in schema.commands() {
        let words: Vec<String> = schema
            .arguments(name, &[""; 0], "")
            .iter()
            .filter(|argument| !argument.has_parts)
            .map(|argument| format!("{}={}", argument.name, argument.values.first().map_or("7", String::as_str)))
            .collect();
        match schema.command_of_words(name, &words) {
            Ok(command) => drop(schema.command_of_json(name, command.arguments).unwrap()),
            Err(SchemaError::MissingArguments { .. }) => {}
            Err(other) => panic!("{name} {words:?}: {other}"),
        }
    }
}

proptest! {
    #[test]
    fn test_words_of_any_kind_panic_nowhere_and_come_out_right_or_refused(
        index in 0_usize..216, words in prop::collection::vec("[a-z.0-9=\\[{\"-]{0,12}", 0..5)
    ) {
        let schema = schema_once();
        let name = schema.commands().nth(index).unwrap();

        if let Ok(command) = schema.command_of_words(name, &words) {
            prop_assert!(schema.command_of_json(name, command.arguments).is_ok());
        }
    }

    #[test]
    fn test_text_of_any_kind_panics_nowhere(text in ".{0,200}", from in 0_usize..20_000, word in "[a-z:@?0-9 ]{0,10}") {
        let _ = Schema::of_text(text);
        let mut kept = schema_once().as_text().to_owned();
        kept.insert_str(from.min(kept.len()), &word);
        if let Ok(schema) = Schema::of_text(kept) {
            for name in ["blockdev-add", "transaction", "netdev_add", "device_add"] {
                let _ = schema.command_of_words(name, &["driver=qcow2", "file.driver=file", "a=b"]);
                let _ = schema.arguments(name, &["driver=qcow2"], "file");
            }
        }
    }
}

/// The same, read once for all cases of a property.
fn schema_once() -> &'static Schema {
    static ONCE: std::sync::OnceLock<Schema> = std::sync::OnceLock::new();
    ONCE.get_or_init(schema)
}
