//! STS: identities and assumed roles.

use serde_json::{Value, json};

use crate::bed::{ACCOUNT, Bed, Keys, OTHER, REGION, code};

fn trust(principal: &str, external_id: Option<&str>) -> Value {
    let mut statement = json!({
        "Effect": "Allow", "Principal": { "AWS": principal }, "Action": "sts:AssumeRole",
    });
    if let Some(id) = external_id {
        statement["Condition"] = json!({ "StringEquals": { "sts:ExternalId": id } });
    }
    json!({ "Version": "2012-10-17", "Statement": [statement] })
}

async fn role(bed: &Bed, trust: Value) -> Keys {
    bed.principal_with(json!({
        "account": OTHER, "kind": "role", "name": "target", "policy": "admin", "trust": trust,
    }))
    .await
}

fn may_assume() -> Value {
    json!({ "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::444455556666:role/target",
    }]})
}

async fn assume(bed: &Bed, keys: &Keys, role: &str, external_id: Option<&str>) -> Result<Keys, aws_sdk_sts::Error> {
    let call = bed.sts(keys).assume_role().role_arn(role).role_session_name("test");
    let assumed = call.set_external_id(external_id.map(str::to_owned)).send().await?;
    let given = assumed.credentials.unwrap();
    Ok(Keys {
        arn: assumed.assumed_role_user.unwrap().arn,
        id: given.access_key_id,
        secret: given.secret_access_key,
        token: Some(given.session_token),
    })
}

#[tokio::test]
async fn callers_learn_who_they_are() {
    let bed = Bed::start().await;
    let user = bed.principal(ACCOUNT, "user", "me", Value::Null).await;
    let role = bed.principal(OTHER, "role", "us", Value::Null).await;
    let who = bed.sts(&user).get_caller_identity().send().await.unwrap();
    assert_eq!((who.account(), who.arn()), (Some(ACCOUNT), Some(user.arn.as_str())));
    let who = bed.sts(&role).get_caller_identity().send().await.unwrap();
    assert_eq!(who.arn(), Some("arn:aws:sts::444455556666:assumed-role/us/stand-in"));
}

#[tokio::test]
async fn an_assumed_role_works_in_its_own_account() {
    let bed = Bed::start().await;
    let caller = bed.principal(ACCOUNT, "role", "operator", may_assume()).await;
    // By the account's root, and by the role whose session asks.
    for principal in [
        "arn:aws:iam::111122223333:root",
        "arn:aws:iam::111122223333:role/operator",
    ] {
        let target = role(&bed, trust(principal, None)).await;
        let assumed = assume(&bed, &caller, &target.arn, None).await.unwrap();
        assert_eq!(assumed.arn, "arn:aws:sts::444455556666:assumed-role/target/test");
        let registry = bed.ecr(&assumed, REGION).describe_registry().send().await.unwrap();
        assert_eq!(registry.registry_id(), Some(OTHER));
    }
}

#[tokio::test]
async fn a_role_is_assumed_only_with_trust_external_id_and_right() {
    let bed = Bed::start().await;
    let caller = bed.principal(ACCOUNT, "role", "operator", may_assume()).await;
    let root = "arn:aws:iam::111122223333:root";
    let target = role(&bed, trust(root, Some("secret"))).await;
    let arn = target.arn.as_str();
    assert_eq!(code(assume(&bed, &caller, arn, None).await), "AccessDenied");
    assert_eq!(code(assume(&bed, &caller, arn, Some("wrong")).await), "AccessDenied");
    assume(&bed, &caller, arn, Some("secret")).await.unwrap();
    role(&bed, trust("arn:aws:iam::111122223333:role/someone", None)).await;
    assert_eq!(code(assume(&bed, &caller, arn, None).await), "AccessDenied");
    role(&bed, trust(root, None)).await;
    bed.principal(ACCOUNT, "role", "operator", Value::Null).await;
    assert_eq!(code(assume(&bed, &caller, arn, None).await), "AccessDenied");
    bed.principal(ACCOUNT, "role", "operator", may_assume()).await;
    let missing = "arn:aws:iam::444455556666:role/missing";
    assert_eq!(code(assume(&bed, &caller, missing, None).await), "AccessDenied");
}

#[tokio::test]
async fn a_session_policy_narrows_the_role_and_its_registry_tokens() {
    let bed = Bed::start().await;
    let caller = bed.principal(ACCOUNT, "role", "operator", may_assume()).await;
    let target = role(&bed, trust("arn:aws:iam::111122223333:root", None)).await;
    let read = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Resource": "*",
        "Action": ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
    }]});
    let call = bed
        .sts(&caller)
        .assume_role()
        .role_arn(&target.arn)
        .role_session_name("narrow");
    let assumed = call.policy(read.to_string()).send().await.unwrap();
    let given = assumed.credentials.unwrap();
    let narrow = Keys {
        arn: String::new(),
        id: given.access_key_id,
        secret: given.secret_access_key,
        token: Some(given.session_token),
    };
    let created = bed
        .ecr(&narrow, REGION)
        .create_repository()
        .repository_name("app")
        .send()
        .await;
    let (_, message) = crate::bed::refused(created);
    assert!(
        message.ends_with("because no session policy allows the ecr:CreateRepository action"),
        "{message}"
    );
    let ecr = bed.ecr(&target, REGION);
    ecr.create_repository().repository_name("app").send().await.unwrap();
    let (host, all) = crate::plane::login(&bed, &target, REGION).await;
    let (_, narrowed) = crate::plane::login(&bed, &narrow, REGION).await;
    // A client keeps the password it has first used with a registry.
    let (client, other) = (crate::plane::client(false), crate::plane::client(false));
    crate::plane::push(&client, &host, &all, "app:v1", b"content")
        .await
        .unwrap();
    assert_eq!(
        crate::plane::pull(&other, &host, &narrowed, "app:v1").await.unwrap(),
        b"content"
    );
    let denied = crate::plane::push(&other, &host, &narrowed, "app:v2", b"other")
        .await
        .unwrap_err();
    assert!(denied.contains("DENIED"), "{denied}");
}

#[tokio::test]
async fn a_source_identity_needs_a_right_on_both_sides() {
    let bed = Bed::start().await;
    let root = "arn:aws:iam::111122223333:root";
    let both = |actions: Value| {
        json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": { "AWS": root }, "Action": actions,
        }]})
    };
    let may = |actions: Value| json!({ "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": "*" }]});
    let named = json!(["sts:AssumeRole", "sts:SetSourceIdentity"]);
    for (caller, trust, allowed) in [
        (named.clone(), named.clone(), true),
        (json!("sts:AssumeRole"), named.clone(), false),
        (named.clone(), json!("sts:AssumeRole"), false),
    ] {
        let caller = bed.principal(ACCOUNT, "role", "operator", may(caller)).await;
        let target = role(&bed, both(trust)).await;
        let call = bed.sts(&caller).assume_role().role_arn(&target.arn);
        let call = call.role_session_name("test").source_identity("operator@x");
        assert_eq!(call.send().await.is_ok(), allowed);
    }
}

#[tokio::test]
async fn sessions_have_names_and_policies_within_limits() {
    let bed = Bed::start().await;
    let caller = bed.principal(ACCOUNT, "role", "operator", may_assume()).await;
    let target = role(&bed, trust("arn:aws:iam::111122223333:root", None)).await;
    let call = |name: &str| {
        bed.sts(&caller)
            .assume_role()
            .role_arn(&target.arn)
            .role_session_name(name)
    };
    for name in ["a", "a/b", "a b", &"a".repeat(65)] {
        assert_eq!(
            crate::bed::refused(call(name).send().await).0,
            "ValidationError",
            "{name}"
        );
    }
    assert!(call("team-a@web=0").send().await.is_ok());
    let long = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "ecr:BatchGetImage", "Resource": ["x".repeat(2_000)],
    }]});
    let refused = crate::bed::refused(call("ok").policy(long.to_string()).send().await);
    assert_eq!(refused.0, "ValidationError");
}
