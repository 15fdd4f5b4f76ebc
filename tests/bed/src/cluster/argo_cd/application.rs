//! Applications: a folder of the repository, kept applied to a namespace.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{ARGO_CD_NAMESPACE, ArgoCd, wait};

/// Asks for a comparison; taken away again when it has been made.
const REFRESH: &str = "argocd.argoproj.io/refresh";

/// An application that is synchronised by itself, and by default healed by itself: what others change is taken back.
#[derive(Debug, Clone)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// Where its objects go. Made if it is not there.
    pub namespace: String,
    /// The folder of the repository in which its manifests are.
    pub path: String,
    /// Whether what others change is taken back.
    pub self_heal: bool,
    /// Sync options such as `RespectIgnoreDifferences=true` or `ServerSideApply=true`.
    pub sync_options: Vec<String>,
    /// Entries of `spec.ignoreDifferences`, as `{"group": "apps", "kind": "Deployment", "jqPathExpressions": [".spec…"]}`.
    pub ignore_differences: Vec<Value>,
}

/// How Argo CD finds an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationStatus {
    /// `Synced`, `OutOfSync` or `Unknown`; empty before the first comparison.
    pub sync: String,
    /// The commit that it was compared with.
    pub revision: String,
    /// `Healthy`, `Progressing`, `Degraded`, `Missing`, `Suspended` or `Unknown`; empty before the first comparison.
    pub health: String,
    /// How the last sync ended: `Running`, `Succeeded`, `Failed` or `Error`; empty before the first one.
    pub operation: String,
    /// What is wrong, as `ComparisonError: …`.
    pub conditions: Vec<String>,
}

impl Application {
    /// One that is healed by itself and ignores no differences.
    #[must_use]
    pub fn new(name: &str, namespace: &str, path: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            path: path.to_owned(),
            self_heal: true,
            sync_options: Vec::new(),
            ignore_differences: Vec::new(),
        }
    }
}

impl ArgoCd {
    /// Makes or changes an application.
    pub async fn apply(&self, application: &Application) -> Result<()> {
        let mut options = application.sync_options.clone();
        options.push("CreateNamespace=true".to_owned());
        let object = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": { "name": application.name, "namespace": ARGO_CD_NAMESPACE },
            "spec": {
                "project": "default",
                "source": {
                    "repoURL": self.repository.url(), "targetRevision": "main", "path": application.path,
                },
                "destination": { "server": self.server, "namespace": application.namespace },
                "syncPolicy": {
                    "automated": { "prune": true, "selfHeal": application.self_heal },
                    "syncOptions": options,
                },
                "ignoreDifferences": application.ignore_differences,
            },
        });
        let apply = PatchParams::apply("bed").force();
        self.applications
            .patch(&application.name, &apply, &Patch::Apply(&object))
            .await
            .with_context(|| format!("applying the application {}", application.name))?;
        Ok(())
    }

    /// How an application is.
    pub async fn status(&self, name: &str) -> Result<ApplicationStatus> {
        let application = self.applications.get(name).await;
        let application = application.with_context(|| format!("reading the application {name}"))?;
        Ok(status_of(&application))
    }

    /// Has an application compared with the repository's latest commit now, and waits until that was done. What the
    /// comparison starts may go on afterwards.
    pub async fn refresh(&self, name: &str, limit: Duration) -> Result<()> {
        let request = json!({ "metadata": { "annotations": { REFRESH: "normal" } } });
        self.applications
            .patch(name, &PatchParams::default(), &Patch::Merge(request))
            .await?;
        wait::eventually(limit, &format!("the refresh of the application {name}"), async || {
            let application = self.applications.get(name).await?;
            let annotations = application.metadata.annotations.as_ref();
            ensure!(
                !annotations.is_some_and(|all| all.contains_key(REFRESH)),
                "{:?}",
                status_of(&application)
            );
            Ok(())
        })
        .await
    }

    /// Waits until an application is synchronised with `revision` and healthy.
    pub async fn until_healthy(&self, name: &str, revision: &str, limit: Duration) -> Result<ApplicationStatus> {
        wait::eventually(limit, &format!("the application {name} at {revision}"), async || {
            let status = self.status(name).await?;
            let fine = status.sync == "Synced" && status.health == "Healthy" && status.operation == "Succeeded";
            ensure!(fine && status.revision == revision, "{status:?}");
            Ok(status)
        })
        .await
    }
}

/// All applications of a cluster.
pub(super) fn api(client: Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application");
    let resource = ApiResource::from_gvk_with_plural(&kind, "applications");
    Api::namespaced_with(client, ARGO_CD_NAMESPACE, &resource)
}

fn status_of(application: &DynamicObject) -> ApplicationStatus {
    let status = application.data.get("status").cloned().unwrap_or_default();
    let text = |pointer: &str| {
        let text = status.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let conditions = status.get("conditions").and_then(Value::as_array);
    let told = |condition: &Value| {
        let part = |name: &str| {
            condition
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        format!("{}: {}", part("type"), part("message"))
    };
    ApplicationStatus {
        sync: text("/sync/status"),
        revision: text("/sync/revision"),
        health: text("/health/status"),
        operation: text("/operationState/phase"),
        conditions: conditions.into_iter().flatten().map(told).collect(),
    }
}
