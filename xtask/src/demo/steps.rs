//! The steps of the demo. Each looks at ECR or at the apiserver itself, not at what the operator says of them.

use anyhow::{Context as _, Result, ensure};
use bed::{Aws, Bed, Cluster, ControlPlane};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use super::story::Story;

/// The account and Region that the story plays in.
const ACCOUNT: &str = "111122223333";
const REGION: &str = "eu-west-1";

/// Everything that was started. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) aws: Aws,
    pub(crate) cluster: Cluster,
    /// Keeps etcd running.
    _control_plane: ControlPlane,
    pub(crate) bed: Bed,
}

impl Stage {
    async fn start() -> Result<Self> {
        let bed = Bed::new()?;
        let control_plane = ControlPlane::start(&bed).await?;
        let cluster = control_plane.cluster("demo").await?;
        let aws = Aws::start(&bed).await?;
        Ok(Self {
            aws,
            cluster,
            _control_plane: control_plane,
            bed,
        })
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
}

/// Tells the story, and puts what it plays on into `stage`. `None`: a step failed that later ones need.
pub(crate) async fn tell(story: &mut Story, stage: &mut Option<Stage>) -> Option<()> {
    let started = story.step(
        "The bed is started",
        "etcd, kube-apiserver and kube-controller-manager as in any cluster, and an AWS stand-in that
         speaks the protocols of ECR, STS, IAM and SQS. All of them are processes on this machine.",
        Stage::start(),
    );
    let stage = stage.insert(started.await?);

    let namespace = story.step(
        "A namespace is created and read back",
        "kubectl creates it; another client asks the apiserver for it.",
        create_namespace(&stage.cluster, "team-a"),
    );
    namespace.await?;

    let repository = story.step(
        "A repository made with AWS's own SDK is listed",
        "CreateRepository, then DescribeRepositories, both signed and checked as AWS does.",
        create_repository(&stage.aws, "team-a/by-hand"),
    );
    repository.await
}

async fn create_namespace(cluster: &Cluster, name: &str) -> Result<()> {
    cluster.kubectl(&["create", "namespace", name]).await?.checked()?;
    let namespaces: Api<Namespace> = Api::all(cluster.client().await?);
    namespaces.get(name).await?;
    Ok(())
}

async fn create_repository(aws: &Aws, name: &str) -> Result<()> {
    let ecr = aws.ecr(REGION, &aws.admin(ACCOUNT).await?);
    let created = ecr
        .create_repository()
        .repository_name(name)
        .send()
        .await
        .map_err(aws_sdk_ecr::Error::from)?;
    let arn = created.repository().and_then(|repository| repository.repository_arn());
    let arn = arn.context("CreateRepository gave no ARN")?;
    let listed = ecr
        .describe_repositories()
        .send()
        .await
        .map_err(aws_sdk_ecr::Error::from)?;
    let listed = listed
        .repositories()
        .iter()
        .any(|repository| repository.repository_arn() == Some(arn));
    ensure!(listed, "{arn} is not listed");
    Ok(())
}
