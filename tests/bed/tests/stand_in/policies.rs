//! Repository policies.

use serde_json::{Value, json};

use crate::bed::{Bed, code, refused};

fn policy(statement: &Value) -> String {
    json!({ "Statement": statement, "Version": "2012-10-17" }).to_string()
}

#[tokio::test]
async fn a_policy_comes_back_reordered_and_laid_out() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    ecr.create_repository().repository_name("app").send().await.unwrap();
    let none = ecr.get_repository_policy().repository_name("app").send().await;
    assert_eq!(code(none), "RepositoryPolicyNotFoundException");
    let text = policy(&json!([{
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        "Principal": { "AWS": ["444455556666"] },
        "Effect": "Allow",
        "Sid": "Pull",
    }]));
    ecr.set_repository_policy()
        .repository_name("app")
        .policy_text(&text)
        .send()
        .await
        .unwrap();
    let read = ecr.get_repository_policy().repository_name("app").send().await.unwrap();
    let expected = r#"{
  "Version" : "2012-10-17",
  "Statement" : [ {
    "Sid" : "Pull",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::444455556666:root"
    },
    "Action" : [ "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer" ]
  } ]
}"#;
    assert_eq!(read.policy_text(), Some(expected));
    let deleted = ecr
        .delete_repository_policy()
        .repository_name("app")
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.policy_text(), Some(expected));
}

#[tokio::test]
async fn what_is_no_policy_is_refused() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    ecr.create_repository().repository_name("app").send().await.unwrap();
    let no_effect = json!([{ "Principal": "*", "Action": "ecr:*" }]);
    let bad_effect = json!([{ "Effect": "Maybe", "Principal": "*", "Action": "ecr:*" }]);
    let no_principal = json!([{ "Effect": "Allow", "Action": "ecr:*" }]);
    let no_action = json!([{ "Effect": "Allow", "Principal": "*" }]);
    let half_an_arn = json!([{ "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam" }, "Action": "ecr:*" }]);
    let texts = ["not JSON", "[]", "{}", r#"{"Statement": []}"#]
        .map(str::to_owned)
        .into_iter();
    let statements = [no_effect, bad_effect, no_principal, no_action, half_an_arn];
    for text in texts.chain(statements.iter().map(policy)) {
        let outcome = ecr
            .set_repository_policy()
            .repository_name("app")
            .policy_text(&text)
            .send()
            .await;
        let (code_of, message) = refused(outcome);
        assert_eq!(code_of, "InvalidParameterException", "{text}");
        assert_eq!(
            message,
            "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'"
        );
    }
}

#[tokio::test]
async fn a_principal_of_an_unknown_account_is_refused() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    ecr.create_repository().repository_name("app").send().await.unwrap();
    let role = json!({ "AWS": "arn:aws:iam::999999999999:role/ci" });
    let text = policy(&json!([{ "Effect": "Allow", "Principal": role, "Action": "ecr:*" }]));
    let set = || {
        ecr.set_repository_policy()
            .repository_name("app")
            .policy_text(&text)
            .send()
    };
    set().await.unwrap();
    bed.control("POST", "/principal-unknown", json!({ "account": "999999999999" }))
        .await
        .unwrap();
    assert_eq!(code(set().await), "InvalidParameterException");
    let known = json!({ "account": "999999999999", "unknown": false });
    bed.control("POST", "/principal-unknown", known).await.unwrap();
    set().await.unwrap();
}
