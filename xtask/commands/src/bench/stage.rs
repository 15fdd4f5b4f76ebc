//! The bed with one claimed registry, the operator on it, and the counters.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bed::{Aws, Bed, Cluster, ControlPlane, Operator, OperatorOptions, Policy, Principal, eventually, root};
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::admin::Admin;
use super::figures::{Reading, difference};
use super::objects::{self, resource};
use super::usage::Usage;

/// Whose registry it is, and the account that the operator runs in.
pub(super) const ACCOUNT: &str = "111122223333";
const HOME_ACCOUNT: &str = "444455556666";
pub(super) const REGION: &str = "eu-west-1";

/// The name of the Registry, and the namespace of all Repositories.
pub(super) const REGISTRY: &str = "main";
pub(super) const NAMESPACE: &str = "bench";
const OWNER: &str = "bench";
/// The operator's role in the registry's account.
const ROLE: &str = "ecr-operator";

/// How long the setup may take to become true.
const LIMIT: Duration = Duration::from_mins(2);

/// For so many looks, ten a second, nothing may happen in an operator that is at rest.
const LOOKS_AT_REST: u32 = 10;

/// What the operator is there for: its rights in AWS, and what the tenant may, follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Repositories,
    Promotions,
    Lifecycle,
    /// Registries of many accounts, none of which is claimed at the start.
    Registries,
}

impl Purpose {
    fn may(self) -> &'static [&'static str] {
        match self {
            Self::Repositories | Self::Lifecycle | Self::Registries => &["Manage"],
            Self::Promotions => &["Manage", "Promote"],
        }
    }

    /// The rights of the operator's role in an account.
    fn rights(self, account: &str, region: &str) -> Result<Value> {
        let more: &[&str] = match self {
            Self::Repositories => &[],
            Self::Promotions => &["events", "promote"],
            Self::Lifecycle => &["protect"],
            Self::Registries => &["replicate"],
        };
        bed::rights(account, region, OWNER, &[bed::MANAGES, more].concat())
    }
}

/// Everything that was started. Dropped, it ends.
pub(super) struct Stage {
    operator: Operator,
    /// How many operators were started.
    started: u32,
    /// What those used that have ended.
    ended: Usage,
    user: Principal,
    purpose: Purpose,
    pub(super) program: PathBuf,
    pub(super) client: Client,
    pub(super) admin: Admin,
    pub(super) aws: Aws,
    pub(super) cluster: Cluster,
    /// Keeps etcd running.
    _control_plane: ControlPlane,
    pub(super) bed: Bed,
}

impl Stage {
    /// Starts everything, the operator with these arguments, and claims the registry, if the purpose has one. AWS answers late
    /// by `rtt` from then on.
    pub(super) async fn start(program: PathBuf, purpose: Purpose, arguments: &[&str], rtt: Duration) -> Result<Self> {
        let bed = Bed::new()?;
        let control_plane = ControlPlane::start(&bed).await?;
        let (cluster, aws) = tokio::try_join!(control_plane.cluster("bench"), Aws::start(&bed))?;
        let chart = root().join("charts/ecr-operator");
        cluster.install_chart(&chart, &json!({ "ownerId": OWNER })).await?;
        let user = user(&aws).await?;
        let admin = Admin::new(aws.ecr(REGION, &aws.admin(ACCOUNT).await?));
        let client = cluster.client().await?;
        let operator = Operator::start("operator-1", &cluster, &aws, options(&program, &user, arguments)).await?;
        let stage = Self {
            operator,
            started: 1,
            ended: Usage::default(),
            user,
            purpose,
            program,
            client,
            admin,
            aws,
            cluster,
            _control_plane: control_plane,
            bed,
        };
        stage.admit_namespace().await?;
        if purpose != Purpose::Registries {
            stage.claim().await?;
        }
        stage.rest().await?;
        stage.aws.set_delay(rtt).await?;
        Ok(stage)
    }

    /// Makes the operator's role in an account, with its rights there.
    pub(super) async fn role(&self, account: &str, region: &str) -> Result<()> {
        let rights = Policy::Document(self.purpose.rights(account, region)?);
        let trust = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "AWS": HOME_ACCOUNT },
            "Action": "sts:AssumeRole",
            "Condition": { "StringEquals": { "sts:ExternalId": OWNER } },
        }]});
        self.aws.role(account, ROLE, rights, trust).await.map(drop)
    }

    /// A Registry that lets the tenants' namespaces in.
    pub(super) fn registry(&self, name: &str, account: &str, region: &str) -> Value {
        json!({
            "apiVersion": "ecr-operator.dev/v1alpha1",
            "kind": "Registry",
            "metadata": { "name": name },
            "spec": {
                "region": region,
                "registryId": account,
                "assumeRole": { "roleArn": format!("arn:aws:iam::{account}:role/{ROLE}"), "externalId": OWNER },
                "mode": "Manage",
                "tenants": [{
                    "namespaceSelector": { "matchLabels": { "ecr": "yes" } },
                    "repositoryPrefixes": ["{namespace}/"],
                    "may": self.purpose.may(),
                }],
            },
        })
    }

    /// Applies the tenant's namespace.
    async fn admit_namespace(&self) -> Result<()> {
        self.apply(&json!({ "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": NAMESPACE, "labels": { "ecr": "yes" } } }))
            .await
    }

    async fn apply(&self, manifest: &Value) -> Result<()> {
        let apply = ["apply", "-f", "-"];
        let output = self.cluster.kubectl_with_input(&apply, &manifest.to_string()).await?;
        output.checked().map(drop)
    }

    /// Applies the Registry and waits until it is Ready.
    async fn claim(&self) -> Result<()> {
        self.role(ACCOUNT, REGION).await?;
        self.apply(&self.registry(REGISTRY, ACCOUNT, REGION)).await?;
        let registries = self.registries();
        eventually(LIMIT, "the registry to be claimed", async || {
            let registry = registries.get(REGISTRY).await?;
            let conditions = registry.data["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
            let ready = ready.context("no condition yet")?;
            ensure!(ready["status"] == "True", "{ready}");
            Ok(())
        })
        .await
    }

    /// The status of the Registry.
    pub(super) async fn registry_status(&self) -> Result<Value> {
        Ok(self.registries().get(REGISTRY).await?.data["status"].clone())
    }

    fn registries(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource("Registry", "registries"))
    }

    /// Lets the operator put so many manifests a second.
    pub(super) async fn set_budget(&self, put_image_per_second: u32) -> Result<()> {
        let patch = Patch::Merge(json!({ "spec": { "budget": { "putImagePerSecond": put_image_per_second } } }));
        let registries = self.registries();
        registries.patch(REGISTRY, &PatchParams::default(), &patch).await?;
        self.rest().await
    }

    /// Lets the Registry read events from a queue, or from none any more, and waits until it does.
    pub(super) async fn listen(&self, queue_url: Option<&str>) -> Result<()> {
        let events = queue_url.map(|url| json!({ "queueUrl": url }));
        let patch = Patch::Merge(json!({ "spec": { "events": events } }));
        let registries = self.registries();
        registries.patch(REGISTRY, &PatchParams::default(), &patch).await?;
        eventually(LIMIT, "the registry to listen as asked", async || {
            let registry = registries.get(REGISTRY).await?;
            let listening = registry.data["status"]["events"]["listening"] == true;
            ensure!(listening == queue_url.is_some(), "{}", registry.data["status"]);
            Ok(())
        })
        .await
    }

    /// Pushes an image of its own content into a repository, and gives its digest.
    pub(super) async fn push(&self, repository: u32, tag: &str, content: &str) -> Result<String> {
        self.admin.counts("GetAuthorizationToken");
        let name = objects::repository(repository);
        self.aws
            .push_image(ACCOUNT, REGION, &name, tag, content.as_bytes())
            .await
    }

    /// Ends the operator as kubelet does.
    pub(super) async fn stop(&mut self) -> Result<()> {
        // What is used between this look and the end is lost: an ended process tells no peak.
        let usage = self.usage_of_running()?;
        self.operator.stop().await?;
        self.ended = self.ended.and(usage);
        Ok(())
    }

    /// Starts another operator with these arguments once the last one was stopped, and waits until it is ready.
    pub(super) async fn start_operator(&mut self, arguments: &[&str]) -> Result<()> {
        self.started += 1;
        let name = format!("operator-{}", self.started);
        let options = options(&self.program, &self.user, arguments);
        self.operator = Operator::start(&name, &self.cluster, &self.aws, options).await?;
        Ok(())
    }

    /// What the operator that runs now has used.
    pub(super) fn usage_of_running(&self) -> Result<Usage> {
        Usage::of(self.operator.process().pid())
    }

    /// Ends the operator; gives what all of them used.
    pub(super) async fn end(mut self) -> Result<Usage> {
        self.stop().await?;
        Ok(self.ended)
    }

    /// All counters now. The time is that of the beginning of the reading.
    pub(super) async fn reading(&self) -> Result<Reading> {
        let at = Instant::now();
        // A stopped operator has nothing to add to what was noted of it.
        let running = match self.operator.process().is_running() {
            true => self.usage_of_running()?,
            false => Usage::default(),
        };
        let administrators = self.admin.calls();
        let all = self.aws.all_calls().await?.operations;
        let writes = self.cluster.writes(&Cluster::operator_user()).await?;
        Ok(Reading {
            at,
            calls: difference(&administrators, &all),
            writes,
            cpu_seconds: self.ended.and(running).cpu_seconds,
        })
    }

    /// Fails when the operator does not run.
    pub(super) fn alive(&self) -> Result<()> {
        let process = self.operator.process();
        if process.is_running() {
            return Ok(());
        }
        Err(process.failure("it should run"))
    }

    /// Waits until the operator has listed the registry and settled Repositories so often since its start.
    pub(super) async fn settled(&self, count: u32, limit: Duration) -> Result<()> {
        eventually(limit, "the operator to have seen each Repository", async || {
            let metrics = self.operator.metrics().await?;
            let listed = sum(&metrics, "ecr_operator_inventory_age_seconds{", "");
            let settled = sum(
                &metrics,
                "ecr_operator_reconciles_total{kind=\"Repository\"",
                "result=\"Settled\"",
            );
            ensure!(listed.is_some(), "the registry was not listed yet");
            let settled = settled.unwrap_or_default();
            ensure!(settled >= f64::from(count), "{settled} of {count} settled");
            Ok(())
        })
        .await
    }

    /// Waits until the operator has looked at so many ImagePromotions since its start.
    pub(super) async fn looked(&self, count: u32) -> Result<()> {
        eventually(LIMIT, "the operator to have seen each ImagePromotion", async || {
            let metrics = self.operator.metrics().await?;
            let settled = sum(
                &metrics,
                "ecr_operator_reconciles_total{kind=\"ImagePromotion\"",
                "result=\"Settled\"",
            );
            let settled = settled.unwrap_or_default();
            ensure!(settled >= f64::from(count), "{settled} of {count} settled");
            Ok(())
        })
        .await
    }

    /// Waits until the operator does nothing any more.
    pub(super) async fn rest(&self) -> Result<()> {
        let (mut last, mut looks) = (None, 0);
        eventually(LIMIT, "the operator to come to rest", async || {
            let metrics = self.operator.metrics().await?;
            let running = sum(&metrics, "ecr_operator_reconciles_in_flight{", "").unwrap_or_default();
            let done = sum(&metrics, "ecr_operator_reconciles_total{", "");
            looks = if running == 0.0 && done == last { looks + 1 } else { 0 };
            last = done;
            ensure!(
                looks >= LOOKS_AT_REST,
                "{running} reconciles under way, {done:?} done so far"
            );
            Ok(())
        })
        .await
    }
}

/// The operator itself, who may assume the roles that trust its account.
async fn user(aws: &Aws) -> Result<Principal> {
    let assume = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*" },
    ]});
    aws.user(HOME_ACCOUNT, "operator", Policy::Document(assume)).await
}

fn options(program: &std::path::Path, user: &Principal, arguments: &[&str]) -> OperatorOptions {
    OperatorOptions {
        binary: program.to_owned(),
        owner_id: OWNER.to_owned(),
        principal: user.clone(),
        region: REGION.to_owned(),
        env: BTreeMap::new(),
        gateway: None,
        args: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
    }
}

/// The sum of the samples whose line begins and goes on like this; `None` if there is none.
fn sum(metrics: &str, begin: &str, holds: &str) -> Option<f64> {
    let samples = metrics
        .lines()
        .filter(|line| line.starts_with(begin) && line.contains(holds));
    samples
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_and_added_up() {
        let metrics = "# TYPE a counter\na{kind=\"X\",result=\"s\"} 3\na{kind=\"X\",result=\"t\"} 4\na{kind=\"Y\",result=\"s\"} 5\n";
        assert_eq!(sum(metrics, "a{kind=\"X\"", "result=\"s\""), Some(3.0));
        assert_eq!(sum(metrics, "a{", ""), Some(12.0));
        assert_eq!(sum(metrics, "b{", ""), None);
    }
}
