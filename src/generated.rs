//! Everything that is derived from the code and kept in the repository: definitions, chart copies, reference pages.
//! `cargo xtask generate` writes it, and a test compares it.

mod admission;
mod crds;
mod reference;

use std::path::PathBuf;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::api::{
    ClusterLifecyclePolicy, ImagePromotion, LifecyclePolicy, PullSecret, PullThroughCacheRule, Registry,
    ReplicationConfig, Repository, RepositoryCreationTemplate,
};
use crate::document::iam;

/// What cannot be written down.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A type could not be turned into YAML.
    #[error("not expressible as YAML: {0}")]
    Yaml(#[from] serde_yaml_ng::Error),
    /// A name of the examples is not one.
    #[error("not a name: {0}")]
    Name(#[from] crate::api::names::NameError),
    /// A schema could not be read back.
    #[error("not a valid schema: {0}")]
    Schema(#[from] serde_json::Error),
}

/// The custom resource definitions, in the order of their names.
fn definitions() -> Result<Vec<CustomResourceDefinition>, GenerateError> {
    [
        ClusterLifecyclePolicy::crd(),
        ImagePromotion::crd(),
        LifecyclePolicy::crd(),
        PullSecret::crd(),
        PullThroughCacheRule::crd(),
        Registry::crd(),
        ReplicationConfig::crd(),
        Repository::crd(),
        RepositoryCreationTemplate::crd(),
    ]
    .iter()
    .map(crds::finished)
    .collect()
}

/// All custom resource definitions as one YAML stream.
pub(crate) fn crds() -> Result<String, GenerateError> {
    definitions()?
        .iter()
        .map(|crd| Ok(format!("---\n{}", crds::yaml(crd)?)))
        .collect()
}

/// The reference page on rights, for what the guides write of.
fn rights() -> Result<String, GenerateError> {
    Ok(iam::reference(&iam::Scope {
        account: "111122223333".parse()?,
        region: "eu-west-1".parse()?,
        owner: "prod".parse()?,
        prefixes: Vec::new(),
        queue: "arn:aws:sqs:eu-west-1:111122223333:ecr-operator".into(),
        pull_role: "arn:aws:iam::111122223333:role/ecr-operator-pull".into(),
    }))
}

/// Every generated file, by its path in the repository.
pub fn files() -> Result<Vec<(PathBuf, String)>, GenerateError> {
    let mut files = Vec::new();
    let definitions = definitions()?;
    for crd in &definitions {
        let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
        let yaml = crds::yaml(crd)?;
        files.push((
            PathBuf::from("charts/ecr-operator/templates/crds").join(&name),
            crds::template(&yaml),
        ));
        files.push((PathBuf::from("crds").join(&name), yaml));
    }
    files.push((
        PathBuf::from("charts/ecr-operator/templates/admission.yaml"),
        admission::template()?,
    ));
    files.push((
        PathBuf::from("docs/reference/reasons.md"),
        crate::control::reason::reference(),
    ));
    files.push((PathBuf::from("docs/reference/iam.md"), rights()?));
    files.push((PathBuf::from("docs/reference/api.md"), reference::page(&definitions)));
    Ok(files)
}
