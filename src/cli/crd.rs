//! `ecr-operator crd`

use crate::terminal::{self, Outcome};

pub(super) fn main() -> Outcome {
    terminal::print(&crate::generated::crds().map_err(|error| error.to_string())?)
}
