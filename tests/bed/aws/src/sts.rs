//! STS: who may assume a role, on top of the trust policy that the service itself checks.

use fakecloud_core::auth::{IamAction, PrincipalType};
use fakecloud_core::service::{AwsRequest, AwsResponse, AwsService as _, AwsServiceError};

use crate::access::{self, Facts};
use crate::credentials::Caller;
use crate::target::Service;
use crate::world::World;

/// Carries out an STS call.
pub(crate) async fn call(
    world: &World,
    caller: &Caller,
    mut request: AwsRequest,
) -> Result<AwsResponse, AwsServiceError> {
    if request.action == "AssumeRole" {
        let role = request.query_params.get("RoleArn").cloned().unwrap_or_default();
        let trust = trust_policy(world, &role).unwrap_or_default();
        let identity = trusted_identity(caller, &trust);
        // Within one account a trust policy that names the caller is enough; the account's root in it is not.
        let named = account_of(&role) == caller.principal.account_id && trust.contains(&format!("\"{identity}\""));
        if !named {
            let action = IamAction {
                service: "sts",
                action: "AssumeRole",
                resource: role,
            };
            let facts = Facts {
                region: request.region.clone(),
                ..Facts::default()
            };
            access::authorize(world, Service::Sts, caller, &[action], &facts)?;
        }
        // The service compares ARNs literally, and a trust policy names the role and not one session of it.
        if let Some(principal) = request.principal.as_mut() {
            principal.arn = identity;
        }
    }
    world.sts.handle(request).await
}

fn account_of(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

/// The trust policy of a role, in compact JSON.
fn trust_policy(world: &World, role_arn: &str) -> Option<String> {
    let states = world.iam_state.read();
    let role = states
        .get(account_of(role_arn))?
        .roles
        .values()
        .find(|role| role.arn == role_arn)?;
    let document: serde_json::Value = serde_json::from_str(&role.assume_role_policy_document).ok()?;
    Some(document.to_string())
}

/// The ARN by which a trust policy would name the caller.
fn trusted_identity(caller: &Caller, trust: &str) -> String {
    let principal = &caller.principal;
    if principal.principal_type != PrincipalType::AssumedRole || trust.contains(&principal.arn) {
        return principal.arn.clone();
    }
    match principal.arn.split('/').nth(1) {
        Some(role) => format!("arn:aws:iam::{}:role/{role}", principal.account_id),
        None => principal.arn.clone(),
    }
}
