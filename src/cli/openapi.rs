//! `openapi`: the description of the API, made from the code.

use clap::Args;

use super::Out;

/// Print the OpenAPI 3.1 description of the API.
#[derive(Debug, Args)]
pub(crate) struct Openapi {}

impl Openapi {
    pub(crate) fn run(self, out: &Out) {
        out.line(format_args!("{:#}", crate::api::openapi::document()));
    }
}
