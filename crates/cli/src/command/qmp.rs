//! `maqet qmp`.

use maqet::{Maqet, operation};
use serde_json::{Map, Value};

use crate::arguments::QmpRun;
use crate::exit;
use crate::failure::Failure;
use crate::progress;
use crate::render::Output;

/// Runs a QMP command and prints what QEMU returns, which is data in every format.
pub(crate) async fn run(maqet: &Maqet, arguments: QmpRun, output: &Output) -> Result<u8, Failure> {
    let what = format!("waiting for `{}`", arguments.command);
    let operation = operation::QmpRun {
        arguments: qmp_arguments(&arguments)?,
        vm: arguments.vm,
        command: arguments.command,
        timeout: arguments.timeout,
    };
    let result = progress::shown(output.shows_progress, &what, maqet.run(operation)).await?;
    output.data(&result)?;
    Ok(exit::DONE)
}

fn qmp_arguments(arguments: &QmpRun) -> Result<Map<String, Value>, Failure> {
    match &arguments.json {
        Some(text) => match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(map),
            Ok(_) => Err(Failure::usage("`--json` takes one JSON object, such as '{\"id\": \"hdd\"}'", Vec::new())),
            Err(error) => Err(Failure::usage(format!("`--json` is not JSON: {error}"), Vec::new())),
        },
        None => arguments.arguments.iter().map(|text| pair(text)).collect(),
    }
}

/// Reads `key=value`; a value that is JSON is taken as such, anything else as text.
fn pair(text: &str) -> Result<(String, Value), Failure> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
            Ok((key.to_owned(), value))
        }
        Some(_) | None => Err(Failure::usage(
            format!("`{text}` is not an argument of a QMP command"),
            vec!["write it as `key=value`".to_owned()],
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &Value) {
        assert_eq!(pair(text).unwrap().1, *expected);
    }

    #[test]
    fn test_pair_value_that_is_json_keeps_its_type() {
        check("size=1024", &json!(1024));
        check("force=true", &json!(true));
        check("name=hdd", &json!("hdd"));
        check("name=\"1\"", &json!("1"));
        check("line=a=b", &json!("a=b"));
    }

    #[test]
    fn test_pair_without_equals_sign_is_refused() {
        assert!(pair("force").is_err());
    }
}
