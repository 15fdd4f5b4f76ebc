//! Installing the operator's chart, for its CRDs, its `ServiceAccount` and its rights.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use super::Cluster;
use bed_programs as wait;

/// Where the operator is installed.
pub const NAMESPACE: &str = "ecr-operator-system";

/// The `ServiceAccount` it runs under, and the name of the release.
pub const SERVICE_ACCOUNT: &str = "ecr-operator";

/// How long a CRD may take to be served.
const ESTABLISHED_LIMIT: Duration = Duration::from_secs(30);

impl Cluster {
    /// The user as which the installed operator is seen by the apiserver.
    #[must_use]
    pub fn operator_user() -> String {
        format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}")
    }

    /// Installs or upgrades the chart in `chart` with `values` (`ownerId` at least), and waits until its CRDs are served.
    ///
    /// No replica is wanted: the operator runs as a process beside the cluster, see [`Operator`](crate::Operator).
    pub async fn install_chart(&self, chart: &Path, values: &Value) -> Result<()> {
        let file = self.bed().directory().join(format!("{}-values.json", self.name()));
        std::fs::write(&file, values.to_string())?;
        let arguments: [&OsStr; 10] = [
            "upgrade".as_ref(),
            "--install".as_ref(),
            SERVICE_ACCOUNT.as_ref(),
            chart.as_ref(),
            "--create-namespace".as_ref(),
            "--namespace".as_ref(),
            NAMESPACE.as_ref(),
            "--set=replicaCount=0".as_ref(),
            "--values".as_ref(),
            file.as_ref(),
        ];
        self.helm(&arguments).await?.checked()?;

        let definitions: Api<CustomResourceDefinition> = Api::all(self.client().await?);
        wait::eventually(ESTABLISHED_LIMIT, "the CRDs to be served", async || {
            let unserved = definitions
                .list(&ListParams::default())
                .await?
                .items
                .into_iter()
                .find(|crd| !is_served(crd));
            unserved.map_or(Ok(()), |crd| Err(anyhow!("{} is not established", crd.name_any())))
        })
        .await
    }
}

fn is_served(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Established" && one.status == "True"))
}
