//! Reading of values from any self-describing format.

use std::fmt;
use std::iter;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Value;

/// One level of a parsed document: a scalar, or a list or map whose keys `K` and values `N` the reader chooses.
///
/// A reader of JSON takes plain strings and nodes; one of YAML takes types that know their location.
#[derive(Debug)]
pub enum Raw<K, N> {
    /// A value that is neither a list nor a map.
    Scalar(Value),
    /// A list.
    List(Vec<N>),
    /// Keys and values in source order; duplicates are kept.
    Map(Vec<(K, N)>),
}

impl<'de, K: Deserialize<'de>, N: Deserialize<'de>> Deserialize<'de> for Raw<K, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor(PhantomData))
    }
}

struct RawVisitor<K, N>(PhantomData<(K, N)>);

impl<'de, K: Deserialize<'de>, N: Deserialize<'de>> Visitor<'de> for RawVisitor<K, N> {
    type Value = Raw<K, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a configuration")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Raw::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Raw::Scalar(Value::Int(value)))
    }

    /// A number beyond `i64` becomes a string, so that QEMU gets the same digits.
    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Raw::Scalar(i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Int)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Raw::Scalar(Value::Float(value)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Raw::Scalar(Value::Text(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Raw::Scalar(Value::Text(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let items = iter::from_fn(|| access.next_element().transpose());
        items.collect::<Result<_, _>>().map(Raw::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let entries = iter::from_fn(|| access.next_entry().transpose());
        entries.collect::<Result<_, _>>().map(Raw::Map)
    }
}
