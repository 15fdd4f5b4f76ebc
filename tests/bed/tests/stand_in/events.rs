//! Events on their queue.

use serde_json::{Value, json};

use crate::bed::{ACCOUNT, Bed, REGION};

/// Reads the queue, waiting up to two seconds, until it has given `count` events.
async fn events(sqs: &aws_sdk_sqs::Client, queue: &str, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    while events.len() < count {
        let read = sqs
            .receive_message()
            .queue_url(queue)
            .wait_time_seconds(2)
            .max_number_of_messages(10);
        let messages = read.send().await.unwrap().messages.unwrap_or_default();
        assert!(!messages.is_empty(), "only {events:?}");
        for message in messages {
            events.push(serde_json::from_str(message.body().unwrap()).unwrap());
            let receipt = message.receipt_handle().unwrap();
            sqs.delete_message()
                .queue_url(queue)
                .receipt_handle(receipt)
                .send()
                .await
                .unwrap();
        }
    }
    events
}

fn details<'event>(events: &'event [Value], kind: &str) -> Vec<&'event Value> {
    events
        .iter()
        .filter(|event| event["detail-type"] == kind)
        .map(|event| &event["detail"])
        .collect()
}

#[tokio::test]
async fn changes_of_images_and_settings_reach_the_queue() {
    let bed = Bed::start().await;
    let admin = bed.admin(ACCOUNT).await;
    let (ecr, sqs) = (bed.ecr(&admin, REGION), bed.sqs(&admin));
    let queue = sqs
        .create_queue()
        .queue_name("events")
        .send()
        .await
        .unwrap()
        .queue_url
        .unwrap();
    let wanted = json!({ "account": ACCOUNT, "region": REGION, "queueUrl": queue });
    bed.control("PUT", "/event-queue", wanted).await.unwrap();
    ecr.create_repository().repository_name("app").send().await.unwrap();
    let (_, digest) = crate::images::put(&ecr, "app", "v1").await;
    let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag("v1").build();
    ecr.start_image_scan()
        .repository_name("app")
        .image_id(id.clone())
        .send()
        .await
        .unwrap();
    // Reads and the steps of an upload tell nothing: CreateRepository, PutImage and its push, StartImageScan and its
    // end.
    let seen = events(&sqs, &queue, 5).await;
    for event in &seen {
        assert_eq!(
            (&event["source"], &event["account"]),
            (&json!("aws.ecr"), &json!(ACCOUNT))
        );
        assert_eq!((&event["region"], &event["version"]), (&json!(REGION), &json!("0")));
    }
    let push = json!({
        "result": "SUCCESS", "repository-name": "app", "image-digest": digest, "action-type": "PUSH",
        "image-tag": "v1",
    });
    assert_eq!(details(&seen, "ECR Image Action"), [&push]);
    let scan = json!({
        "scan-status": "COMPLETE", "repository-name": "app", "finding-severity-counts": {}, "image-digest": digest,
        "image-tags": ["v1"],
    });
    assert_eq!(details(&seen, "ECR Image Scan"), [&scan]);
    let calls = details(&seen, "AWS API Call via CloudTrail");
    let mut names: Vec<_> = calls.iter().map(|call| call["eventName"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["CreateRepository", "PutImage", "StartImageScan"]);
    let create = calls
        .iter()
        .find(|call| call["eventName"] == "CreateRepository")
        .unwrap();
    assert_eq!(create["requestParameters"]["repositoryName"], "app");
    assert_eq!(create["userIdentity"]["arn"], "arn:aws:iam::111122223333:user/admin");
    assert_eq!(create["eventSource"], "ecr.amazonaws.com");
    let archive = aws_sdk_ecr::types::TargetStorageClass::Archive;
    ecr.update_image_storage_class()
        .repository_name("app")
        .image_id(id.clone())
        .target_storage_class(archive)
        .send()
        .await
        .unwrap();
    let seen = events(&sqs, &queue, 2).await;
    let archived = details(&seen, "ECR Image Action")[0];
    assert_eq!(archived["action-type"], "UPDATE_STORAGE_CLASS");
    assert_eq!(
        (&archived["target-storage-class"], &archived["image-digest"]),
        (&json!("ARCHIVE"), &json!(digest))
    );
    assert_eq!(archived.get("image-tag"), None);
    ecr.batch_delete_image()
        .repository_name("app")
        .image_ids(id)
        .send()
        .await
        .unwrap();
    let seen = events(&sqs, &queue, 2).await;
    assert_eq!(details(&seen, "ECR Image Action")[0]["action-type"], "DELETE");
    // A failed call changes nothing.
    ecr.create_repository().repository_name("app").send().await.unwrap_err();
    let none = sqs
        .receive_message()
        .queue_url(&queue)
        .wait_time_seconds(1)
        .send()
        .await
        .unwrap();
    assert!(none.messages().is_empty());
}

#[tokio::test]
async fn receiving_waits_for_a_message_and_needs_the_right() {
    let bed = Bed::start().await;
    let sqs = bed.sqs(&bed.admin(ACCOUNT).await);
    let queue = sqs
        .create_queue()
        .queue_name("events")
        .send()
        .await
        .unwrap()
        .queue_url
        .unwrap();
    let waiting = tokio::spawn(sqs.receive_message().queue_url(&queue).wait_time_seconds(10).send());
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    sqs.send_message()
        .queue_url(&queue)
        .message_body("hello")
        .send()
        .await
        .unwrap();
    let start = std::time::Instant::now();
    assert_eq!(waiting.await.unwrap().unwrap().messages()[0].body(), Some("hello"));
    assert!(start.elapsed() < std::time::Duration::from_secs(3));
    let missing = sqs
        .receive_message()
        .queue_url(format!("{queue}-gone"))
        .send()
        .await
        .unwrap_err();
    assert!(missing.as_service_error().unwrap().is_queue_does_not_exist());
    let nobody = bed.principal(ACCOUNT, "user", "nobody", Value::Null).await;
    let denied = bed.sqs(&nobody).receive_message().queue_url(&queue).send().await;
    assert!(crate::bed::code(denied).contains("AccessDenied"));
    let calls = bed.control("GET", "/calls", Value::Null).await.unwrap();
    assert_eq!(calls["operations"]["sqs:ReceiveMessage"], 3);
}

#[tokio::test]
async fn whoever_may_delete_a_message_may_delete_several_at_once() {
    let bed = Bed::start().await;
    let queue = bed.sqs(&bed.admin(ACCOUNT).await).create_queue().queue_name("events");
    let queue = queue.send().await.unwrap().queue_url.unwrap();
    let rights = |action: &str| {
        json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": action, "Resource": format!("arn:aws:sqs:{REGION}:{ACCOUNT}:events") }] })
    };
    for (action, allowed) in [("sqs:DeleteMessage", true), ("sqs:DeleteMessageBatch", false)] {
        let user = bed.principal(ACCOUNT, "user", "deleter", rights(action)).await;
        let entry = aws_sdk_sqs::types::DeleteMessageBatchRequestEntry::builder()
            .id("1")
            .receipt_handle("x");
        let deletion = bed.sqs(&user).delete_message_batch().queue_url(&queue);
        let outcome = deletion.entries(entry.build().unwrap()).send().await;
        assert_eq!(outcome.is_ok(), allowed, "{action}");
    }
}
