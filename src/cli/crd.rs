//! `ecr-operator crd`

use super::Outcome;

pub(super) fn main() -> Outcome {
    super::print(&crate::generated::crds().map_err(|error| error.to_string())?)
}
