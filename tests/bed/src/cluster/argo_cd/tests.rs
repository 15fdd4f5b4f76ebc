//! Argo CD on a real cluster: what it takes back and what it leaves alone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};

use super::*;
use crate::{Bed, ControlPlane};

const LIMIT: Duration = Duration::from_mins(2);

fn deployment(image: &str, replicas: i32) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "app", "image": image }] },
            },
        },
    })
    .to_string()
}

/// The image and the replicas that are asked for.
async fn asked(deployments: &Api<Deployment>) -> Result<(String, i32)> {
    let spec = deployments.get("web").await?.spec.context("no spec")?;
    let pod = spec.template.spec.context("no pod")?;
    let image = pod.containers.first().and_then(|container| container.image.clone());
    Ok((image.context("no image")?, spec.replicas.unwrap_or_default()))
}

/// Pins an image as a controller would: by server-side apply of nothing else.
async fn pin(deployments: &Api<Deployment>, image: &str) -> Result<()> {
    let pinned = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "template": { "spec": { "containers": [{ "name": "app", "image": image }] } } },
    });
    let apply = PatchParams::apply("another").force();
    deployments.patch("web", &apply, &Patch::Apply(&pinned)).await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs Argo CD: cargo xtask test --all"]
async fn argo_cd_takes_a_foreign_image_back_unless_it_is_told_to_leave_it() -> Result<()> {
    let control_plane = ControlPlane::start(&Bed::new()?).await?;
    let cluster = control_plane.cluster("main").await?;
    let _workloads = cluster.workloads(1).await?;
    let start = Instant::now();
    let argo_cd = cluster.argo_cd().await?;
    eprintln!("Argo CD: {:?}", start.elapsed());
    let deployments: Api<Deployment> = Api::namespaced(cluster.client().await?, "shop");

    let repository = argo_cd.repository();
    repository.write("web/deployment.json", &deployment("registry/web:1", 1))?;
    let revision = repository.commit("The first version").await?;
    let mut application = Application::new("web", "shop", "web");
    let start = Instant::now();
    argo_cd.apply(&application).await?;
    argo_cd.until_healthy("web", &revision, LIMIT).await?;
    eprintln!("first sync: {:?}", start.elapsed());

    // What it owns it takes back.
    let start = Instant::now();
    pin(&deployments, "registry/web@sha256:aa").await?;
    assert_eq!(asked(&deployments).await?.0, "registry/web@sha256:aa");
    wait::eventually(LIMIT, "the image to be taken back", async || {
        let (image, _) = asked(&deployments).await?;
        ensure!(image == "registry/web:1", "{image}");
        Ok(())
    })
    .await?;
    eprintln!("taken back after {:?}", start.elapsed());
    assert!(
        cluster
            .writes(&ArgoCd::user())
            .await?
            .by_resource
            .contains_key("deployments")
    );

    // What it is told to ignore it leaves alone, also when it syncs something else.
    let image = ".spec.template.spec.containers[] | select(.name == \"app\") | .image";
    application.ignore_differences =
        vec![json!({ "group": "apps", "kind": "Deployment", "name": "web", "jqPathExpressions": [image] })];
    application.sync_options = vec!["RespectIgnoreDifferences=true".to_owned()];
    argo_cd.apply(&application).await?;
    argo_cd.refresh("web", LIMIT).await?;
    pin(&deployments, "registry/web@sha256:aa").await?;
    argo_cd.refresh("web", LIMIT).await?;
    let left = async || {
        let (image, _) = asked(&deployments).await?;
        ensure!(image == "registry/web@sha256:aa", "{image}");
        Ok(())
    };
    wait::throughout(Duration::from_secs(5), "the pinned image", left).await?;

    repository.write("web/deployment.json", &deployment("registry/web:2", 2))?;
    let revision = repository.commit("Another version and two replicas").await?;
    argo_cd.refresh("web", LIMIT).await?;
    argo_cd.until_healthy("web", &revision, LIMIT).await?;
    assert_eq!(asked(&deployments).await?, ("registry/web@sha256:aa".to_owned(), 2));
    Ok(())
}
