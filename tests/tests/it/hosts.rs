//! Hosts that share a database: which of them are away.

use maqet_testkit::guest::paused_yaml;
use maqet_testkit::postgres::{PostgresSchema, PostgresServer, server};
use serde_json::json;

use crate::postgres::Host;

/// Has no command run on a host for an hour.
fn make_away(server: &PostgresServer, schema: &PostgresSchema, host: &str) {
    let hour_ago = "(extract(epoch FROM now()) - 3600)::bigint * 1000000000";
    server.query(&format!("UPDATE {}.host SET seen_at = {hour_ago} WHERE host = '{host}'", schema.name));
}

#[test]
fn test_host_away_is_shown_by_every_command() {
    let server = server();
    let schema = server.schema();
    let (here, there) = (Host::new("a", &schema), Host::new("b", &schema));
    there.add("web");
    there.ok(["start", "web"]);
    let active = here.ok(["host", "ls", "--format", "json"]).json_value();
    make_away(&server, &schema, "b");

    let hosts = here.ok(["host", "ls", "--format", "json"]).json_value();
    let table = here.ok(["host", "ls"]).stdout;
    let list = here.ok(["ls", "--host", "*"]).stdout;
    let refused = here.maqet(["inspect", "web"]).run().code(4).stderr;
    let checked = here.ok(["doctor"]).stdout;
    there.ok(["stop", "--force", "web"]);
    let back = here.ok(["host", "ls", "--format", "json"]).json_value();

    assert_eq!((&active[1]["host"], active[1].get("away_since")), (&json!("b"), None));
    assert_eq!((&hosts[0]["is_own"], &hosts[0]["vms"]), (&json!(true), &json!(0)));
    assert_eq!((&hosts[1]["vms"], &hosts[1]["running"]), (&json!(1), &json!(1)));
    assert!(hosts[1]["away_since"].is_string() && back[1].get("away_since").is_none(), "{hosts} {back}");
    for text in [&table, &list, &checked] {
        assert!(text.contains("away since 20"), "{text}");
    }
    assert!(list.contains("running (host away since "), "{list}");
    assert!(refused.contains("` of host `b`, which is away since "), "{refused}");
    assert!(checked.contains("host b: host away since"), "{checked}");
}

#[test]
fn test_host_list_of_a_file_has_this_host() {
    let home = maqet_testkit::TestHome::new();
    home.add(&paused_yaml("web"));

    let hosts = home.json(&["host", "ls"]);

    assert_eq!((hosts.as_array().unwrap().len(), &hosts[0]["vms"], &hosts[0]["is_own"]), (1, &json!(1), &json!(true)));
}
