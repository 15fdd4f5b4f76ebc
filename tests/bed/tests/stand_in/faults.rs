//! Counting, delaying and disturbing calls.

use std::time::{Duration, Instant};

use aws_sdk_ecr::config::retry::RetryConfig;
use serde_json::{Value, json};

use crate::bed::{ACCOUNT, Bed, OTHER, REGION, code, refused};

async fn fault(bed: &Bed, rule: Value) -> String {
    bed.control("POST", "/faults", rule).await.unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn faults(bed: &Bed) -> Value {
    bed.control("GET", "/faults", Value::Null).await.unwrap()
}

/// Waits until a fault holds a call.
async fn until_held(bed: &Bed) {
    for _ in 0..200 {
        if faults(bed).await[0]["held"] == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    unreachable!("nothing was held");
}

#[tokio::test]
async fn calls_are_counted_with_what_came_of_them() {
    let bed = Bed::start().await;
    let (here, there) = (bed.admin(ACCOUNT).await, bed.admin(OTHER).await);
    let ecr = bed.ecr(&here, REGION);
    ecr.create_repository().repository_name("app").send().await.unwrap();
    ecr.create_repository().repository_name("app").send().await.unwrap_err();
    bed.ecr(&there, REGION).describe_registry().send().await.unwrap();
    bed.ecr(&here, "us-east-1").describe_registry().send().await.unwrap();
    bed.sts(&here).get_caller_identity().send().await.unwrap();
    let calls = bed.control("GET", "/calls", Value::Null).await.unwrap();
    assert_eq!(calls["total"], 5);
    let wanted = json!({ "CreateRepository": 2, "DescribeRegistry": 2, "sts:GetCallerIdentity": 1 });
    assert_eq!(calls["operations"], wanted);
    let first = json!({
        "seq": 1, "operation": "CreateRepository", "account": ACCOUNT, "region": REGION,
        "principal": "arn:aws:iam::111122223333:user/admin", "outcome": "ok", "carriedOut": true, "repository": "app",
        "images": [],
    });
    assert_eq!(calls["calls"][0], first);
    assert_eq!(calls["calls"][1]["outcome"], "RepositoryAlreadyExistsException");
    let route = format!("/calls?account={ACCOUNT}&region=us-east-1");
    assert_eq!(bed.control("GET", &route, Value::Null).await.unwrap()["total"], 1);
    bed.control("POST", "/calls/reset", json!({ "account": OTHER }))
        .await
        .unwrap();
    assert_eq!(bed.control("GET", "/calls", Value::Null).await.unwrap()["total"], 4);
    bed.control("POST", "/calls/reset", Value::Null).await.unwrap();
    assert_eq!(bed.control("GET", "/calls", Value::Null).await.unwrap()["total"], 0);
}

#[tokio::test]
async fn answers_are_delayed_on_request() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    bed.control("PUT", "/delay", json!({ "millis": 60 })).await.unwrap();
    let start = Instant::now();
    ecr.describe_registry().send().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn a_fault_strikes_its_operation_a_number_of_times() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    let rule = json!({ "operation": "DescribeRegistry", "code": "ThrottlingException", "times": 2 });
    fault(&bed, rule).await;
    ecr.describe_repositories().send().await.unwrap();
    for _ in 0..2 {
        let (code_of, message) = refused(ecr.describe_registry().send().await);
        assert_eq!(
            (code_of.as_str(), message.as_str()),
            ("ThrottlingException", "Rate exceeded")
        );
    }
    ecr.describe_registry().send().await.unwrap();
    let listed = faults(&bed).await;
    assert_eq!((&listed[0]["injected"], &listed[0]["held"]), (&json!(2), &json!(0)));
    bed.control("DELETE", "/faults", Value::Null).await.unwrap();
    assert_eq!(faults(&bed).await, json!([]));
    assert!(bed.control("DELETE", "/faults/fault-1", Value::Null).await.is_err());
    let empty = bed.control("POST", "/faults", json!({ "operation": "*" })).await;
    assert!(empty.unwrap_err().contains("latencyMillis"));
}

#[tokio::test]
async fn a_fault_takes_its_share_and_its_account_only() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    fault(
        &bed,
        json!({ "operation": "*", "account": ACCOUNT, "code": "ServerException", "status": 500, "share": 0.2 }),
    )
    .await;
    let mut failed = 0;
    for _ in 0..20 {
        failed += usize::from(ecr.describe_registry().send().await.is_err());
    }
    assert_eq!(failed, 4);
    let other = bed.ecr(&bed.admin(OTHER).await, REGION);
    for _ in 0..10 {
        other.describe_registry().send().await.unwrap();
    }
}

#[tokio::test]
async fn a_fault_after_the_call_loses_only_the_answer() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    let create = |name: &str| ecr.create_repository().repository_name(name).send();
    fault(
        &bed,
        json!({ "operation": "CreateRepository", "code": "ServerException", "status": 500, "times": 1 }),
    )
    .await;
    assert_eq!(code(create("before").await), "ServerException");
    create("before").await.unwrap();
    let after = json!({ "operation": "CreateRepository", "code": "ServerException", "when": "after", "times": 1 });
    fault(&bed, after).await;
    assert_eq!(code(create("after").await), "ServerException");
    assert_eq!(code(create("after").await), "RepositoryAlreadyExistsException");
}

#[tokio::test]
async fn a_slow_answer_is_still_an_answer() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    fault(&bed, json!({ "operation": "ecr:*", "latencyMillis": 80 })).await;
    let start = Instant::now();
    ecr.describe_registry().send().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn a_cut_connection_gives_no_answer() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    let create = |name: &str| ecr.create_repository().repository_name(name).send();
    fault(
        &bed,
        json!({ "operation": "CreateRepository", "disconnect": true, "times": 1 }),
    )
    .await;
    assert!(create("app").await.unwrap_err().as_service_error().is_none());
    assert!(
        ecr.describe_repositories()
            .send()
            .await
            .unwrap()
            .repositories()
            .is_empty()
    );
    let after = json!({ "operation": "CreateRepository", "disconnect": true, "when": "after", "times": 1 });
    fault(&bed, after.clone()).await;
    assert!(create("app").await.unwrap_err().as_service_error().is_none());
    assert_eq!(
        ecr.describe_repositories().send().await.unwrap().repositories().len(),
        1
    );
    let calls = bed.control("GET", "/calls", Value::Null).await.unwrap();
    assert_eq!(calls["calls"][2]["outcome"], "disconnected");
    // The client's own attempts hide one lost answer: what it reports is the second call's.
    fault(&bed, after).await;
    let patient = bed.ecr_with(&bed.admin(ACCOUNT).await, REGION, RetryConfig::standard());
    let outcome = patient.create_repository().repository_name("lost").send().await;
    assert_eq!(code(outcome), "RepositoryAlreadyExistsException");
}

#[tokio::test]
async fn a_held_call_waits_for_its_release() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    for (when, name, there) in [("before", "one", 0), ("after", "two", 2)] {
        let rule = json!({ "operation": "CreateRepository", "hold": true, "nth": 2, "when": when });
        let id = fault(&bed, rule).await;
        ecr.create_repository()
            .repository_name(format!("{name}-first"))
            .send()
            .await
            .unwrap();
        let held = tokio::spawn(ecr.create_repository().repository_name(name).send());
        until_held(&bed).await;
        assert!(!held.is_finished());
        let shown = ecr.describe_repositories().send().await.unwrap().repositories().len();
        assert_eq!(shown, 1 + there + usize::from(when == "after"), "{when}");
        bed.control("POST", &format!("/faults/{id}/release"), Value::Null)
            .await
            .unwrap();
        held.await.unwrap().unwrap();
        bed.control("DELETE", "/faults", Value::Null).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_held() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    fault(&bed, json!({ "operation": "DescribeRegistry", "hold": true })).await;
    let held = tokio::spawn(ecr.describe_registry().send());
    until_held(&bed).await;
    held.abort();
    for _ in 0..200 {
        if faults(&bed).await[0]["held"] == 0 {
            let calls = bed.control("GET", "/calls", Value::Null).await.unwrap();
            assert_eq!(calls["calls"][0]["outcome"], "abandoned");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    unreachable!("still held");
}
