//! An HTTP client, which the stand-in does not have.

use std::fmt;

/// Headers, as the real crate has them.
pub mod header {
    pub use http::HeaderMap;
}

/// The reason why there is no client.
#[derive(Debug)]
pub struct Error;

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the stand-in fetches nothing from other registries")
    }
}

impl std::error::Error for Error {}

/// A client. It has no values.
#[derive(Clone, Copy, Debug)]
pub enum Client {}

impl Client {
    /// A builder, which builds no client.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder
    }

    /// A request, which cannot be asked for.
    pub fn get(&self, _url: &str) -> RequestBuilder {
        match *self {}
    }
}

/// A builder of clients, which builds none.
#[derive(Debug)]
pub struct ClientBuilder;

impl ClientBuilder {
    /// The same builder.
    #[must_use]
    pub fn user_agent(self, _agent: &str) -> Self {
        self
    }

    /// The error that says that there is no client.
    pub fn build(self) -> Result<Client, Error> {
        Err(Error)
    }
}

/// A request. It has no values.
#[derive(Clone, Copy, Debug)]
pub enum RequestBuilder {}

impl RequestBuilder {
    /// The same request.
    #[must_use]
    pub fn header(self, _name: &str, _value: impl AsRef<str>) -> Self {
        match self {}
    }

    /// The answer to the request.
    pub async fn send(self) -> Result<Response, Error> {
        match self {}
    }
}

/// An answer. It has no values.
#[derive(Clone, Copy, Debug)]
pub enum Response {}

impl Response {
    /// The status.
    #[must_use]
    pub fn status(&self) -> http::StatusCode {
        match *self {}
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &http::HeaderMap {
        match *self {}
    }

    /// The answer, or the error that its status stands for.
    pub fn error_for_status(self) -> Result<Self, Error> {
        match self {}
    }

    /// The body.
    pub async fn bytes(self) -> Result<bytes::Bytes, Error> {
        match self {}
    }

    /// The body, read as JSON.
    pub async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, Error> {
        match self {}
    }
}
