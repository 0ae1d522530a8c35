//! `openapi`: the description of the API, made from the code.

use clap::Args;

use super::{Failure, Out};
use crate::{api::openapi::document, config::Config};

/// Print the OpenAPI 3.1 description of the API.
#[derive(Debug, Args)]
pub(crate) struct Openapi {}

impl Openapi {
    pub(crate) fn run(self, out: &Out) -> Result<(), Failure> {
        let defaults = Config::from_sources(None, []).map_err(|error| Failure::Usage(error.to_string()))?;
        out.line(format_args!("{:#}", document(&defaults.server)));
        Ok(())
    }
}
