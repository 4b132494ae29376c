//! The log as JSON, an object on each line.

use std::io::Write;

use maqet::domain::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::field::Fields;

/// Writes entries, and spans once they end.
pub(super) struct JsonLayer<W> {
    writer: W,
}

impl<W> JsonLayer<W> {
    pub(super) const fn new(writer: W) -> Self {
        Self { writer }
    }
}

/// What is known of a span.
struct Spanned {
    fields: Fields,
    began: Instant,
}

impl<W: for<'a> MakeWriter<'a> + 'static> JsonLayer<W> {
    fn write<'a, S: for<'b> LookupSpan<'b> + 'a>(
        &self,
        metadata: &Metadata<'_>,
        mut fields: Map<String, Value>,
        within: Option<SpanRef<'a, S>>,
    ) {
        let message = fields.shift_remove("message").unwrap_or_default();
        let mut entry = json!({
            "time": format!("{:.6}", Timestamp::now()),
            "level": metadata.level().as_str().to_ascii_lowercase(),
            "target": metadata.target(),
            "message": message,
        });
        if !fields.is_empty() {
            entry["fields"] = Value::Object(fields);
        }
        let spans: Vec<Value> =
            within.into_iter().flat_map(|span| span.scope().from_root()).map(|span| shown(&span)).collect();
        if !spans.is_empty() {
            entry["spans"] = Value::Array(spans);
        }
        // A log that cannot be written is worth no error.
        let _ = self.writer.make_writer().write_all(format!("{entry}\n").as_bytes());
    }
}

/// Returns the name and the fields of a span.
fn shown<S: for<'a> LookupSpan<'a>>(span: &SpanRef<'_, S>) -> Value {
    let mut shown = Map::from_iter([("name".to_owned(), span.name().into())]);
    if let Some(spanned) = span.extensions().get::<Spanned>() {
        shown.extend(spanned.fields.0.clone());
    }
    Value::Object(shown)
}

impl<S, W> Layer<S> for JsonLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let spanned = Spanned { fields: Fields::of_span(attributes), began: Instant::now() };
            span.extensions_mut().insert(spanned);
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(spanned) = span.extensions_mut().get_mut::<Spanned>()
        {
            spanned.fields.add(record);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.write(event.metadata(), fields.0, context.event_span(event));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(began) = span.extensions().get::<Spanned>().map(|spanned| spanned.began) else { return };
        let seconds = began.elapsed().as_secs_f64();
        let fields = [("message".to_owned(), "close".into()), ("seconds".to_owned(), seconds.into())];
        self.write(span.metadata(), Map::from_iter(fields), Some(span));
    }
}
