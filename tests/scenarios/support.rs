//! The stage that all scenarios share, and the scene that each has to itself.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::Write as _,
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use bed::{
    Aws, Bed, Cluster, ClusterPool, ControlPlane, Gateway, Operator, OperatorOptions, Policy, Principal, eventually,
};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::OnceCell};

use crate::ledger::Ledger;

/// How long anything may take to become true.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The Region of every scene.
pub(crate) const REGION: &str = "eu-west-1";

/// The account in which the operator's own user lives; it gets into the others by their roles.
const HOME_ACCOUNT: &str = "100000000000";

/// The `ownerId` of the shared operator.
pub(crate) const OWNER: &str = "bed";

/// How often most operators list a registry, so that no scenario waits for it.
const OFTEN: &str = "1s";

/// Everything that runs.
pub(crate) struct Stage {
    pub(crate) aws: Aws,
    pub(crate) cluster: Cluster,
    pub(crate) operator: Operator,
    pub(crate) control_plane: ControlPlane,
    /// Which deletions the scenarios have asked for.
    pub(crate) ledger: Ledger,
    /// The clusters that scenarios hand on to one another.
    pool: ClusterPool,
    user: Principal,
}

/// Runs a scenario on the one runtime of the binary: what the stage holds must not outlive the runtime it was made on.
pub(crate) fn run(scenario: impl AsyncFnOnce(&'static Stage) -> Result<()>) -> Result<()> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    static STAGE: OnceCell<Stage> = OnceCell::const_new();
    let runtime = RUNTIME
        .get_or_init(Runtime::new)
        .as_ref()
        .map_err(|error| anyhow!("no runtime: {error}"))?;
    runtime.block_on(async {
        let stage = STAGE
            .get_or_try_init(Stage::start)
            .await
            .context("the stage could not be set up")?;
        let start = Instant::now();
        let outcome = scenario(stage).await;
        report_time(start.elapsed());
        rest().await;
        for cluster in OPENED.take() {
            match cluster {
                // What a failed scenario leaves may be looked at, and nobody knows what it is.
                Opened::Pooled(cluster) if outcome.is_ok() => stage.pool.give_back(cluster).await?,
                Opened::Pooled(cluster) | Opened::Own(cluster) => cluster.stop(),
            }
        }
        outcome?;
        stage.ledger.check(&stage.aws).await
    })
}

/// Leaves the scenario's time and name where `cargo xtask test` asks for it.
fn report_time(time: Duration) {
    let Some(path) = std::env::var_os("SCENARIO_TIMES") else {
        return;
    };
    let thread = std::thread::current();
    let line = format!("{:.1} {}\n", time.as_secs_f64(), thread.name().unwrap_or("unnamed"));
    // The times are for people; a test does not fail for them.
    let file = std::fs::OpenOptions::new().append(true).open(path);
    drop(file.and_then(|mut file| file.write_all(line.as_bytes())));
}

/// Lets the Registries of the scenario rest. Each is listed every second for as long as its operator runs, and in the end there
/// are hundreds.
async fn rest() {
    for (cluster, name) in SCENES.take() {
        if OPENED.with_borrow(|opened| opened.iter().any(|one| std::ptr::eq(one.cluster(), cluster))) {
            continue;
        }
        let suspended = json!({ "spec": { "suspend": true } });
        // Not every scene has one, and what a scenario is about is over.
        let _ = cluster
            .patch("registry.ecr-operator.dev", "default", &name, &suspended)
            .await;
    }
}

thread_local! {
    /// The scenes of the scenario of this thread.
    static SCENES: RefCell<Vec<(&'static Cluster, String)>> = const { RefCell::new(Vec::new()) };

    /// The clusters that the scenario of this thread has taken or started. Each takes memory and processor time for as long as
    /// it runs.
    static OPENED: RefCell<Vec<Opened>> = const { RefCell::new(Vec::new()) };
}

/// A cluster that a scenario has for itself.
enum Opened {
    /// It is given back to the pool.
    Pooled(&'static Cluster),
    /// It ends with the scenario.
    Own(&'static Cluster),
}

impl Opened {
    fn cluster(&self) -> &'static Cluster {
        match self {
            Self::Pooled(cluster) | Self::Own(cluster) => cluster,
        }
    }
}

/// The cluster is one that others share: it lasts as long as the stage.
pub(crate) fn lasts(cluster: &'static Cluster) {
    OPENED.with_borrow_mut(|opened| opened.retain(|one| !std::ptr::eq(one.cluster(), cluster)));
}

/// The cluster ends with the scenario that started it, and so do the operators on it.
pub(crate) fn ends(cluster: Cluster) -> &'static Cluster {
    let cluster: &'static Cluster = Box::leak(Box::new(cluster));
    OPENED.with_borrow_mut(|opened| opened.push(Opened::Own(cluster)));
    cluster
}

/// The operator as cargo built it for this test.
pub(crate) fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_ecr-operator").into()
}

/// Installs the chart of this clone.
async fn install(cluster: &Cluster) -> Result<()> {
    cluster
        .install_chart(
            &bed::root().join("charts/ecr-operator"),
            &json!({
                "ownerId": OWNER,
                "promotion": { "via": { "configMap": true } },
                "pullSecrets": { "enabled": true },
            }),
        )
        .await
}

impl Stage {
    async fn start() -> Result<Self> {
        let bed = Bed::new()?;
        let control_plane = ControlPlane::start(&bed).await?;
        let (cluster, aws) = tokio::try_join!(control_plane.cluster("shared"), Aws::start(&bed))?;
        install(&cluster).await?;
        let pool = ClusterPool::like(&cluster).await?;
        let user = aws
            .user(
                HOME_ACCOUNT,
                "operator",
                Policy::Document(json!({ "Version": "2012-10-17", "Statement": [
                    { "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*" },
                ]})),
            )
            .await?;
        let operator = Operator::start("operator", &cluster, &aws, options(&user, OWNER, OFTEN)).await?;
        Ok(Self {
            aws,
            cluster,
            operator,
            control_plane,
            ledger: Ledger::default(),
            pool,
            user,
        })
    }

    /// Another operator, on whatever cluster.
    pub(crate) async fn operator(&self, name: &str, cluster: &Cluster, owner: &str) -> Result<Operator> {
        Operator::start(name, cluster, &self.aws, options(&self.user, owner, OFTEN)).await
    }

    /// An operator that looks at a registry only when it starts and when something happens: no call of it is routine.
    /// Its writes to the cluster go through the gateway.
    pub(crate) async fn quiet_operator(&self, name: &str, cluster: &Cluster, gateway: &Gateway) -> Result<Operator> {
        let mut options = options(&self.user, OWNER, "1h");
        options.gateway = Some(gateway.clone());
        Operator::start(name, cluster, &self.aws, options).await
    }

    /// An operator that looks at a registry only when it starts, when something happens, and once an hour.
    pub(crate) async fn rare_operator(&self, name: &str, cluster: &Cluster) -> Result<Operator> {
        Operator::start(name, cluster, &self.aws, options(&self.user, OWNER, "1h")).await
    }

    /// A cluster of an apiserver alone with the chart installed, which nobody else uses until the scenario ends.
    pub(crate) async fn bare_cluster(&self) -> Result<&'static Cluster> {
        self.pooled_cluster(false).await
    }

    /// The same with a controller manager, so that pods can run.
    pub(crate) async fn whole_cluster(&self) -> Result<&'static Cluster> {
        self.pooled_cluster(true).await
    }

    async fn pooled_cluster(&self, with_controller_manager: bool) -> Result<&'static Cluster> {
        let cluster = self.pool.take(&self.control_plane, with_controller_manager).await?;
        OPENED.with_borrow_mut(|opened| opened.push(Opened::Pooled(cluster)));
        Ok(cluster)
    }

    /// Another operator, with more arguments than every one has.
    pub(crate) async fn operator_with(
        &self,
        name: &str,
        cluster: &Cluster,
        owner: &str,
        args: &[&str],
    ) -> Result<Operator> {
        let mut options = options(&self.user, owner, OFTEN);
        options.args.extend(args.iter().map(ToString::to_string));
        Operator::start(name, cluster, &self.aws, options).await
    }

    /// An account, a Registry and a namespace that no other scenario uses.
    pub(crate) async fn scene(&'static self, name: &str) -> Result<Scene> {
        self.scene_on(&self.cluster, name).await
    }

    /// The same on another cluster than the shared one.
    pub(crate) async fn scene_on(&'static self, cluster: &'static Cluster, name: &str) -> Result<Scene> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let account = format!("2000000{:05}", NEXT.fetch_add(1, Ordering::Relaxed));
        let scene = Scene {
            stage: self,
            cluster,
            name: name.to_owned(),
            account,
        };
        SCENES.with_borrow_mut(|scenes| scenes.push((cluster, scene.name.clone())));
        scene.rights(bed::MANAGES).await?;
        scene.namespace(&scene.name, "yes").await?;
        Ok(scene)
    }
}

fn options(user: &Principal, owner: &str, inventory_interval: &str) -> OperatorOptions {
    OperatorOptions {
        binary: binary(),
        owner_id: owner.to_owned(),
        principal: user.clone(),
        region: REGION.to_owned(),
        env: BTreeMap::new(),
        gateway: None,
        args: [
            "--inventory-interval",
            inventory_interval,
            "--log-format",
            "json",
            "--log-filter",
            "info,ecr_operator=debug",
        ]
        .map(str::to_owned)
        .into(),
    }
}

/// One scenario's own part of the world.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) stage: &'static Stage,
    pub(crate) cluster: &'static Cluster,
    /// Of the Registry and of the namespace.
    pub(crate) name: String,
    pub(crate) account: String,
}

impl Scene {
    /// Gives the operator's role in the account these rights.
    pub(crate) async fn role(&self, policy: Policy) -> Result<()> {
        let trust = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "AWS": HOME_ACCOUNT },
            "Action": "sts:AssumeRole",
            "Condition": { "StringEquals": { "sts:ExternalId": self.name } },
        }]});
        self.stage
            .aws
            .role(&self.account, "ecr-operator", policy, trust)
            .await
            .map(drop)
    }

    /// Gives the operator's role what these features need.
    pub(crate) async fn rights(&self, features: &[&str]) -> Result<()> {
        self.role(Policy::Document(bed::rights(&self.account, REGION, OWNER, features)?))
            .await
    }

    /// A namespace with the label that makes it a tenant, or another value of it.
    pub(crate) async fn namespace(&self, name: &str, label: &str) -> Result<()> {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": { "ecr": label } } });
        self.apply(&namespace).await.map(drop)
    }

    /// The Registry's spec as most scenarios want it.
    pub(crate) fn registry_spec(&self) -> Value {
        json!({
            "region": REGION,
            "registryId": self.account,
            "assumeRole": {
                "roleArn": format!("arn:aws:iam::{}:role/ecr-operator", self.account),
                "externalId": self.name,
            },
            "mode": "Manage",
            "tenants": [{
                "namespaceSelector": { "matchLabels": { "ecr": "yes" } },
                "repositoryPrefixes": ["{namespace}/"],
                "may": ["Manage"],
            }],
        })
    }

    /// Applies the Registry, its spec overlaid with `overlay`, and waits until it is as `ready` says.
    pub(crate) async fn registry(&self, overlay: Value) -> Result<()> {
        self.apply_registry(overlay).await?;
        self.reason("registry", &self.name, "Settled").await?;
        // The claim is not what a scenario counts.
        self.stage.aws.reset_calls(&self.account, REGION).await
    }

    pub(crate) async fn apply_registry(&self, overlay: Value) -> Result<String> {
        let mut spec = self.registry_spec();
        merge(&mut spec, overlay);
        self.apply(&object("Registry", &self.name, None, spec)).await
    }

    /// A Repository of this scene, ready to be applied.
    pub(crate) fn repository(&self, name: &str, overlay: Value) -> Value {
        let mut spec = json!({ "registryRef": { "name": self.name } });
        merge(&mut spec, overlay);
        object("Repository", name, Some(&self.name), spec)
    }

    /// Applies a Repository and waits until it is settled.
    pub(crate) async fn settled(&self, name: &str, overlay: Value) -> Result<Value> {
        self.apply(&self.repository(name, overlay)).await?;
        self.reason("repository", name, "Settled").await
    }

    /// Applies a manifest as an administrator.
    pub(crate) async fn apply(&self, manifest: &Value) -> Result<String> {
        self.cluster
            .kubectl_with_input(&["apply", "-f", "-"], &manifest.to_string())
            .await?
            .checked()
    }

    /// The sentence with which the apiserver refuses a manifest.
    pub(crate) async fn refusal(&self, manifest: &Value) -> Result<String> {
        let output = self
            .cluster
            .kubectl_with_input(&["apply", "-f", "-"], &manifest.to_string())
            .await?;
        ensure!(
            !output.status.success(),
            "the apiserver took what it should refuse: {manifest}"
        );
        Ok(output.stderr)
    }

    /// An object as it stands; an error if it does not exist.
    pub(crate) async fn get(&self, kind: &str, name: &str) -> Result<Value> {
        let kind = format!("{kind}.ecr-operator.dev");
        self.cluster.get(&kind, &self.name, name).await
    }

    /// Waits until the object's generation is reported with this reason, and returns the object.
    pub(crate) async fn reason(&self, kind: &str, name: &str, reason: &str) -> Result<Value> {
        let what = format!("{kind} {name} to be {reason}");
        let found = eventually(LIMIT, &what, async || {
            let object = self.get(kind, name).await?;
            let ready = condition(&object, "Ready").ok_or_else(|| anyhow!("no condition yet"))?;
            let current = ready["observedGeneration"] == object["metadata"]["generation"];
            ensure!(current && ready["reason"] == reason, "{ready}");
            Ok(object)
        });
        found.await.with_context(|| {
            format!(
                "the operator's log ends with:\n{}",
                tail(&self.stage.operator.process().log())
            )
        })
    }

    /// Asks for a look now and waits until it was handled.
    pub(crate) async fn look_now(&self, name: &str) -> Result<Value> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let token = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
        let annotation = format!("ecr-operator.dev/reconcile={token}");
        let annotate = [
            "annotate",
            "repository.ecr-operator.dev",
            name,
            "-n",
            &self.name,
            "--overwrite",
            &annotation,
        ];
        self.cluster.kubectl(&annotate).await?.checked()?;
        eventually(LIMIT, "the look to be handled", async || {
            let object = self.get("repository", name).await?;
            ensure!(
                object["status"]["lastHandledReconcile"] == token.as_str(),
                "{}",
                object["status"]
            );
            Ok(object)
        })
        .await
    }

    /// Says that the operator is meant to try to delete this repository, at most once with success.
    pub(crate) fn expect_deletion(&self, repository: &str) {
        self.stage.ledger.expect(&self.account, repository);
    }

    /// Deletes a Repository without waiting for its end.
    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        let delete = [
            "delete",
            "repository.ecr-operator.dev",
            name,
            "-n",
            &self.name,
            "--wait=false",
        ];
        self.cluster.kubectl(&delete).await?.checked().map(drop)
    }

    /// Waits until a Repository object is gone.
    pub(crate) async fn gone(&self, name: &str) -> Result<()> {
        eventually(LIMIT, &format!("repository {name} to go"), async || {
            match self.get("repository", name).await {
                Ok(object) => Err(anyhow!("{}", object["status"])),
                Err(error) if format!("{error:#}").contains("NotFound") => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// The notes of the Events on an object with this reason.
    pub(crate) async fn events(&self, name: &str, reason: &str) -> Result<Vec<String>> {
        self.notes(&self.name, name, reason).await
    }

    /// The same for an object of the whole cluster.
    pub(crate) async fn cluster_events(&self, name: &str, reason: &str) -> Result<Vec<String>> {
        self.notes("default", name, reason).await
    }

    async fn notes(&self, namespace: &str, name: &str, reason: &str) -> Result<Vec<String>> {
        let events = self.cluster.list("event.events.k8s.io", Some(namespace)).await?;
        let ours = events
            .iter()
            .filter(|event| event["regarding"]["name"] == name && event["reason"] == reason);
        Ok(ours
            .map(|event| event["note"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    /// Waits for an Event and returns its note.
    pub(crate) async fn event(&self, name: &str, reason: &str) -> Result<String> {
        eventually(LIMIT, &format!("an Event {reason}"), async || {
            self.events(name, reason).await?.pop().ok_or_else(|| anyhow!("none"))
        })
        .await
    }

    /// ECR with an administrator's rights: the hand that looks for itself, and edits behind the operator's back.
    pub(crate) async fn ecr(&self) -> Result<aws_sdk_ecr::Client> {
        Ok(self.stage.aws.ecr(REGION, &self.stage.aws.admin(&self.account).await?))
    }

    /// A repository as ECR has it.
    pub(crate) async fn live(&self, name: &str) -> Result<aws_sdk_ecr::types::Repository> {
        let answer = self
            .ecr()
            .await?
            .describe_repositories()
            .repository_names(name)
            .send()
            .await?;
        answer.repositories.unwrap_or_default().pop().context("no repository")
    }

    /// Whether ECR has a repository of that name.
    pub(crate) async fn exists(&self, name: &str) -> Result<bool> {
        Ok(self.repositories().await?.iter().any(|repository| repository == name))
    }

    /// The names of all repositories that ECR has.
    pub(crate) async fn repositories(&self) -> Result<Vec<String>> {
        let ecr = self.ecr().await?;
        let all = ecr.describe_repositories().into_paginator().items().send();
        let all = all.collect::<Result<Vec<_>, _>>().await?;
        Ok(all
            .into_iter()
            .filter_map(|repository| repository.repository_name)
            .collect())
    }

    /// A repository's tags as ECR has them.
    pub(crate) async fn tags(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let arn = self.live(name).await?.repository_arn.context("no ARN")?;
        let answer = self
            .ecr()
            .await?
            .list_tags_for_resource()
            .resource_arn(arn)
            .send()
            .await?;
        Ok(answer
            .tags
            .unwrap_or_default()
            .into_iter()
            .map(|tag| (tag.key, tag.value))
            .collect())
    }

    /// What the operator called in the account, operation by operation; the administrator's own calls are left out.
    pub(crate) async fn operators_calls(&self) -> Result<BTreeMap<String, usize>> {
        let calls = self.stage.aws.calls(&self.account, REGION).await?.calls;
        let mut counts = BTreeMap::new();
        for call in calls.iter().filter(|call| {
            call.principal
                .as_deref()
                .is_some_and(|who| who.contains("/ecr-operator"))
        }) {
            *counts.entry(call.operation.clone()).or_default() += 1;
        }
        Ok(counts)
    }

    /// How often the operator called anything that changes something.
    pub(crate) async fn operators_writes(&self) -> Result<usize> {
        let reads = ["Describe", "List", "Get", "sts:", "BatchGet", "Validate"];
        let calls = self.operators_calls().await?;
        Ok(calls
            .iter()
            .filter(|(name, _)| !reads.iter().any(|read| name.starts_with(read)))
            .map(|(_, count)| count)
            .sum())
    }
}

/// A manifest.
pub(crate) fn object(kind: &str, name: &str, namespace: Option<&str>, spec: Value) -> Value {
    let mut object = json!({ "apiVersion": "ecr-operator.dev/v1alpha1", "kind": kind, "metadata": { "name": name } });
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = namespace.into();
    }
    object["spec"] = spec;
    object
}

/// Overlays maps; a null takes a key out.
pub(crate) fn merge(onto: &mut Value, overlay: Value) {
    let (Some(map), Value::Object(overlay)) = (onto.as_object_mut(), overlay) else {
        return;
    };
    for (key, value) in overlay {
        match value {
            Value::Null => {
                map.remove(&key);
            }
            value => {
                map.insert(key, value);
            }
        }
    }
}

/// A condition of an object.
pub(crate) fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == type_)
}

/// The message of the `Ready` condition.
pub(crate) fn message(object: &Value) -> &str {
    condition(object, "Ready")
        .and_then(|ready| ready["message"].as_str())
        .unwrap_or_default()
}

/// The last lines of a log.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
