//! STS: who may assume a role, on top of the trust policy that the service itself checks.

use fakecloud_core::auth::{IamAction, PrincipalType};
use fakecloud_core::service::{AwsRequest, AwsResponse, AwsService as _, AwsServiceError};

use crate::access::{self, Facts};
use crate::answer::refusal;
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
        check_form(&request)?;
        let role = request.query_params.get("RoleArn").cloned().unwrap_or_default();
        let trust = trust_policy(world, &role).unwrap_or_default();
        let identity = trusted_identity(caller, &trust);
        // Within one account a trust policy that names the caller is enough; the account's root in it is not.
        let named = account_of(&role) == caller.principal.account_id && trust.contains(&format!("\"{identity}\""));
        let named_source = request.query_params.contains_key("SourceIdentity");
        if named_source && !trust.contains("sts:SetSourceIdentity") && !trust.contains("\"sts:*\"") {
            let message = format!(
                "User: {} is not authorized to perform: sts:SetSourceIdentity on resource: {role}",
                caller.principal.arn
            );
            return Err(access::access_denied(Service::Sts, message));
        }
        if !named {
            let action = |action| IamAction {
                service: "sts",
                action,
                resource: role.clone(),
            };
            let mut actions = vec![action("AssumeRole")];
            actions.extend(named_source.then(|| action("SetSourceIdentity")));
            let facts = Facts {
                region: request.region.clone(),
                ..Facts::default()
            };
            access::authorize(world, Service::Sts, caller, &actions, &facts)?;
        }
        // The service compares ARNs literally, and a trust policy names the role and not one session of it.
        if let Some(principal) = request.principal.as_mut() {
            principal.arn = identity;
        }
    }
    world.sts.handle(request).await
}

/// Names and the session policy have limits that fakecloud does not know.
fn check_form(request: &AwsRequest) -> Result<(), AwsServiceError> {
    let given = |name: &str| request.query_params.get(name).map(String::as_str);
    let is_name = |text: &str| {
        (2..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
    };
    for name in ["RoleSessionName", "SourceIdentity"] {
        if given(name).is_some_and(|text| !is_name(text)) {
            let message = format!("1 validation error detected: Value at '{name}' failed to satisfy constraint");
            return Err(refusal(400, "ValidationError", message));
        }
    }
    if given("Policy").is_some_and(|text| text.len() > 2_048) {
        let message = "1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must have length less than or equal to 2048";
        return Err(refusal(400, "ValidationError", message));
    }
    Ok(())
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
