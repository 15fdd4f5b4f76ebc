//! Everything that the story plays on, and the ways to look at it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_sdk_ecr::types::Repository;
use bed::{Aws, Bed, Cluster, ControlPlane, Operator, OperatorOptions, Policy, eventually, root};
use serde_json::{Value, json};

/// The account and Region that the story plays in; those of `examples/`.
pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const REGION: &str = "eu-west-1";

/// The Region that the examples replicate to.
pub(crate) const FAR: &str = "us-east-1";

/// The name of the installation.
pub(crate) const OWNER: &str = "demo";

/// The account that an image is copied to.
pub(crate) const OTHER_ACCOUNT: &str = "444455556666";

/// How long anything may take to become true.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Everything that was started. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) operator: Option<Operator>,
    /// The operator's program, which is the command line too.
    pub(crate) program: PathBuf,
    pub(crate) aws: Aws,
    pub(crate) cluster: Cluster,
    /// Keeps etcd running.
    _control_plane: ControlPlane,
    pub(crate) bed: Bed,
}

impl Stage {
    pub(crate) async fn start(program: PathBuf) -> Result<Self> {
        let bed = Bed::new()?;
        let control_plane = ControlPlane::start(&bed).await?;
        let (cluster, aws) = tokio::try_join!(control_plane.cluster("demo"), Aws::start(&bed))?;
        Ok(Self {
            operator: None,
            program,
            aws,
            cluster,
            _control_plane: control_plane,
            bed,
        })
    }

    /// Installs the chart and runs the operator under its own `ServiceAccount` and with its own rights in AWS.
    pub(crate) async fn install(&mut self) -> Result<()> {
        let chart = root().join("charts/ecr-operator");
        let values = json!({ "ownerId": OWNER, "pullSecrets": { "enabled": true } });
        self.cluster.install_chart(&chart, &values).await?;
        let features = [bed::MANAGES, &["events", "promote", "protect", "replicate", "pull"]].concat();
        let mut rights = bed::rights(ACCOUNT, REGION, OWNER, &features)?;
        let statements = rights["Statement"].as_array_mut().context("no statements")?;
        // The same Repositories in another Region.
        let replicas = bed::rights(ACCOUNT, FAR, OWNER, &["read", "repository"])?;
        for (at, statement) in replicas["Statement"].as_array().into_iter().flatten().enumerate() {
            let mut statement = statement.clone();
            statement["Sid"] = json!(format!("Replicas{at}"));
            statements.push(statement);
        }
        // What copying needs beyond that, of the source; and the role in the other account.
        statements.push(json!({ "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*" }));
        statements.push(json!({ "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": other_role() }));
        let options = OperatorOptions {
            binary: self.program.clone(),
            owner_id: OWNER.to_owned(),
            principal: self.aws.user(ACCOUNT, "ecr-operator", Policy::Document(rights)).await?,
            region: REGION.to_owned(),
            env: BTreeMap::new(),
            gateway: None,
            args: ["--inventory-interval", "1s", "--in-use-interval", "5s"]
                .map(str::to_owned)
                .into(),
        };
        self.operator = Some(Operator::start("operator", &self.cluster, &self.aws, options).await?);
        Ok(())
    }

    /// Lets the operator into the other account, with the rights that the guide on copying asks for, and makes a repository
    /// there.
    pub(crate) async fn open_other_account(&self) -> Result<()> {
        let actions = [
            "BatchCheckLayerAvailability",
            "BatchGetImage",
            "CompleteLayerUpload",
            "DescribeImages",
            "DescribeRepositories",
            "GetRepositoryPolicy",
            "InitiateLayerUpload",
            "ListTagsForResource",
            "PutImage",
            "UploadLayerPart",
        ]
        .map(|action| format!("ecr:{action}"));
        let repositories = format!("arn:aws:ecr:{REGION}:{OTHER_ACCOUNT}:repository/*");
        let rights = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*" },
            { "Effect": "Allow", "Action": actions, "Resource": repositories },
        ]});
        let trust = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Principal": { "AWS": ACCOUNT }, "Action": "sts:AssumeRole" },
        ]});
        self.aws
            .role(OTHER_ACCOUNT, "ecr-operator", Policy::Document(rights), trust)
            .await?;
        let admin = self.aws.admin(OTHER_ACCOUNT).await?;
        let ecr = self.aws.ecr(REGION, &admin);
        ecr.create_repository().repository_name("team-a/app").send().await?;
        let registry = json!({
            "apiVersion": "ecr-operator.dev/v1alpha1", "kind": "Registry",
            "metadata": { "name": "other" },
            "spec": {
                "region": REGION, "registryId": OTHER_ACCOUNT, "assumeRole": { "roleArn": other_role() },
                "tenants": [{
                    "namespaceSelector": { "matchLabels": { "ecr": "yes" } },
                    "repositoryPrefixes": ["{namespace}/"], "may": ["Promote"],
                }],
            },
        });
        let output = self
            .cluster
            .kubectl_with_input(&["apply", "-f", "-"], &registry.to_string())
            .await?;
        output.checked().map(drop)
    }

    /// What kubectl and the AWS CLI need to find everything.
    pub(crate) async fn environment(&self) -> Result<Vec<(String, String)>> {
        let admin = self.aws.admin(ACCOUNT).await?;
        let mut variables = vec![
            ("KUBECONFIG".to_owned(), self.cluster.kubeconfig().display().to_string()),
            ("AWS_ENDPOINT_URL".to_owned(), self.aws.endpoint().to_owned()),
            ("AWS_REGION".to_owned(), REGION.to_owned()),
        ];
        variables.extend(admin.environment());
        Ok(variables)
    }

    /// Applies a file or folder of `examples/`.
    pub(crate) async fn example(&self, path: &str) -> Result<()> {
        let path = root().join("examples").join(path).display().to_string();
        self.cluster.kubectl(&["apply", "-f", &path]).await?.checked().map(drop)
    }

    /// Applies a Repository of the namespace `team-a`.
    pub(crate) async fn apply(&self, name: &str, spec: &Value) -> Result<()> {
        self.apply_manifest(&repository("team-a", name, spec)).await
    }

    /// Applies any object.
    pub(crate) async fn apply_manifest(&self, manifest: &Value) -> Result<()> {
        let output = self
            .cluster
            .kubectl_with_input(&["apply", "-f", "-"], &manifest.to_string())
            .await?;
        output.checked().map(drop)
    }

    /// The sentence with which the apiserver refuses a Repository.
    pub(crate) async fn refusal(&self, spec: &Value) -> Result<String> {
        let manifest = repository("team-a", "bad", spec).to_string();
        let output = self
            .cluster
            .kubectl_with_input(&["apply", "-f", "-"], &manifest)
            .await?;
        ensure!(!output.status.success(), "the apiserver took it");
        Ok(output.stderr)
    }

    /// Runs the operator's program as a command line, shows what it printed, and gives that and the exit code.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let mut command = Command::new(&self.program);
        command.args(arguments).envs(self.environment().await?);
        let output = self.bed.run(&command, "").await?;
        println!("   $ ecr-operator {}", arguments.join(" "));
        for line in output.stdout.lines().chain(output.stderr.lines()) {
            println!("   | {line}");
        }
        Ok((output.status.code(), output.stdout))
    }

    /// Runs kubectl.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(arguments).await?.checked()
    }

    /// Waits until the apiserver shows a Repository with this reason, and returns the condition's message.
    pub(crate) async fn reason(&self, namespace: &str, name: &str, reason: &str) -> Result<String> {
        let what = format!("{namespace}/{name} to be {reason}");
        eventually(LIMIT, &what, async || {
            let get = [
                "get",
                "repositories.ecr-operator.dev",
                name,
                "-n",
                namespace,
                "-o",
                "json",
            ];
            let object: Value = serde_json::from_str(&self.kubectl(&get).await?)?;
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
            let ready = ready.context("no condition yet")?;
            ensure!(ready["reason"] == reason, "{ready}");
            ensure!(
                ready["observedGeneration"] == object["metadata"]["generation"],
                "{ready}"
            );
            Ok(ready["message"].as_str().unwrap_or_default().to_owned())
        })
        .await
    }

    /// Waits for an Event on a Repository of `team-a` and returns its note.
    pub(crate) async fn event(&self, name: &str, reason: &str) -> Result<String> {
        eventually(LIMIT, &format!("an Event {reason}"), async || {
            let events = self
                .kubectl(&["get", "events.events.k8s.io", "-n", "team-a", "-o", "json"])
                .await?;
            let events: Value = serde_json::from_str(&events)?;
            let items = events["items"].as_array().cloned().unwrap_or_default();
            let found = items
                .into_iter()
                .find(|event| event["regarding"]["name"] == name && event["reason"] == reason);
            found
                .map(|event| event["note"].as_str().unwrap_or_default().to_owned())
                .ok_or_else(|| anyhow!("none"))
        })
        .await
    }

    /// Waits until the apiserver has no Repository of this name in `team-a`.
    pub(crate) async fn gone(&self, name: &str) -> Result<()> {
        eventually(LIMIT, &format!("{name} to go"), async || {
            let names = self
                .kubectl(&["get", "repositories.ecr-operator.dev", "-n", "team-a", "-o", "name"])
                .await?;
            ensure!(
                !names.lines().any(|line| line.ends_with(&format!("/{name}"))),
                "{names}"
            );
            Ok(())
        })
        .await
    }

    /// ECR, as an administrator of the account sees it.
    pub(crate) async fn ecr(&self) -> Result<aws_sdk_ecr::Client> {
        Ok(self.aws.ecr(REGION, &self.aws.admin(ACCOUNT).await?))
    }

    /// A repository as ECR has it, if it has it.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Repository>> {
        let answer = self.ecr().await?.describe_repositories().send().await?;
        Ok(answer
            .repositories
            .unwrap_or_default()
            .into_iter()
            .find(|one| one.repository_name() == Some(name)))
    }

    /// A repository as ECR has it.
    pub(crate) async fn live(&self, name: &str) -> Result<Repository> {
        self.find(name)
            .await?
            .with_context(|| format!("ECR has no repository {name}"))
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

    /// Waits until a repository in ECR is as it should be.
    pub(crate) async fn live_is(&self, name: &str, what: &str, right: fn(&Repository) -> bool) -> Result<()> {
        eventually(LIMIT, what, async || {
            let live = self.live(name).await?;
            ensure!(right(&live), "{live:?}");
            Ok(())
        })
        .await
    }
}

/// The operator's role in the other account.
fn other_role() -> String {
    format!("arn:aws:iam::{OTHER_ACCOUNT}:role/ecr-operator")
}

/// A manifest.
pub(crate) fn repository(namespace: &str, name: &str, spec: &Value) -> Value {
    let mut whole = json!({ "registryRef": { "name": "main" } });
    if let (Some(whole), Some(spec)) = (whole.as_object_mut(), spec.as_object()) {
        whole.extend(spec.clone());
    }
    json!({
        "apiVersion": "ecr-operator.dev/v1alpha1",
        "kind": "Repository",
        "metadata": { "name": name, "namespace": namespace },
        "spec": whole,
    })
}
