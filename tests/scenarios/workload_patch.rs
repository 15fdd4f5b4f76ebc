//! What promotions rest on when they write to workloads, seen on a real apiserver. The bodies are those of
//! `src/promotion/patch.rs`, whose plain tests pin them down, and the managers those that `src/promotion/ownership.rs`
//! reads.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bed::{Cluster, eventually, throughout};
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{LIMIT, merge, run};

/// The field manager of promotions.
const OURS: &str = "ecr-operator-image-promotion";

/// How long nothing may happen for it to count as nothing.
const QUIET: Duration = Duration::from_secs(3);

/// A namespace with workloads in it.
struct Workloads<'a> {
    cluster: &'a Cluster,
    namespace: &'static str,
    kind: &'static str,
    api: Api<DynamicObject>,
}

impl<'a> Workloads<'a> {
    async fn new(cluster: &'a Cluster, namespace: &'static str, kind: &'static str) -> Result<Self> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
        let api = Api::namespaced_with(cluster.client().await?, namespace, &resource);
        cluster.kubectl(&["create", "namespace", namespace]).await?.checked()?;
        Ok(Self {
            cluster,
            namespace,
            kind,
            api,
        })
    }

    /// The manifest of a workload with these containers and nothing in them but their images, but for a variable in the
    /// first.
    fn manifest(&self, containers: &[(&str, &str)]) -> Value {
        let mut containers: Vec<Value> = containers
            .iter()
            .map(|(name, image)| json!({ "name": name, "image": image }))
            .collect();
        containers[0]["env"] = json!([{ "name": "A", "value": "b" }]);
        json!({
            "apiVersion": "apps/v1", "kind": self.kind, "metadata": { "name": "web", "namespace": self.namespace },
            "spec": {
                "replicas": 1,
                "selector": { "matchLabels": { "app": "web" } },
                "template": {
                    "metadata": { "labels": { "app": "web" } },
                    "spec": { "containers": containers },
                },
            },
        })
    }

    async fn kubectl(&self, args: &[&str], manifest: &Value) -> Result<String> {
        let args = [args, &["-n", self.namespace]].concat();
        let output = self.cluster.kubectl_with_input(&args, &manifest.to_string()).await?;
        output.checked()
    }

    async fn get(&self) -> Result<Value> {
        Ok(serde_json::to_value(self.api.get("web").await?)?)
    }

    /// Puts images into containers as a promotion does, on top of what was seen.
    async fn promote(&self, seen: &Value, containers: &[(&str, &str)]) -> kube::Result<()> {
        let images: Vec<Value> = containers
            .iter()
            .map(|(name, image)| json!({ "name": name, "image": image }))
            .collect();
        let mut body = json!({ "apiVersion": "apps/v1", "kind": self.kind, "metadata": {
            "name": "web", "namespace": self.namespace,
            "uid": seen["metadata"]["uid"], "resourceVersion": seen["metadata"]["resourceVersion"],
        } });
        if !images.is_empty() {
            body["spec"] = json!({ "template": { "spec": { "containers": images } } });
        }
        let as_ours = PatchParams::apply(OURS).force();
        self.api.patch("web", &as_ours, &Patch::Apply(&body)).await.map(drop)
    }

    /// Changes metadata as a promotion does, on top of what was seen.
    async fn patch_metadata(&self, seen: &Value, metadata: Value) -> kube::Result<()> {
        let mut body = json!({ "metadata": {
            "uid": seen["metadata"]["uid"], "resourceVersion": seen["metadata"]["resourceVersion"],
        } });
        merge(&mut body["metadata"], metadata);
        let as_ours = PatchParams {
            field_manager: Some(OURS.into()),
            ..PatchParams::default()
        };
        self.api.patch("web", &as_ours, &Patch::Merge(&body)).await.map(drop)
    }

    /// Puts an image into `app` whatever else happens to the workload meanwhile.
    async fn promote_now(&self, containers: &[(&str, &str)]) -> Result<Value> {
        eventually(LIMIT, "the apply to be on top of the newest version", async || {
            self.promote(&self.get().await?, containers)
                .await
                .map_err(anyhow::Error::from)
        })
        .await?;
        self.get().await
    }

    /// Waits until its controller has seen the newest template.
    async fn observed(&self) -> Result<Value> {
        eventually(LIMIT, "the newest template to be seen", async || {
            let object = self.get().await?;
            let seen = &object["status"]["observedGeneration"];
            ensure!(*seen == object["metadata"]["generation"], "{}", object["status"]);
            Ok(object)
        })
        .await
    }

    /// Removes it and waits until it is gone.
    async fn delete(&self) -> Result<()> {
        self.api.delete("web", &DeleteParams::default()).await?;
        eventually(LIMIT, "the workload to go", async || {
            let left = self.api.get_opt("web").await?;
            ensure!(left.is_none(), "it is still there");
            Ok(())
        })
        .await
    }
}

fn refused_with(answer: kube::Result<()>, code: u16) -> Result<String> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == code => Ok(status.message),
        other => Err(anyhow!("{code} was expected: {other:?}")),
    }
}

fn container<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let containers = object["spec"]["template"]["spec"]["containers"].as_array()?;
    containers.iter().find(|container| container["name"] == name)
}

fn image<'a>(object: &'a Value, name: &str) -> &'a str {
    container(object, name)
        .and_then(|container| container["image"].as_str())
        .unwrap_or_default()
}

/// Who owns anything of a container, with the operation and whether that includes its image.
fn owners(object: &Value, name: &str) -> Vec<(String, String, bool)> {
    let key = format!("k:{{\"name\":\"{name}\"}}");
    let entries = object["metadata"]["managedFields"].as_array();
    let owners = entries.into_iter().flatten().filter_map(|entry| {
        let pod = &entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"];
        let fields = pod["f:containers"].get(&key)?;
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        Some((text("manager"), text("operation"), fields.get("f:image").is_some()))
    });
    owners.collect()
}

/// Who owns the image of a container.
fn writer(object: &Value, name: &str) -> Vec<(String, String)> {
    let owners = owners(object, name).into_iter();
    owners
        .filter(|(.., image)| *image)
        .map(|(manager, operation, _)| (manager, operation))
        .collect()
}

fn by(manager: &str, operation: &str) -> Vec<(String, String)> {
    vec![(manager.to_owned(), operation.to_owned())]
}

/// What people and tools want of the workload, and not what the apiserver and controllers note about it.
fn wanted(object: &Value) -> Value {
    json!({ "spec": object["spec"], "labels": object["metadata"]["labels"] })
}

#[test]
fn an_apply_of_an_image_changes_nothing_else() -> Result<()> {
    run(async |stage| {
        let web = Workloads::new(&stage.cluster, "patch-keeps", "Deployment").await?;
        web.kubectl(
            &["apply", "-f", "-"],
            &web.manifest(&[("app", "r/app:v1"), ("proxy", "r/proxy:v1")]),
        )
        .await?;
        let before = web.get().await?;
        let after = web.promote_now(&[("app", "r/app:v2")]).await?;
        let mut expected = wanted(&before);
        expected["spec"]["template"]["spec"]["containers"][0]["image"] = "r/app:v2".into();
        ensure!(wanted(&after) == expected, "{after}");
        ensure!(writer(&after, "app") == by(OURS, "Apply"), "{after}");
        // The owner still owns the container, so that it can take it away.
        let owner = ("kubectl-client-side-apply".to_owned(), "Update".to_owned(), false);
        ensure!(owners(&after, "app").contains(&owner), "{after}");
        ensure!(
            writer(&after, "proxy") == by("kubectl-client-side-apply", "Update"),
            "{after}"
        );
        Ok(())
    })
}

#[test]
fn what_was_seen_too_long_ago_is_not_written_on() -> Result<()> {
    run(async |stage| {
        let web = Workloads::new(&stage.cluster, "patch-stale", "Deployment").await?;
        let manifest = web.manifest(&[("app", "r/app:v1")]);
        web.kubectl(&["apply", "-f", "-"], &manifest).await?;
        let seen = web.get().await?;
        web.kubectl(&["label", "deployment", "web", "changed=yes"], &Value::Null)
            .await?;
        refused_with(web.promote(&seen, &[("app", "r/app:v2")]).await, 409)?;
        refused_with(
            web.patch_metadata(&seen, json!({ "annotations": { "a": "b" } })).await,
            409,
        )?;

        // Deleted: nothing is created.
        web.delete().await?;
        let told = refused_with(web.promote(&seen, &[("app", "r/app:v2")]).await, 409)?;
        ensure!(told.contains("uid mismatch"), "{told}");
        ensure!(web.api.get_opt("web").await?.is_none());

        // Created again: it is another one.
        web.kubectl(&["apply", "-f", "-"], &manifest).await?;
        refused_with(web.promote(&seen, &[("app", "r/app:v2")]).await, 409)?;
        refused_with(
            web.patch_metadata(&seen, json!({ "annotations": { "a": "b" } })).await,
            409,
        )?;
        ensure!(image(&web.get().await?, "app") == "r/app:v1");
        Ok(())
    })
}

#[test]
fn people_and_tools_write_as_the_managers_that_they_are_told_by() -> Result<()> {
    run(async |stage| {
        let web = Workloads::new(&stage.cluster, "patch-people", "Deployment").await?;
        let now = async |what: &str, image_now: &str, writer_now: Vec<(String, String)>| -> Result<()> {
            let object = web.get().await?;
            let is = (image(&object, "app").to_owned(), writer(&object, "app"));
            ensure!(is == (image_now.to_owned(), writer_now), "after {what}: {is:?}");
            Ok(())
        };
        web.kubectl(&["create", "-f", "-"], &web.manifest(&[("app", "r/app:v1")]))
            .await?;
        now("create", "r/app:v1", by("kubectl-create", "Update")).await?;
        web.promote_now(&[("app", "r/app:v2")]).await?;
        now("promotion", "r/app:v2", by(OURS, "Apply")).await?;
        // A template that its controller has not seen is no revision to go back to.
        web.observed().await?;
        web.kubectl(&["set", "image", "deployment/web", "app=r/app:v3"], &Value::Null)
            .await?;
        now("set image", "r/app:v3", by("kubectl-set", "Update")).await?;
        web.observed().await?;
        web.kubectl(&["rollout", "undo", "deployment/web"], &Value::Null)
            .await?;
        now("rollout undo", "r/app:v2", by("kubectl", "Update")).await?;
        let patch =
            json!({ "spec": { "template": { "spec": { "containers": [{ "name": "app", "image": "r/app:v4" }] } } } });
        web.kubectl(&["patch", "deployment", "web", "-p", &patch.to_string()], &Value::Null)
            .await?;
        now("patch", "r/app:v4", by("kubectl-patch", "Update")).await?;
        web.kubectl(&["replace", "-f", "-"], &web.manifest(&[("app", "r/app:v5")]))
            .await?;
        now("replace", "r/app:v5", by("kubectl-replace", "Update")).await?;
        let server_side = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        web.kubectl(&server_side, &web.manifest(&[("app", "r/app:v6")])).await?;
        now("apply --server-side", "r/app:v6", by("kubectl", "Apply")).await?;
        web.promote_now(&[("app", "r/app:v7")]).await?;
        now("promotion", "r/app:v7", by(OURS, "Apply")).await
    })
}

/// Its owner promotes `app`, is promoted, and then applies it without `app`.
async fn owner_removed_app(web: &Workloads<'_>) -> Result<Value> {
    let server_side = ["apply", "--server-side", "-f", "-"];
    web.kubectl(
        &server_side,
        &web.manifest(&[("app", "r/app:v1"), ("proxy", "r/proxy:v1")]),
    )
    .await?;
    let promoted = web.promote_now(&[("app", "r/app:v2")]).await?;
    ensure!(owners(&promoted, "app").len() == 2, "{promoted}");
    web.kubectl(&server_side, &web.manifest(&[("proxy", "r/proxy:v1")]))
        .await?;
    let object = web.get().await?;
    ensure!(
        owners(&object, "app") == [(OURS.to_owned(), "Apply".to_owned(), true)],
        "{object}"
    );
    let left = container(&object, "app").context("the container went by itself")?;
    ensure!(left["image"] == "r/app:v2" && left.get("env").is_none(), "{left}");
    Ok(object)
}

#[test]
fn a_container_that_its_owner_removed_goes_with_an_apply_that_leaves_it_out() -> Result<()> {
    run(async |stage| {
        let web = Workloads::new(&stage.cluster, "patch-removed", "Deployment").await?;
        owner_removed_app(&web).await?;
        let object = web.promote_now(&[]).await?;
        ensure!(container(&object, "app").is_none(), "{object}");
        ensure!(image(&object, "proxy") == "r/proxy:v1", "{object}");
        Ok(())
    })
}

#[test]
fn a_hold_that_is_given_up_leaves_the_container_for_ever() -> Result<()> {
    run(async |stage| {
        let web = Workloads::new(&stage.cluster, "patch-withdrawn", "Deployment").await?;
        owner_removed_app(&web).await?;
        let object = eventually(LIMIT, "the hold to be given up", async || {
            let seen = web.get().await?;
            let mut managers = seen["metadata"]["managedFields"].clone();
            managers
                .as_array_mut()
                .context("no managers")?
                .retain(|entry| entry["manager"] != OURS);
            web.patch_metadata(&seen, json!({ "managedFields": managers })).await?;
            web.get().await
        })
        .await?;
        ensure!(
            image(&object, "app") == "r/app:v2" && owners(&object, "app").is_empty(),
            "{object}"
        );
        // What nobody owns, its former owner cannot remove any more.
        let manifest = web.manifest(&[("proxy", "r/proxy:v2")]);
        web.kubectl(&["apply", "--server-side", "-f", "-"], &manifest).await?;
        let object = web.get().await?;
        ensure!(
            image(&object, "app") == "r/app:v2" && image(&object, "proxy") == "r/proxy:v2",
            "{object}"
        );
        Ok(())
    })
}

#[test]
fn an_image_that_we_alone_own_cannot_be_left_out_and_must_be_repeated() -> Result<()> {
    run(async |stage| {
        let web = Workloads::new(&stage.cluster, "patch-repeats", "Deployment").await?;
        web.kubectl(
            &["apply", "-f", "-"],
            &web.manifest(&[("app", "r/app:v1"), ("proxy", "r/proxy:v1")]),
        )
        .await?;
        web.promote_now(&[("app", "r/app:v2")]).await?;
        // Another promotion, for the other container, that forgets the first.
        let refused = eventually(LIMIT, "the apiserver to refuse it", async || {
            refused_with(web.promote(&web.get().await?, &[("proxy", "r/proxy:v2")]).await, 422)
        });
        let refused = refused.await?;
        ensure!(refused.contains("containers[0].image: Required value"), "{refused}");
        let object = web.promote_now(&[("app", "r/app:v2"), ("proxy", "r/proxy:v2")]).await?;
        ensure!(
            image(&object, "app") == "r/app:v2" && image(&object, "proxy") == "r/proxy:v2",
            "{object}"
        );
        Ok(())
    })
}

#[test]
fn a_stateful_set_waits_for_ever_for_a_pod_that_never_became_ready() -> Result<()> {
    run(async |stage| {
        // A cluster without nodes: no pod ever becomes ready.
        let cluster = stage.whole_cluster().await?;
        let web = Workloads::new(cluster, "patch-ordered", "StatefulSet").await?;
        web.kubectl(&["apply", "-f", "-"], &web.manifest(&[("app", "r/app:v1")]))
            .await?;
        let pod = async || -> Result<Value> {
            let get = ["get", "pod", "web-0", "-o", "json"];
            Ok(serde_json::from_str(&web.kubectl(&get, &Value::Null).await?)?)
        };
        let first = eventually(LIMIT, "its pod to be created", pod).await?;
        web.promote_now(&[("app", "r/app:v2")]).await?;
        let object = web.observed().await?;
        ensure!(
            object["status"]["updateRevision"] != object["status"]["currentRevision"],
            "{object}"
        );
        let newest = &object["status"]["updateRevision"];
        throughout(QUIET, "the old pod to stay", async || {
            let still = pod().await?;
            ensure!(
                still["metadata"]["uid"] == first["metadata"]["uid"],
                "it was replaced: {still}"
            );
            ensure!(
                still["metadata"]["labels"]["controller-revision-hash"] != *newest,
                "{still}"
            );
            Ok(())
        })
        .await?;

        web.kubectl(&["delete", "pod", "web-0", "--force", "--grace-period=0"], &Value::Null)
            .await?;
        eventually(LIMIT, "a pod of the new template", async || {
            let pod = pod().await?;
            ensure!(
                pod["metadata"]["labels"]["controller-revision-hash"] == *newest,
                "{pod}"
            );
            let status = web.get().await?["status"].take();
            ensure!(status["updatedReplicas"] == 1, "{status}");
            Ok(())
        })
        .await
    })
}
