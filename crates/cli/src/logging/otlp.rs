//! Export of spans by OTLP, as JSON over HTTP, to a collector in reach without TLS.
//!
//! The variables are those of OpenTelemetry: `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`,
//! `OTEL_TRACES_EXPORTER`, `OTEL_SDK_DISABLED`, `OTEL_SERVICE_NAME`, and `TRACEPARENT` of W3C Trace Context. The spans of a command are sent in one request when it
//! ends; a collector that does not answer delays that by [`TIMEOUT`], and fails nothing.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maqet::Environment;
use serde_json::{Map, Value, json};
use tracing::Subscriber;
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::BoxedLayer;
use super::field::Fields;

/// How long the collector may take to accept a connection, a request, and to respond.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How many spans are kept; a command has some dozens, a shell may have more.
const MAX_SPANS: usize = 4_096;

/// `STATUS_CODE_ERROR` and `SPAN_KIND_INTERNAL` (opentelemetry/proto/trace/v1/trace.proto).
const STATUS_ERROR: u8 = 2;
const KIND_INTERNAL: u8 = 1;

/// The variables of the collector, the more specific one first.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Returns the layer that collects spans, and what exports them in the end; `None` without a collector.
///
/// Errors: why nothing can be sent; without the URL, which may hold a password.
pub(super) fn layer(environment: &Environment) -> Result<Option<(BoxedLayer, Exporter)>, String> {
    let text = |name: &str| environment.get(name).map(|value| value.to_string_lossy().into_owned());
    let is_disabled = text("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let exports = |exporters: String| exporters.split(',').any(|exporter| exporter.trim() == "otlp");
    if is_disabled || !text("OTEL_TRACES_EXPORTER").is_none_or(exports) {
        return Ok(None);
    }
    let Some((variable, url)) = ENDPOINTS.iter().find_map(|name| Some((*name, text(name)?))) else { return Ok(None) };
    let is_whole = variable == ENDPOINTS[0];
    let url = if is_whole { url } else { format!("{}/v1/traces", url.trim_end_matches('/')) };
    let collector = Collector::parse(&url).ok_or_else(|| unusable(variable))?;
    let parent = text("TRACEPARENT").and_then(|parent| Parent::parse(&parent));
    let trace = parent.as_ref().map_or_else(|| format!("{}{}", new_id(), new_id()), |parent| parent.trace.clone());
    let spans = Arc::new(Mutex::new(Vec::new()));
    let service = text("OTEL_SERVICE_NAME").unwrap_or_else(|| "maqet".to_owned());
    let exporter = Exporter { collector, service, spans: Arc::clone(&spans) };
    let layer = SpanLayer { trace, parent: parent.map(|parent| parent.span), spans };
    let own_spans = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("maqet"));
    Ok(Some((layer.with_filter(own_spans.with_max_level_hint(LevelFilter::TRACE)).boxed(), exporter)))
}

fn unusable(variable: &str) -> String {
    format!(
        "`{variable}` is not a URL as `http://HOST:PORT`, without a user; for TLS, send to a collector on this host"
    )
}

/// Where spans are sent.
struct Collector {
    /// With the port.
    authority: String,
    path: String,
}

impl Collector {
    fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let is_valid = !authority.is_empty() && !url.contains(|letter: char| letter.is_whitespace() || letter == '@');
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        is_valid.then(|| Self { authority, path: path.to_owned() })
    }

    fn post(&self, body: &str) -> io::Result<()> {
        let address = self.authority.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no address"))?;
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let Self { authority, path } = self;
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )?;
        let mut reply = [0; 12];
        stream.read_exact(&mut reply)?;
        // The class of the status in `HTTP/1.1 200`.
        if reply.get(9) == Some(&b'2') {
            return Ok(());
        }
        Err(io::Error::other(format!("the collector responded `{}`", String::from_utf8_lossy(&reply))))
    }
}

/// The span of the caller (<https://www.w3.org/TR/trace-context/>).
struct Parent {
    trace: String,
    span: String,
}

impl Parent {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (_version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
        let is_id = |id: &str, length: usize| id.len() == length && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_id(trace, 32) && is_id(span, 16)).then(|| Self { trace: trace.to_owned(), span: span.to_owned() })
    }
}

/// Returns a random ID of eight bytes in hexadecimal digits, which is not zero.
fn new_id() -> String {
    format!("{:016x}", RandomState::new().hash_one(0_u8).max(1))
}

/// Collects spans that have ended.
struct SpanLayer {
    trace: String,
    /// The span of the caller.
    parent: Option<String>,
    spans: Arc<Mutex<Vec<Value>>>,
}

/// A span that has not ended.
struct OpenSpan {
    id: String,
    parent: Option<String>,
    began: SystemTime,
    fields: Fields,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let of_parent = span.parent().and_then(|parent| Some(parent.extensions().get::<OpenSpan>()?.id.clone()));
        let parent = of_parent.or_else(|| self.parent.clone());
        let fields = Fields::of_span(attributes);
        span.extensions_mut().insert(OpenSpan { id: new_id(), parent, began: SystemTime::now(), fields });
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<OpenSpan>()
        {
            open.fields.add(record);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<OpenSpan>() else { return };
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        if spans.len() < MAX_SPANS {
            spans.push(encode(&self.trace, span.name(), &open));
        }
    }
}

fn encode(trace: &str, name: &str, span: &OpenSpan) -> Value {
    let nanos = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string();
    let fields = &span.fields.0;
    // An operation is found by its own name.
    let name = fields.get("operation").and_then(Value::as_str).unwrap_or(name);
    let mut encoded = json!({
        "traceId": trace,
        "spanId": span.id,
        "name": name,
        "kind": KIND_INTERNAL,
        "startTimeUnixNano": nanos(span.began),
        "endTimeUnixNano": nanos(SystemTime::now()),
        "attributes": attributes(fields),
    });
    if let Some(parent) = &span.parent {
        encoded["parentSpanId"] = json!(parent);
    }
    if let Some(error) = fields.get("error") {
        encoded["status"] = json!({ "code": STATUS_ERROR, "message": error });
    }
    encoded
}

/// Returns attributes as OTLP encodes them in JSON: 64-bit integers are strings.
fn attributes(fields: &Map<String, Value>) -> Vec<Value> {
    let encoded = |value: &Value| match value {
        Value::Bool(value) => json!({ "boolValue": value }),
        Value::Number(value) if value.is_f64() => json!({ "doubleValue": value }),
        Value::Number(value) => json!({ "intValue": value.to_string() }),
        Value::String(value) => json!({ "stringValue": value }),
        other => json!({ "stringValue": other.to_string() }),
    };
    fields.iter().map(|(key, value)| json!({ "key": format!("maqet.{key}"), "value": encoded(value) })).collect()
}

/// Sends the spans when it is dropped.
pub(super) struct Exporter {
    collector: Collector,
    service: String,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let spans = std::mem::take(&mut *self.spans.lock().unwrap_or_else(PoisonError::into_inner));
        if spans.is_empty() {
            return;
        }
        let string = |value: &str| json!({ "stringValue": value });
        let version = env!("CARGO_PKG_VERSION");
        let body = json!({ "resourceSpans": [{
            "resource": { "attributes": [
                { "key": "service.name", "value": string(&self.service) },
                { "key": "service.version", "value": string(version) },
            ] },
            "scopeSpans": [{ "scope": { "name": "maqet", "version": version }, "spans": spans }],
        }] });
        if let Err(error) = self.collector.post(&body.to_string()) {
            tracing::warn!(%error, "could not export the spans");
        }
    }
}

#[cfg(test)]
mod tests {
    use maqet_testkit::Collector as TestCollector;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().copied().collect()
    }

    #[test]
    fn test_spans_arrive_with_parents_attributes_and_status() {
        let collector = TestCollector::start();
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let environment = environment(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
            ("TRACEPARENT", &format!("00-{trace}-b7ad6b7169203331-01")),
        ]);
        let (layer, exporter) = layer(&environment).unwrap().unwrap();

        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let outer = tracing::trace_span!("operation", operation = "start", vm = "web", error = "vm.not-found");
            let _entered = outer.enter();
            drop(tracing::trace_span!("qmp", command = "query-status", number = 3_u64).entered());
        });
        drop(exporter);

        let bodies = collector.received();
        let spans = bodies[0]["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
        let [inner, outer] = spans.as_slice() else { panic!("{bodies:?}") };
        assert_eq!((&outer["name"], &outer["parentSpanId"]), (&json!("start"), &json!("b7ad6b7169203331")));
        assert_eq!((&inner["name"], &inner["parentSpanId"]), (&json!("qmp"), &outer["spanId"]));
        assert_eq!([&inner["traceId"], &outer["traceId"]], [trace, trace]);
        assert_eq!(outer["status"], json!({ "code": 2, "message": "vm.not-found" }));
        let number = json!({ "key": "maqet.number", "value": { "intValue": "3" } });
        assert!(inner["attributes"].as_array().unwrap().contains(&number), "{inner}");
    }

    #[test]
    fn test_layer_without_endpoint_is_none() {
        assert!(layer(&environment(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")])).unwrap().is_none());
    }

    #[test]
    fn test_layer_with_unusable_endpoint_is_refused_without_the_url() {
        for variable in ENDPOINTS {
            for url in ["https://collector:4318", "http://", "http://me:secret@collector", "collector:4318"] {
                let refused = layer(&environment(&[(variable, url)])).map(drop).unwrap_err();

                assert!(refused.contains(variable) && !refused.contains("collector:4318"), "{url}: {refused}");
                assert!(!refused.contains("secret"), "{url}: {refused}");
            }
        }
    }

    #[test]
    fn test_layer_disabled_or_with_another_exporter_is_none() {
        let with = |name: &str, value: &str| {
            let url = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
            layer(&environment(&[url, (name, value)])).unwrap().is_some()
        };

        assert!(!with("OTEL_SDK_DISABLED", "true") && !with("OTEL_SDK_DISABLED", "TRUE"));
        assert!(with("OTEL_SDK_DISABLED", "false"));
        assert!(!with("OTEL_TRACES_EXPORTER", "none") && !with("OTEL_TRACES_EXPORTER", "console"));
        assert!(with("OTEL_TRACES_EXPORTER", "otlp") && with("OTEL_TRACES_EXPORTER", "console, otlp"));
    }

    #[test]
    fn test_parent_of_other_form_is_ignored() {
        for text in ["", "00-xyz-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-1-01"] {
            assert!(Parent::parse(text).is_none(), "{text}");
        }
    }
}
