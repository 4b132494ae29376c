//! Domain values as parameters of statements, and columns as domain values.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use maqet_domain::vm::VmId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};
use uuid::Uuid;

use crate::error::Failure;

/// A parameter of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(Option<String>),
    Number(Option<i64>),
    Bytes(Option<Vec<u8>>),
    Id(Option<Uuid>),
    Flag(bool),
}

impl Value {
    pub(crate) fn text(text: &(impl ToString + ?Sized)) -> Self {
        Self::Text(Some(text.to_string()))
    }

    pub(crate) fn path(path: &Path) -> Self {
        Self::Bytes(Some(path.as_os_str().as_bytes().to_vec()))
    }

    pub(crate) fn id(id: VmId) -> Self {
        Self::Id(Some(Uuid::from_bytes(id.bytes())))
    }

    /// Returns JSON as text, which keeps the order of keys.
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self::Text(Some(serde_json::to_string(value).map_err(|error| Failure::Value(error.into()))?)))
    }

    /// Returns nanoseconds since 1970, which cover the years 1677 to 2262.
    pub(crate) fn moment(moment: Timestamp) -> Result<Self, Failure> {
        nanoseconds(moment).map(|nanoseconds| Self::Number(Some(nanoseconds)))
    }

    /// Returns the parameter with its type, which spares a round trip that asks the server for it.
    pub(crate) fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Text(text) => (text, Type::TEXT),
            Self::Number(number) => (number, Type::INT8),
            Self::Bytes(bytes) => (bytes, Type::BYTEA),
            Self::Id(id) => (id, Type::UUID),
            Self::Flag(flag) => (flag, Type::BOOL),
        }
    }
}

/// Returns nanoseconds since 1970.
pub(crate) fn nanoseconds(moment: Timestamp) -> Result<i64, Failure> {
    i64::try_from(moment.as_nanosecond()).map_err(|error| Failure::Value(error.into()))
}

/// The columns of a row, read from left to right.
pub(crate) struct Columns<'a> {
    row: &'a Row,
    next: usize,
}

impl<'a> Columns<'a> {
    pub(crate) const fn new(row: &'a Row) -> Self {
        Self { row, next: 0 }
    }

    /// Passes over columns that are null.
    pub(crate) const fn skip(&mut self, columns: usize) {
        self.next += columns;
    }

    pub(crate) fn get<T: FromSql<'a>>(&mut self) -> Result<T, Failure> {
        let column = self.next;
        self.next += 1;
        self.row.try_get(column).map_err(|error| Failure::damage(column, &error))
    }

    /// Reads a value that is stored in its text form.
    pub(crate) fn parsed<T>(&mut self) -> Result<T, Failure>
    where
        T: FromStr,
        T::Err: std::error::Error,
    {
        let column = self.next;
        self.get::<&str>()?.parse().map_err(|error: T::Err| Failure::damage(column, &error))
    }

    pub(crate) fn optional_parsed<T>(&mut self) -> Result<Option<T>, Failure>
    where
        T: FromStr,
        T::Err: std::error::Error,
    {
        let column = self.next;
        let text = self.get::<Option<&str>>()?;
        text.map(str::parse).transpose().map_err(|error: T::Err| Failure::damage(column, &error))
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let column = self.next;
        serde_json::from_str(self.get()?).map_err(|error| Failure::damage(column, &error))
    }

    pub(crate) fn optional_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        let column = self.next;
        let text = self.get::<Option<&str>>()?;
        text.map(serde_json::from_str).transpose().map_err(|error| Failure::damage(column, &error))
    }

    pub(crate) fn moment(&mut self) -> Result<Timestamp, Failure> {
        let column = self.next;
        let nanoseconds = self.get::<i64>()?;
        Timestamp::from_nanosecond(nanoseconds.into()).map_err(|error| Failure::damage(column, &error))
    }

    pub(crate) fn optional_moment(&mut self) -> Result<Option<Timestamp>, Failure> {
        let column = self.next;
        let nanoseconds = self.get::<Option<i64>>()?;
        let moment = nanoseconds.map(|nanoseconds| Timestamp::from_nanosecond(nanoseconds.into())).transpose();
        moment.map_err(|error| Failure::damage(column, &error))
    }

    pub(crate) fn path(&mut self) -> Result<PathBuf, Failure> {
        Ok(PathBuf::from(OsString::from_vec(self.get()?)))
    }

    pub(crate) fn optional_vm(&mut self) -> Result<Option<VmId>, Failure> {
        Ok(self.get::<Option<Uuid>>()?.map(VmId::from_uuid))
    }

    pub(crate) fn vm(&mut self) -> Result<VmId, Failure> {
        self.get().map(VmId::from_uuid)
    }

    /// Reads a number that is not negative and at most the maximum of its type.
    pub(crate) fn count<T: TryFrom<i64, Error = std::num::TryFromIntError>>(&mut self) -> Result<T, Failure> {
        let column = self.next;
        T::try_from(self.get::<i64>()?).map_err(|error| Failure::damage(column, &error))
    }

    pub(crate) fn optional_count<T: TryFrom<i64, Error = std::num::TryFromIntError>>(
        &mut self,
    ) -> Result<Option<T>, Failure> {
        let column = self.next;
        let number = self.get::<Option<i64>>()?;
        number.map(T::try_from).transpose().map_err(|error| Failure::damage(column, &error))
    }
}
