//! Whether a caller may do what it asks: the identity policies decide, as IAM words it.

use std::collections::{BTreeMap, HashMap};

use fakecloud_core::auth::{ConditionContext, IamAction, IamDecision, IamPolicyEvaluator as _};
use fakecloud_core::service::AwsServiceError;

use crate::answer::refusal;
use crate::credentials::Caller;
use crate::target::Service;
use crate::world::World;

/// What the conditions of a policy may look at, beyond the caller itself.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) region: String,
    /// Tags of the addressed resource; `None` if there is no such resource (yet).
    pub(crate) resource_tags: Option<BTreeMap<String, String>>,
    /// Tags that the request brings along.
    pub(crate) request_tags: Option<BTreeMap<String, String>>,
    /// Further condition keys, by their full name.
    pub(crate) keys: BTreeMap<String, Vec<String>>,
}

/// Lets `caller` through if each of `actions` is allowed.
pub(crate) fn authorize(
    world: &World,
    service: Service,
    caller: &Caller,
    actions: &[IamAction],
    facts: &Facts,
) -> Result<(), AwsServiceError> {
    if caller.principal.is_root() {
        return Ok(());
    }
    let context = context(caller, facts);
    for action in actions {
        let decide = |session: &[String]| {
            world
                .evaluator
                .evaluate(&caller.principal, action, &context, session, None)
        };
        let decision = decide(&caller.session_policies);
        if decision != IamDecision::Allow {
            let narrowed = !caller.session_policies.is_empty() && decide(&[]) == IamDecision::Allow;
            return Err(denied(service, caller, action, decision, narrowed));
        }
    }
    Ok(())
}

fn context(caller: &Caller, facts: &Facts) -> ConditionContext {
    let now = chrono::Utc::now();
    let principal = &caller.principal;
    let mut keys = facts.keys.clone();
    for (key, value) in facts.resource_tags.iter().flatten() {
        keys.insert(format!("ecr:ResourceTag/{key}"), vec![value.clone()]);
    }
    let map = |tags: &BTreeMap<String, String>| tags.clone().into_iter().collect::<HashMap<_, _>>();
    ConditionContext {
        aws_userid: Some(principal.user_id.clone()),
        aws_principal_arn: Some(principal.arn.clone()),
        aws_principal_account: Some(principal.account_id.clone()),
        aws_principal_type: Some(principal.principal_type.as_str().to_owned()),
        aws_current_time: Some(now),
        aws_epoch_time: Some(now.timestamp()),
        // Plain HTTP stands in for AWS's HTTPS: a policy that insists on TLS has to work as it would there.
        aws_secure_transport: Some(true),
        aws_requested_region: Some(facts.region.clone()),
        service_keys: keys,
        resource_tags: facts.resource_tags.as_ref().map(map),
        request_tags: facts.request_tags.as_ref().map(map),
        principal_tags: principal.tags.clone(),
        ..ConditionContext::default()
    }
}

/// A refusal in IAM's words; `narrowed` if the identity's own policies would have allowed it.
fn denied(
    service: Service,
    caller: &Caller,
    action: &IamAction,
    decision: IamDecision,
    narrowed: bool,
) -> AwsServiceError {
    let operation = action.action_string();
    let policy = if narrowed {
        "session policy"
    } else {
        "identity-based policy"
    };
    let because = match decision {
        IamDecision::ExplicitDeny if narrowed => format!("with an explicit deny in a {policy}"),
        IamDecision::ExplicitDeny => format!("with an explicit deny in an {policy}"),
        _ => format!("because no {policy} allows the {operation} action"),
    };
    let message = format!(
        "User: {} is not authorized to perform: {operation} on resource: {} {because}",
        caller.principal.arn, action.resource
    );
    access_denied(service, message)
}

/// A denial under the code and status that the service uses.
pub(crate) fn access_denied(service: Service, message: String) -> AwsServiceError {
    match service {
        Service::Sts | Service::Iam => refusal(403, "AccessDenied", message),
        Service::Ecr => refusal(400, "AccessDeniedException", message),
        Service::Sqs => refusal(403, "AccessDeniedException", message),
    }
}
