//! How far the start of a guest is: its services, as systemd says, and what cloud-init has done.
//!
//! Both are asked by a script that the agent runs; what it prints comes from the guest, and is bounded and shown without
//! control characters.

use serde::Serialize;
use serde_json::Value;

use super::command::shell;
use super::protocol::AgentCommand;
use crate::text::is_control;

/// Prints the state of systemd, and then the units that failed.
const BOOT: &str = r#"
[ -d /run/systemd/system ] || { echo none; exit; }
state=$(systemctl is-system-running 2>/dev/null)
echo "${state:-unknown}"
[ "$state" != degraded ] && [ "$state" != maintenance ] || systemctl --failed --plain --no-legend --full 2>/dev/null
"#;

/// Prints the state of cloud-init, and its result once it has one.
const CLOUD_INIT: &str = "
d=/run/cloud-init
if [ -e $d/disabled ]; then echo disabled
elif [ -e $d/result.json ]; then echo done; cat $d/result.json
elif [ -d $d ]; then echo running
elif command -v cloud-init >/dev/null; then echo running
else echo none
fi
";

/// How many units or errors of a guest are read.
const MAX_ENTRIES: usize = 32;

/// How much of each is kept.
const MAX_TEXT_CHARS: usize = 512;

/// The start of a guest, as systemd says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum GuestBoot {
    /// It is under way.
    Starting,
    /// Everything has been started.
    Running,
    /// Everything has been started, except for units that failed.
    Degraded {
        /// Those units.
        failed_units: Vec<String>,
    },
    /// It ended in the rescue or emergency mode.
    Maintenance {
        /// The units that failed.
        failed_units: Vec<String>,
    },
    /// The guest has no systemd.
    Unsupported,
}

/// What cloud-init has done in a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum CloudInit {
    /// It is at work, or about to be.
    Running,
    /// It has done everything.
    Done {
        /// Where its data came from.
        datasource: String,
    },
    /// It has ended with errors.
    Failed {
        /// What it says about them.
        errors: Vec<String>,
    },
    /// It is disabled, as without a seed.
    Disabled,
    /// The guest does not have it.
    Unsupported,
}

impl GuestBoot {
    /// Returns the command for the agent.
    pub fn query() -> AgentCommand {
        shell(vec!["-c", BOOT, "maqet-boot"]).argument("capture-output", true)
    }

    /// Reads what the command printed.
    pub fn parse(output: &str) -> Self {
        let mut lines = output.lines();
        let state = lines.next().unwrap_or_default().trim();
        let units = lines.filter_map(|line| line.split_whitespace().next()).take(MAX_ENTRIES).map(shown);
        match state {
            "running" => Self::Running,
            "degraded" => Self::Degraded { failed_units: units.collect() },
            "maintenance" => Self::Maintenance { failed_units: units.collect() },
            "none" => Self::Unsupported,
            _ => Self::Starting,
        }
    }
}

impl CloudInit {
    /// Returns the command for the agent.
    pub fn query() -> AgentCommand {
        shell(vec!["-c", CLOUD_INIT, "maqet-cloud-init"]).argument("capture-output", true)
    }

    /// Reads what the command printed.
    pub fn parse(output: &str) -> Self {
        let (state, rest) = output.split_once('\n').unwrap_or((output, ""));
        match state.trim() {
            "done" => Self::of_result(rest),
            "disabled" => Self::Disabled,
            "none" => Self::Unsupported,
            _ => Self::Running,
        }
    }

    /// Reads the file with the result; one that is not whole is being written.
    fn of_result(text: &str) -> Self {
        let Ok(result) = serde_json::from_str::<Value>(text) else { return Self::Running };
        let Some(result) = result.get("v1") else { return Self::Running };
        let errors = result.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let datasource = result.get("datasource").and_then(Value::as_str).map(shown);
        if errors.is_empty() && datasource.is_some() {
            return Self::Done { datasource: datasource.unwrap_or_default() };
        }
        let errors = errors.iter().take(MAX_ENTRIES).map(|error| match error.as_str() {
            Some(text) => shown(text),
            None => shown(&error.to_string()),
        });
        let errors: Vec<String> = errors.collect();
        // It found no data source.
        let errors = if errors.is_empty() { vec!["no data source found".to_owned()] } else { errors };
        Self::Failed { errors }
    }
}

fn shown(text: &str) -> String {
    text.chars().map(|char| if is_control(char) { ' ' } else { char }).take(MAX_TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_boot_state_is_that_of_systemd() {
        let failed = "degraded\nfoo.service loaded failed failed Foo\nbar.mount loaded failed failed /bar\n";
        let units = vec!["foo.service".to_owned(), "bar.mount".to_owned()];
        for (output, expected) in [
            ("running\n", GuestBoot::Running),
            ("starting\n", GuestBoot::Starting),
            ("initializing", GuestBoot::Starting),
            ("", GuestBoot::Starting),
            ("none\n", GuestBoot::Unsupported),
            (failed, GuestBoot::Degraded { failed_units: units.clone() }),
            (&failed.replace("degraded", "maintenance"), GuestBoot::Maintenance { failed_units: units }),
        ] {
            assert_eq!(GuestBoot::parse(output), expected, "{output}");
        }
    }

    #[test]
    fn test_cloud_init_result_is_done_or_its_errors() {
        let done = r#"{"v1": {"datasource": "DataSourceNoCloud", "errors": []}}"#;
        let failed = r#"{"v1": {"datasource": "DataSourceNoCloud", "errors": ["('a', 1)\u001b[2J", 7]}}"#;
        for (output, expected) in [
            (format!("done\n{done}\n"), CloudInit::Done { datasource: "DataSourceNoCloud".to_owned() }),
            (format!("done\n{failed}"), CloudInit::Failed { errors: vec!["('a', 1) [2J".to_owned(), "7".to_owned()] }),
            (
                r#"done
{"v1": {"datasource": null, "errors": []}}"#
                    .to_owned(),
                CloudInit::Failed { errors: vec!["no data source found".to_owned()] },
            ),
            ("done\n{\"v1\"".to_owned(), CloudInit::Running),
            ("running\n".to_owned(), CloudInit::Running),
            ("disabled\n".to_owned(), CloudInit::Disabled),
            ("none\n".to_owned(), CloudInit::Unsupported),
            (String::new(), CloudInit::Running),
        ] {
            assert_eq!(CloudInit::parse(&output), expected, "{output}");
        }
    }

    #[test]
    fn test_progress_of_a_hostile_guest_is_bounded() {
        let units = format!("degraded\n{}", "x".repeat(2000) + "\n").replace("\nx", &"\nyyy".repeat(100));

        let GuestBoot::Degraded { failed_units } = GuestBoot::parse(&units) else { panic!("{units}") };

        assert_eq!(failed_units.len(), MAX_ENTRIES);
        let long = GuestBoot::parse(&format!("degraded\n{}", "x".repeat(2000)));
        assert_eq!(long, GuestBoot::Degraded { failed_units: vec!["x".repeat(MAX_TEXT_CHARS)] });
    }
}
