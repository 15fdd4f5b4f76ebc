//! The way to a registry for commands that only read.

use kube::{Api, Client};

use crate::{
    api::{
        Registry,
        names::{AccountId, Region, RoleArn},
        registry::AssumeRole,
    },
    aws::{client::Ecr, connect},
    control::gate::Gate,
    in_use::{Snapshot, snapshot},
    metrics::Metrics,
};

/// Whose rights are used. Rights are found as AWS's own tools find them, in the environment, profiles or on the machine.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Rights {
    /// Assume this role in place of the one that the Registry names.
    #[arg(long, value_name = "ARN", conflicts_with = "own_credentials")]
    role_arn: Option<RoleArn>,

    /// The external id that this role asks for.
    #[arg(long, value_name = "ID", requires = "role_arn")]
    external_id: Option<String>,

    /// Assume no role.
    #[arg(long)]
    own_credentials: bool,
}

/// The way to one registry.
pub(super) struct Way {
    pub ecr: Ecr,
    /// As it stands in the cluster, with whosever rights it is read.
    pub registry: Registry,
    key: (AccountId, Region),
}

impl Way {
    /// The way that a Registry of the cluster describes. A gate that stays closed lets no write pass.
    pub(super) async fn open(client: &Client, name: &str, rights: &Rights) -> Result<Self, String> {
        let registry = Api::<Registry>::all(client.clone())
            .get_opt(name)
            .await
            .map_err(|error| format!("Registry {name} could not be read: {error}"))?
            .ok_or_else(|| {
                format!("Registry {name} does not exist; `kubectl get registries.ecr-operator.dev` lists those that do")
            })?;
        let mut spec = registry.spec.clone();
        if let Some(role_arn) = rights.role_arn.clone() {
            let external_id = rights.external_id.clone();
            spec.assume_role = Some(AssumeRole { role_arn, external_id });
        } else if rights.own_credentials {
            spec.assume_role = None;
        }
        let (ecr, _) = connect::open(name, &spec, Gate::closed(), Metrics::new()).await;
        Ok(Self {
            ecr,
            key: (registry.spec.registry_id.clone(), registry.spec.region.clone()),
            registry,
        })
    }

    /// What is in use of the registry.
    pub(super) async fn snapshot(&self, client: &Client) -> Snapshot {
        snapshot(client, &self.ecr, &self.key).await
    }
}
