//! The control plane itself, on the real programs.

use std::time::Instant;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::*;
use bed_programs as wait;

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

async fn names(cluster: &Cluster) -> Result<Vec<String>> {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await?, "default");
    let maps = maps.list(&ListParams::default()).await?;
    Ok(maps
        .iter()
        .map(ResourceExt::name_any)
        .filter(|name| name != "kube-root-ca.crt")
        .collect())
}

#[tokio::test]
async fn clusters_on_one_etcd_do_not_see_each_other() -> Result<()> {
    let control_plane = ControlPlane::start(&Bed::new()?).await?;
    let (one, other) = tokio::try_join!(control_plane.bare_cluster("one"), control_plane.bare_cluster("other"))?;
    for (cluster, name) in [(&one, "from-one"), (&other, "from-other")] {
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await?, "default");
        wait::eventually(Duration::from_secs(10), "the namespace default", async || {
            maps.create(&PostParams::default(), &config_map(name)).await
        })
        .await?;
    }
    assert_eq!(names(&one).await?, ["from-one"]);
    assert_eq!(names(&other).await?, ["from-other"]);

    // An administrator of one is nobody in the other.
    let mut kubectl = Command::new(&one.programs.kubectl);
    kubectl
        .arg("--kubeconfig")
        .arg(one.kubeconfig())
        .args(["--server", &other.settings.endpoint, "get", "configmaps"]);
    assert!(!one.bed().run(&kubectl, "").await?.status.success());
    Ok(())
}

#[tokio::test]
async fn a_cluster_starts_quickly_and_behaves_like_one() -> Result<()> {
    let bed = Bed::new()?;
    let start = Instant::now();
    let control_plane = ControlPlane::start(&bed).await?;
    let cluster = control_plane.cluster("main").await?;
    eprintln!("etcd, apiserver and controller manager: {:?}", start.elapsed());

    let version = cluster.kubectl(&["version", "--output=json"]).await?.checked()?;
    assert!(version.contains("\"gitVersion\": \"v1."), "{version}");

    // The controller manager works: a namespace gets its ServiceAccount, and is really gone once deleted.
    cluster.kubectl(&["create", "namespace", "team-a"]).await?.checked()?;
    let client = cluster.client().await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "team-a");
    let limit = Duration::from_mins(1);
    wait::eventually(limit, "the default ServiceAccount", async || {
        accounts.get("default").await
    })
    .await?;

    // RBAC is real: that account may do nothing, and says who it is.
    let restricted = cluster.service_account_client("team-a", "default").await?;
    let refused = Api::<ConfigMap>::namespaced(restricted, "team-a")
        .list(&ListParams::default())
        .await;
    let refused = refused
        .map_err(|error| error.to_string())
        .err()
        .context("it has no rights")?;
    assert!(refused.contains("system:serviceaccount:team-a:default"), "{refused}");

    let namespaces: Api<Namespace> = Api::all(client);
    namespaces.delete("team-a", &DeleteParams::default()).await?;
    wait::eventually(limit, "the namespace to go", async || {
        match namespaces.get_opt("team-a").await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("it is there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

#[tokio::test]
async fn writes_are_counted_and_an_apiserver_restarts_with_its_objects() -> Result<()> {
    let control_plane = ControlPlane::start(&Bed::new()?).await?;
    let cluster = control_plane.bare_cluster("main").await?;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await?, "default");
    let before = cluster.writes("bed-admin").await?;
    wait::eventually(Duration::from_secs(10), "the namespace default", async || {
        maps.create(&PostParams::default(), &config_map("counted")).await
    })
    .await?;
    assert!(
        maps.create(&PostParams::default(), &config_map("counted"))
            .await
            .is_err()
    );
    maps.get("counted").await?;
    let after = cluster.writes("bed-admin").await?;
    assert_eq!(after.objects - before.objects, 1);
    assert!(after.refused > before.refused);
    assert_eq!(after.by_resource.get("configmaps"), Some(&1));

    cluster.stop_apiserver();
    assert!(maps.get("counted").await.is_err());
    cluster.start_apiserver().await?;
    assert_eq!(names(&cluster).await?, ["counted"]);
    Ok(())
}

#[tokio::test]
async fn a_chart_is_installed_for_its_rights() -> Result<()> {
    let bed = Bed::new()?;
    let chart = bed.directory().join("chart");
    std::fs::create_dir_all(chart.join("templates"))?;
    std::fs::write(
        chart.join("Chart.yaml"),
        "apiVersion: v2\nname: ecr-operator\nversion: 0.0.1\n",
    )?;
    std::fs::write(
        chart.join("templates/account.yaml"),
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: ecr-operator\n  annotations: {owner: {{ .Values.ownerId | quote }}}\n",
    )?;
    let control_plane = ControlPlane::start(&bed).await?;
    let cluster = control_plane.bare_cluster("main").await?;
    cluster.install_chart(&chart, &json!({"ownerId": "0123"})).await?;
    let kubeconfig = cluster.service_account_kubeconfig(NAMESPACE, SERVICE_ACCOUNT).await?;
    let mut whoami = Command::new(&cluster.programs.kubectl);
    whoami.arg("--kubeconfig").arg(kubeconfig).args(["auth", "whoami"]);
    let told = bed.run(&whoami, "").await?.checked()?;
    assert!(told.contains(&Cluster::operator_user()), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_gateway_keeps_the_answer_to_a_write_back_or_loses_it() -> Result<()> {
    let limit = Duration::from_secs(10);
    let control_plane = ControlPlane::start(&Bed::new()?).await?;
    let cluster = control_plane.bare_cluster("main").await?;
    let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "writer", "namespace": "default" } },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": "writer" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
            "subjects": [{ "kind": "ServiceAccount", "name": "writer", "namespace": "default" }],
        },
    ]});
    wait::eventually(limit, "the namespace default", async || {
        let apply = ["apply", "-f", "-"];
        cluster
            .kubectl_with_input(&apply, &objects.to_string())
            .await?
            .checked()
    })
    .await?;
    let gateway = cluster.gateway("default", "writer").await?;
    let config = kube::config::Kubeconfig::from_yaml(&gateway_kubeconfig(gateway.url(), "default"))?;
    let config = kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default()).await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(kube::Client::try_from(config)?);

    gateway.hold_after(1);
    let writing = tokio::spawn({
        let maps = maps.clone();
        async move { maps.create(&PostParams::default(), &config_map("held")).await }
    });
    gateway.held(limit).await?;
    assert_eq!(names(&cluster).await?, ["held"], "it was carried out");
    assert!(!writing.is_finished());
    gateway.release();
    writing.await??;
    assert_eq!(gateway.writes().len(), 1);
    assert_eq!(gateway.writes()[0].status, 201);

    gateway.lose_answers(1, 1);
    let lost = maps.create(&PostParams::default(), &config_map("lost")).await;
    assert!(lost.is_err(), "{lost:?}");
    assert_eq!(names(&cluster).await?, ["held", "lost"]);

    Ok(())
}
