//! Reads one document from ECR, and carries one step out.

use std::time::Duration;

use super::{
    part::{Part, Wish},
    plan::{LivePolicy, Seen, Step},
};
use crate::aws::{
    client::Ecr,
    error::{AwsError, Fault},
};

/// How long one document is waited for: the others of the registry are told only when all were read.
const PATIENCE: Duration = Duration::from_secs(10);

/// A part as ECR has it now, if it answers soon enough.
pub(super) async fn read(ecr: &Ecr, part: Part, wish: &Wish) -> Result<Seen, AwsError> {
    tokio::time::timeout(PATIENCE, ask(ecr, part, wish))
        .await
        .unwrap_or_else(|_| {
            let message = format!("nothing came within {} s", PATIENCE.as_secs());
            Err(AwsError::unanswered(question(part), Fault::Unavailable, message))
        })
}

/// The operation that reads a part.
const fn question(part: Part) -> &'static str {
    match part {
        Part::Scanning => "GetRegistryScanningConfiguration",
        Part::Policy => "GetRegistryPolicy",
        Part::Signing => "GetSigningConfiguration",
        Part::BlobMounting | Part::BasicScanTypeVersion | Part::RegistryPolicyScope => "GetAccountSetting",
        Part::Exclusions => "ListPullTimeUpdateExclusions",
    }
}

async fn ask(ecr: &Ecr, part: Part, wish: &Wish) -> Result<Seen, AwsError> {
    Ok(match (part, part.setting()) {
        (Part::Scanning, _) => Seen::Scanning(ecr.scanning().await?),
        (Part::Signing, _) => Seen::Signing(ecr.signing().await?),
        (Part::Policy, _) => Seen::Policy(LivePolicy::read(ecr.registry_policy().await?)),
        (Part::Exclusions, _) => Seen::Exclusions(ecr.pull_time_exclusions().await?),
        (_, Some(setting)) => {
            let value = ecr.account_setting(setting).await?;
            match wish {
                Wish::Scope { confirmed } => {
                    // Only what would wake must be known, and only where nobody has said that it may.
                    let policy = match value == "V1" && !confirmed {
                        true => LivePolicy::read(ecr.registry_policy().await?),
                        false => LivePolicy::Absent,
                    };
                    Seen::Scope { value, policy }
                }
                _ => Seen::Setting(value),
            }
        }
        (part, None) => return Err(AwsError::incomplete(question(part), part.field())),
    })
}

/// Takes a step. May be taken again after it was carried out.
pub(super) async fn take(ecr: &Ecr, step: &Step) -> Result<(), AwsError> {
    match step {
        Step::PutScanning { to, .. } => ecr.put_scanning(to).await,
        Step::PutSigning { to, .. } => ecr.put_signing(to).await,
        Step::PutPolicy { to, .. } => ecr.put_registry_policy(&to.to_text()).await,
        Step::RemovePolicy => ecr.delete_registry_policy().await,
        Step::PutSetting { name, to, .. } => ecr.put_account_setting(name, to).await,
        Step::Exclude { register, deregister } => {
            for principal in register {
                ecr.register_pull_time_exclusion(principal).await?;
            }
            for principal in deregister {
                ecr.deregister_pull_time_exclusion(principal).await?;
            }
            Ok(())
        }
    }
}
