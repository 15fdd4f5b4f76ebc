//! `ecr-operator iam-policy`

use serde_json::Value;

use crate::{
    api::names::{AccountId, OwnerId, Region, RoleArn},
    document::iam::{self, Feature, Scope, Trust},
    terminal::{self, Outcome},
};

/// Prints the least IAM policy for the role of a Registry, or with --trust whom that role has to trust. Rights that write to a
/// repository are bound to the tag by which the operator knows its own. With the feature pull-role it is the policy of the role
/// that PullSecrets pull with, which is another. Needs neither a cluster nor AWS.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ecr-operator iam-policy --owner-id prod --account 111122223333 --region eu-west-1 --features read,repository
  ecr-operator iam-policy --owner-id prod --account 111122223333 --region eu-west-1 --features pull-role
  ecr-operator iam-policy --owner-id prod --account 111122223333 --region eu-west-1 \\
      --trust irsa --oidc-issuer oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE")]
pub(super) struct Args {
    /// The name of the installation, as the operator is run with.
    #[arg(long, env = "ECR_OPERATOR_OWNER_ID", value_name = "NAME")]
    owner_id: OwnerId,

    /// The account of the registry.
    #[arg(long, value_name = "ACCOUNT")]
    account: AccountId,

    /// The Region of the registry.
    #[arg(long, value_name = "REGION")]
    region: Region,

    /// What the operator is to do there. Default: everything.
    #[arg(long, value_name = "FEATURE", value_enum, value_delimiter = ',')]
    features: Vec<Feature>,

    /// What the names of repositories begin with, by path segment, such as team-a. Repeatable. Default: all names.
    #[arg(long = "prefix", value_name = "PREFIX")]
    prefixes: Vec<String>,

    /// The name of the queue of events.
    #[arg(long, value_name = "NAME", default_value = "ecr-operator")]
    queue: String,

    /// The name of the role that PullSecrets pull with, in the registry's account.
    #[arg(long, value_name = "NAME", default_value = "ecr-operator-pull")]
    pull_role: String,

    /// Print the trust policy of the role instead: how the operator gets it.
    #[arg(long, value_name = "HOW", value_enum)]
    trust: Option<Way>,

    /// The cluster's OIDC issuer, for --trust irsa.
    #[arg(long, value_name = "URL", required_if_eq("trust", "irsa"))]
    oidc_issuer: Option<String>,

    /// The namespace of the release, for --trust irsa.
    #[arg(long, value_name = "NAME", default_value = "ecr-operator")]
    namespace: String,

    /// The service account of the operator, for --trust irsa.
    #[arg(long, value_name = "NAME", default_value = "ecr-operator")]
    service_account: String,

    /// The role that the operator runs with, for --trust role; that of the Registry, for --trust pull.
    #[arg(long, value_name = "ARN", required_if_eq_any([("trust", "role"), ("trust", "pull")]))]
    trusted_role: Option<RoleArn>,

    /// The external id that the Registry names, for --trust role and --trust pull.
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
}

/// How the operator gets a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    /// IAM roles for service accounts
    Irsa,
    /// EKS Pod Identity
    PodIdentity,
    /// The operator assumes it with another role: spec.assumeRole of the Registry
    Role,
    /// The role that PullSecrets pull with: spec.pull of the Registry
    Pull,
}

pub(super) fn main(args: &Args) -> Outcome {
    let document = match args.trust {
        Some(way) => iam::trust(&trust(way, args)?),
        None => policy(args)?,
    };
    terminal::print(&format!("{document:#}\n"))
}

fn policy(args: &Args) -> Result<Value, String> {
    let features = match args.features.is_empty() {
        true => &Feature::ALL[..],
        false => &args.features,
    };
    let partition = args.region.partition();
    let scope = Scope {
        queue: format!("arn:{partition}:sqs:{}:{}:{}", args.region, args.account, args.queue),
        pull_role: format!("arn:{partition}:iam::{}:role/{}", args.account, args.pull_role),
        account: args.account.clone(),
        region: args.region.clone(),
        owner: args.owner_id.clone(),
        prefixes: args.prefixes.clone(),
    };
    serde_json::to_value(iam::policy(features, &scope)).map_err(|error| error.to_string())
}

fn trust(way: Way, args: &Args) -> Result<Trust, String> {
    // The command line asks for what each way needs.
    let lacks = |option: &str| format!("{option} is needed for this --trust");
    Ok(match way {
        Way::Irsa => Trust::Irsa {
            account: args.account.clone(),
            partition: args.region.partition(),
            issuer: issuer(args.oidc_issuer.as_deref().ok_or_else(|| lacks("--oidc-issuer"))?),
            namespace: args.namespace.clone(),
            service_account: args.service_account.clone(),
        },
        Way::PodIdentity => Trust::PodIdentity,
        Way::Role => Trust::Role {
            arn: args.trusted_role.clone().ok_or_else(|| lacks("--trusted-role"))?,
            external_id: args.external_id.clone(),
        },
        Way::Pull => Trust::Pull {
            arn: args.trusted_role.clone().ok_or_else(|| lacks("--trusted-role"))?,
            external_id: args.external_id.clone(),
        },
    })
}

/// As IAM names it.
fn issuer(url: &str) -> String {
    url.trim_start_matches("https://").trim_end_matches('/').to_owned()
}
