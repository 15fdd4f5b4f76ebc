//! The rights in AWS that the operator needs, feature by feature, and whom a role trusts. Pure.
//!
//! Which actions know resources and which condition keys is from "Actions, resources, and condition keys for Amazon Elastic
//! Container Registry" in the Service Authorization Reference: of the resources only repositories, of the conditions only tags.
//! What writes to a repository is bound to the tag by which the operator knows its own, so that the role is no way to those
//! of others.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::{
    CLAIM_REPOSITORY, IN_USE_REPOSITORY, OWNER_TAG,
    names::{AccountId, OwnerId, Region, RoleArn},
};

/// A group of rights that is useful without the others, but for [`Feature::Read`], which all of a Registry's role need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Feature {
    /// Looking: `mode: Observe`, and the commands `plan`, `export` and `lifecycle audit`
    Read,
    /// Creating, adopting and keeping repositories, and claiming the registry
    Repository,
    /// Lifecycle policies and their previews. A power to delete
    Lifecycle,
    /// The registry's scanning, policy, signing, settings and exclusions. The policy is a power to grant
    Registry,
    /// Deleting repositories, for `deletionPolicy` other than Retain
    Delete,
    /// Keeping images in use from clean-up, and the reports of what is in use
    Protect,
    /// Promotions: findings, signatures, and the tag of `onVerified`
    Promote,
    /// Copies of images, for `copyTo` and the command `copy`
    Copy,
    /// Pull-through cache rules and creation templates
    Caching,
    /// Reading the queue of events
    Events,
    /// Taking the role that PullSecrets pull with, `spec.pull` of the Registry
    Pull,
    /// Putting what the registry replicates
    Replicate,
    /// What the role may itself that PullSecrets pull with. No part of the operator's own role
    PullRole,
}

impl Feature {
    /// Those of the operator's own role.
    pub(crate) const ALL: [Self; 12] = [
        Self::Read,
        Self::Repository,
        Self::Lifecycle,
        Self::Registry,
        Self::Delete,
        Self::Protect,
        Self::Promote,
        Self::Copy,
        Self::Caching,
        Self::Events,
        Self::Pull,
        Self::Replicate,
    ];
}

/// Where the rights hold.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub account: AccountId,
    pub region: Region,
    pub owner: OwnerId,
    /// What the names of repositories begin with, such as `team-a/`; all where there is none.
    pub prefixes: Vec<String>,
    /// The ARN of the queue of events.
    pub queue: String,
    /// The ARN of the role to pull with.
    pub pull_role: String,
}

/// Who may assume a role.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// A `ServiceAccount` of an EKS cluster, by its OIDC issuer ("IAM roles for service accounts" in the EKS User Guide).
    Irsa {
        account: AccountId,
        partition: &'static str,
        /// Without `https://`.
        issuer: String,
        namespace: String,
        service_account: String,
    },
    /// Pods that EKS gives the role ("Learn how EKS Pod Identity grants pods access to AWS services").
    PodIdentity,
    /// Another role, which the operator runs with.
    Role { arn: RoleArn, external_id: Option<String> },
    /// For the role that `PullSecrets` pull with: that of the Registry.
    Pull { arn: RoleArn, external_id: Option<String> },
}

/// A policy of IAM.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Document {
    version: &'static str,
    statement: Vec<Statement>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    sid: &'static str,
    effect: &'static str,
    action: Vec<&'static str>,
    resource: Vec<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    condition: Map<String, Value>,
}

const LOOK: &[&str] = &[
    "ecr:DescribeImages",
    "ecr:DescribeRepositories",
    "ecr:GetLifecyclePolicy",
    "ecr:GetRepositoryPolicy",
    "ecr:ListImages",
    "ecr:ListTagsForResource",
];
const LOOK_AT_REGISTRY: &[&str] = &[
    "ecr:DescribePullThroughCacheRules",
    "ecr:DescribeRegistry",
    "ecr:DescribeRepositoryCreationTemplates",
    "ecr:GetAccountSetting",
    "ecr:GetRegistryPolicy",
    "ecr:GetRegistryScanningConfiguration",
    "ecr:GetSigningConfiguration",
    "ecr:ListPullTimeUpdateExclusions",
];
const KEEP_REGISTRY: &[&str] = &[
    "ecr:DeleteRegistryPolicy",
    "ecr:DeregisterPullTimeUpdateExclusion",
    "ecr:PutAccountSetting",
    "ecr:PutRegistryPolicy",
    "ecr:PutRegistryScanningConfiguration",
    "ecr:PutSigningConfiguration",
    "ecr:RegisterPullTimeUpdateExclusion",
];
const KEEP: &[&str] = &[
    "ecr:DeleteRepositoryPolicy",
    "ecr:PutImageScanningConfiguration",
    "ecr:PutImageTagMutability",
    "ecr:SetRepositoryPolicy",
    "ecr:TagResource",
    "ecr:UntagResource",
];
const LIFECYCLE: &[&str] = &[
    "ecr:DeleteLifecyclePolicy",
    "ecr:GetLifecyclePolicyPreview",
    "ecr:PutLifecyclePolicy",
    "ecr:StartLifecyclePolicyPreview",
];
const REPORT: &[&str] = &[
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];
const PROMOTE: &[&str] = &[
    "ecr:BatchGetImage",
    "ecr:DescribeImageScanFindings",
    "ecr:GetDownloadUrlForLayer",
    "ecr:PutImage",
];
const COPY: &[&str] = &[
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:DescribeImages",
    "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];

const PULL: &[&str] = &[
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
];

const CACHE: &[&str] = &[
    "ecr:CreatePullThroughCacheRule",
    "ecr:CreateRepositoryCreationTemplate",
    "ecr:DeletePullThroughCacheRule",
    "ecr:DeleteRepositoryCreationTemplate",
    "ecr:UpdatePullThroughCacheRule",
    "ecr:UpdateRepositoryCreationTemplate",
    "ecr:ValidatePullThroughCacheRule",
];

/// The least policy for these features together.
pub(crate) fn policy(features: &[Feature], scope: &Scope) -> Document {
    Document {
        version: "2012-10-17",
        statement: Feature::ALL
            .into_iter()
            .chain([Feature::PullRole])
            .filter(|feature| features.contains(feature))
            .flat_map(|feature| statements(feature, scope))
            .collect(),
    }
}

fn statements(feature: Feature, scope: &Scope) -> Vec<Statement> {
    let all = || vec![scope.repository("*")];
    let named = || scope.named();
    let ours = || condition("StringLike", &format!("aws:ResourceTag/{OWNER_TAG}"), &scope.owned());
    match feature {
        // The listing is of the whole registry, and knows no condition.
        Feature::Read => vec![
            allow("Look", LOOK, all()),
            allow("LookAtRegistry", LOOK_AT_REGISTRY, vec!["*".to_owned()]),
        ],
        // None of these knows a resource.
        Feature::Registry => vec![allow("Registry", KEEP_REGISTRY, vec!["*".to_owned()])],
        Feature::Repository => vec![
            allow("Create", &["ecr:CreateRepository"], named()).only_if(condition(
                "StringLike",
                &format!("aws:RequestTag/{OWNER_TAG}"),
                &scope.owned(),
            )),
            // A repository that is created has no tags yet, and one that is adopted has no owner.
            allow("Mark", &["ecr:TagResource"], named()).only_if(condition(
                "Null",
                &format!("aws:ResourceTag/{OWNER_TAG}"),
                "true",
            )),
            allow("Keep", KEEP, named()).only_if(ours()),
            allow(
                "Claim",
                &["ecr:CreateRepository", "ecr:TagResource"],
                vec![scope.repository(CLAIM_REPOSITORY), scope.repository(IN_USE_REPOSITORY)],
            ),
        ],
        Feature::Lifecycle => vec![allow("Lifecycle", LIFECYCLE, named()).only_if(ours())],
        Feature::Delete => vec![allow("Delete", &["ecr:DeleteRepository"], named()).only_if(ours())],
        Feature::Protect => vec![
            allow("Protect", &[REPORT, &["ecr:BatchDeleteImage"]].concat(), named()).only_if(ours()),
            allow(
                "Report",
                &[REPORT, &["ecr:GetLifecyclePolicy", "ecr:PutLifecyclePolicy"]].concat(),
                vec![scope.repository(IN_USE_REPOSITORY)],
            ),
        ],
        Feature::Promote => vec![allow("Promote", PROMOTE, named())],
        Feature::Copy => vec![
            allow("Copy", COPY, named()),
            allow("Token", &["ecr:GetAuthorizationToken"], vec!["*".to_owned()]),
        ],
        Feature::Caching => vec![
            // They know neither resources nor tags.
            allow("Cache", CACHE, vec!["*".to_owned()]),
            allow("PassRoles", &["iam:PassRole"], vec![scope.iam("role/*")]).only_if(condition(
                "StringEquals",
                "iam:PassedToService",
                "ecr.amazonaws.com",
            )),
            allow(
                "LinkedRoles",
                &["iam:CreateServiceLinkedRole"],
                vec![scope.iam("role/aws-service-role/*")],
            )
            .only_if(condition("StringLike", "iam:AWSServiceName", "*ecr.amazonaws.com")),
            allow(
                "Secrets",
                &["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"],
                vec![scope.secrets()],
            ),
        ],
        Feature::Events => vec![allow(
            "Events",
            &["sqs:DeleteMessage", "sqs:ReceiveMessage"],
            vec![scope.queue.clone()],
        )],
        Feature::Pull => vec![allow(
            "Pull",
            &["sts:AssumeRole", "sts:SetSourceIdentity"],
            vec![scope.pull_role.clone()],
        )],
        Feature::Replicate => vec![
            allow(
                "Replicate",
                &[
                    "ecr:DescribeImageReplicationStatus",
                    "ecr:DescribeReplicationBackfillResults",
                    "ecr:ListReplicationBackfills",
                    "ecr:PutReplicationConfiguration",
                    "ecr:StartReplicationBackfill",
                ],
                vec!["*".to_owned()],
            ),
            // With the first rule of an account ECR makes its role ("Using service-linked roles" in the Amazon ECR User Guide).
            allow(
                "ReplicationRole",
                &["iam:CreateServiceLinkedRole"],
                vec![scope.iam("role/aws-service-role/replication.ecr.amazonaws.com/*")],
            )
            .only_if(condition(
                "StringEquals",
                "iam:AWSServiceName",
                "replication.ecr.amazonaws.com",
            )),
        ],
        Feature::PullRole => vec![
            allow("Token", &["ecr:GetAuthorizationToken"], vec!["*".to_owned()]),
            allow("Pull", PULL, named()),
        ],
    }
}

fn allow(sid: &'static str, actions: &[&'static str], resource: Vec<String>) -> Statement {
    let mut action = actions.to_vec();
    action.sort_unstable();
    Statement {
        sid,
        effect: "Allow",
        action,
        resource,
        condition: Map::new(),
    }
}

fn condition(operator: &str, key: &str, value: &str) -> Map<String, Value> {
    Map::from_iter([(operator.to_owned(), json!({ key: value }))])
}

impl Statement {
    fn only_if(mut self, condition: Map<String, Value>) -> Self {
        self.condition = condition;
        self
    }
}

impl Scope {
    fn repository(&self, name: &str) -> String {
        let (partition, region, account) = (self.region.partition(), &self.region, &self.account);
        format!("arn:{partition}:ecr:{region}:{account}:repository/{name}")
    }

    fn iam(&self, name: &str) -> String {
        format!("arn:{}:iam::{}:{name}", self.region.partition(), self.account)
    }

    /// The secrets with credentials for other registries, which ECR reads in the caller's name.
    fn secrets(&self) -> String {
        let (partition, region, account) = (self.region.partition(), &self.region, &self.account);
        format!("arn:{partition}:secretsmanager:{region}:{account}:secret:ecr-pullthroughcache/*")
    }

    fn named(&self) -> Vec<String> {
        match self.prefixes.is_empty() {
            true => vec![self.repository("*")],
            false => self
                .prefixes
                .iter()
                .map(|prefix| self.repository(&format!("{}/*", prefix.trim_end_matches('/'))))
                .collect(),
        }
    }

    /// What the tags of the installation's own repositories look like.
    fn owned(&self) -> String {
        format!("{}/*", self.owner)
    }
}

/// The reference page: what each feature needs, for an installation, account and Region of the examples.
pub(crate) fn reference(scope: &Scope) -> String {
    let mut page = "# Rights in AWS, feature by feature\n\n\
        Generated by `cargo xtask generate`. What each feature needs for the installation `prod` in account 111122223333, Region\n\
        eu-west-1. `ecr-operator iam-policy` prints the same for yours, several features as one policy. What each right is for, and\n\
        whom the role has to trust, stands in [the guide](../guides/iam.md).\n"
        .to_owned();
    for feature in Feature::ALL.into_iter().chain([Feature::PullRole]) {
        let Some(name) = clap::ValueEnum::to_possible_value(&feature) else {
            continue;
        };
        let policy = serde_json::to_string_pretty(&policy(&[feature], scope)).unwrap_or_default();
        let help = name.get_help().map(ToString::to_string).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {}\n\n{help}.\n\n```json\n{policy}\n```\n", name.get_name());
    }
    page
}

/// The trust policy of a role.
pub(crate) fn trust(trust: &Trust) -> Value {
    let statements = match trust {
        Trust::Irsa {
            account,
            partition,
            issuer,
            namespace,
            service_account,
        } => vec![json!({
            "Effect": "Allow",
            "Principal": { "Federated": format!("arn:{partition}:iam::{account}:oidc-provider/{issuer}") },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": { "StringEquals": {
                format!("{issuer}:aud"): "sts.amazonaws.com",
                format!("{issuer}:sub"): format!("system:serviceaccount:{namespace}:{service_account}"),
            }},
        })],
        Trust::PodIdentity => vec![json!({
            "Effect": "Allow",
            "Principal": { "Service": "pods.eks.amazonaws.com" },
            "Action": ["sts:AssumeRole", "sts:TagSession"],
        })],
        Trust::Role { arn, external_id } => vec![assumed_by(arn, external_id.as_deref())],
        // The identity of the source knows no external id.
        Trust::Pull { arn, external_id } => vec![
            assumed_by(arn, external_id.as_deref()),
            json!({ "Effect": "Allow", "Principal": { "AWS": arn }, "Action": "sts:SetSourceIdentity" }),
        ],
    };
    json!({ "Version": "2012-10-17", "Statement": statements })
}

fn assumed_by(arn: &RoleArn, external_id: Option<&str>) -> Value {
    let mut statement = json!({
        "Effect": "Allow",
        "Principal": { "AWS": arn },
        "Action": "sts:AssumeRole",
    });
    if let Some(external_id) = external_id {
        statement["Condition"] = json!({ "StringEquals": { "sts:ExternalId": external_id } });
    }
    statement
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            account: "111122223333".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
            owner: "prod".parse().unwrap(),
            prefixes: Vec::new(),
            queue: "arn:aws:sqs:eu-west-1:111122223333:ecr-operator".into(),
            pull_role: "arn:aws:iam::111122223333:role/ecr-operator-pull".into(),
        }
    }

    fn written(features: &[Feature], scope: &Scope) -> Value {
        serde_json::to_value(policy(features, scope)).unwrap()
    }

    fn statements(features: &[Feature], scope: &Scope) -> Vec<Value> {
        written(features, scope)["Statement"].as_array().unwrap().clone()
    }

    #[test]
    fn what_destroys_is_bound_to_what_is_ours() {
        for statement in statements(&Feature::ALL, &scope()) {
            for action in statement["Action"].as_array().unwrap() {
                let destroys = [
                    "ecr:DeleteRepository",
                    "ecr:DeleteLifecyclePolicy",
                    "ecr:BatchDeleteImage",
                ]
                .contains(&action.as_str().unwrap());
                assert!(
                    !destroys
                        || statement["Condition"]
                            == json!({ "StringLike": { "aws:ResourceTag/ecr-operator.dev/owner": "prod/*" } }),
                    "{statement}"
                );
            }
        }
    }

    #[test]
    fn who_only_reads_may_write_nothing_and_who_does_not_delete_may_not() {
        let actions = |features: &[Feature]| -> Vec<String> {
            statements(features, &scope())
                .iter()
                .flat_map(|statement| statement["Action"].as_array().unwrap().clone())
                .map(|action| action.as_str().unwrap().to_owned())
                .collect()
        };
        let reads = |action: &String| {
            ["ecr:Describe", "ecr:Get", "ecr:List"]
                .iter()
                .any(|read| action.starts_with(read))
        };
        assert!(actions(&[Feature::Read]).iter().all(reads));
        let without = Feature::ALL.into_iter().filter(|feature| *feature != Feature::Delete);
        let without = actions(&without.collect::<Vec<_>>());
        assert!(!without.contains(&"ecr:DeleteRepository".to_owned()), "{without:?}");
    }

    #[test]
    fn prefixes_end_at_a_segment_and_other_partitions_have_their_own_arns() {
        let mut scope = scope();
        scope.prefixes = vec!["team-a".into(), "team-b/".into()];
        scope.region = "cn-north-1".parse().unwrap();
        let delete = &statements(&[Feature::Delete], &scope)[0];
        assert_eq!(
            delete["Resource"],
            json!([
                "arn:aws-cn:ecr:cn-north-1:111122223333:repository/team-a/*",
                "arn:aws-cn:ecr:cn-north-1:111122223333:repository/team-b/*",
            ])
        );
    }

    #[test]
    fn the_role_to_pull_with_is_another_and_may_nothing_else() {
        let pull = written(&[Feature::PullRole], &scope());
        let all = written(&Feature::ALL, &scope());
        assert!(!Feature::ALL.contains(&Feature::PullRole), "{all}");
        for statement in pull["Statement"].as_array().unwrap() {
            for action in statement["Action"].as_array().unwrap() {
                let reads = [
                    "ecr:BatchCheck",
                    "ecr:BatchGet",
                    "ecr:GetDownload",
                    "ecr:GetAuthorization",
                ];
                assert!(
                    reads.iter().any(|read| action.as_str().unwrap().starts_with(read)),
                    "{action}"
                );
            }
        }
        let trust = trust(&Trust::Pull {
            arn: "arn:aws:iam::111122223333:role/ecr-operator".parse().unwrap(),
            external_id: Some("example".into()),
        });
        assert_eq!(
            trust["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"],
            "example"
        );
        assert_eq!(trust["Statement"][1]["Action"], "sts:SetSourceIdentity");
        assert!(trust["Statement"][1].get("Condition").is_none());
    }

    #[test]
    fn all_features_together_fit_into_one_policy() {
        // A managed policy has at most 6,144 characters, white space not counted ("IAM and AWS STS quotas").
        let text = written(&Feature::ALL, &scope()).to_string();
        assert!(text.len() <= 6_144, "{} characters", text.len());
    }

    #[test]
    fn a_role_trusts_exactly_one_service_account() {
        let written = trust(&Trust::Irsa {
            account: "111122223333".parse().unwrap(),
            partition: "aws",
            issuer: "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE".into(),
            namespace: "ecr-operator".into(),
            service_account: "ecr-operator".into(),
        });
        let statement = &written["Statement"][0];
        assert_eq!(
            statement["Condition"]["StringEquals"],
            json!({
                "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE:aud": "sts.amazonaws.com",
                "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE:sub": "system:serviceaccount:ecr-operator:ecr-operator",
            })
        );
        let role = trust(&Trust::Role {
            arn: "arn:aws:iam::111122223333:role/ecr-operator".parse().unwrap(),
            external_id: Some("example".into()),
        });
        assert_eq!(
            role["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"],
            "example"
        );
    }
}
