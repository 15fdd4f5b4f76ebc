//! The stand-in through its clients: that the bed drives it as it means to.

use std::time::Instant;

use anyhow::{Context as _, Result};
use aws_sdk_ecr::error::ProvideErrorMetadata as _;

use super::*;

const ACCOUNT: &str = "111122223333";
const REGION: &str = "eu-west-1";

async fn create_repository(aws: &Aws, name: &str) -> Result<()> {
    let ecr = aws.ecr(REGION, &aws.admin(ACCOUNT).await?);
    let created = ecr.create_repository().repository_name(name).send().await;
    created
        .map(drop)
        .map_err(|error| aws_sdk_ecr::Error::from(error).into())
}

#[tokio::test]
async fn an_image_is_pushed_pulled_and_listed_by_its_digest() -> Result<()> {
    let aws = Aws::start(&Bed::new()?).await?;
    let admin = aws.admin(ACCOUNT).await?;
    create_repository(&aws, "team-a/app").await?;
    let digest = aws.push_image(ACCOUNT, REGION, "team-a/app", "v1", b"one").await?;
    assert_ne!(
        aws.push_image(ACCOUNT, REGION, "team-a/app", "v2", b"two").await?,
        digest
    );

    for name in ["v1", &digest] {
        let pulled = aws.pull_image_as(&admin, ACCOUNT, REGION, "team-a/app", name).await?;
        assert_eq!(
            pulled,
            Image {
                digest: digest.clone(),
                content: b"one".to_vec()
            }
        );
    }
    let ecr = aws.ecr(REGION, &admin);
    let images = ecr
        .describe_images()
        .repository_name("team-a/app")
        .send()
        .await
        .map_err(aws_sdk_ecr::Error::from)?;
    assert!(
        images
            .image_details()
            .iter()
            .any(|image| image.image_digest() == Some(&digest))
    );
    Ok(())
}

#[tokio::test]
async fn who_has_no_rights_is_refused() -> Result<()> {
    let aws = Aws::start(&Bed::new()?).await?;
    create_repository(&aws, "app").await?;
    let nobody = aws.user(ACCOUNT, "nobody", Policy::None).await?;
    let refused = aws.ecr(REGION, &nobody).describe_repositories().send().await;
    assert_eq!(
        refused.err().context("it has no rights")?.code(),
        Some("AccessDeniedException")
    );
    assert!(
        aws.push_image_as(&nobody, ACCOUNT, REGION, "app", "v1", b"one")
            .await
            .is_err()
    );

    let same = aws.user(ACCOUNT, "nobody", Policy::Admin).await?;
    assert_eq!(same.access_key_id, nobody.access_key_id);
    aws.ecr(REGION, &nobody)
        .describe_repositories()
        .send()
        .await
        .map_err(aws_sdk_ecr::Error::from)?;
    aws.expire(&nobody.access_key_id).await?;
    assert!(aws.ecr(REGION, &nobody).describe_repositories().send().await.is_err());
    Ok(())
}

#[tokio::test]
async fn calls_are_counted_by_registry() -> Result<()> {
    let aws = Aws::start(&Bed::new()?).await?;
    create_repository(&aws, "app").await?;
    let calls = aws.calls(ACCOUNT, REGION).await?;
    assert_eq!((calls.total, calls.of("CreateRepository")), (1, 1));
    assert_eq!(
        calls.calls.first().and_then(|call| call.repository.as_deref()),
        Some("app")
    );
    assert_eq!(aws.calls(ACCOUNT, "us-east-1").await?.total, 0);
    aws.reset_calls(ACCOUNT, REGION).await?;
    assert_eq!(aws.all_calls().await?.total, 0);
    Ok(())
}

#[tokio::test]
async fn faults_strike_where_and_as_often_as_they_say() -> Result<()> {
    let aws = Aws::start(&Bed::new()?).await?;
    let ecr = aws.ecr(REGION, &aws.admin(ACCOUNT).await?);
    let fault = Fault::throttling("DescribeRepositories")
        .registry(ACCOUNT, REGION)
        .times(1);
    let id = aws.inject(&fault).await?;
    let throttled = ecr
        .describe_repositories()
        .send()
        .await
        .err()
        .context("it is throttled")?;
    assert_eq!(throttled.code(), Some("ThrottlingException"));
    ecr.describe_repositories()
        .send()
        .await
        .map_err(aws_sdk_ecr::Error::from)?;
    assert_eq!(aws.fault(&id).await?.injected, 1);

    // Carried out, and the answer lost.
    let id = aws
        .inject(&Fault::new("CreateRepository", Effect::Disconnect).after().times(1))
        .await?;
    assert!(create_repository(&aws, "app").await.is_err());
    let listed = ecr
        .describe_repositories()
        .send()
        .await
        .map_err(aws_sdk_ecr::Error::from)?;
    assert_eq!(listed.repositories().len(), 1);
    aws.remove_fault(&id).await?;
    assert!(aws.fault(&id).await.is_err());
    Ok(())
}

#[tokio::test]
async fn deletions_are_remembered_whatever_is_reset_and_lost() -> Result<()> {
    let aws = Aws::start(&Bed::new()?).await?;
    let ecr = aws.ecr(REGION, &aws.admin(ACCOUNT).await?);
    assert!(ecr.delete_repository().repository_name("none").send().await.is_err());
    create_repository(&aws, "app").await?;
    aws.inject(&Fault::new("DeleteRepository", Effect::Disconnect).after())
        .await?;
    assert!(ecr.delete_repository().repository_name("app").send().await.is_err());
    aws.reset_all_calls().await?;
    let deletions = aws.deletions().await?;
    let outcomes = |name: &str| -> Vec<&str> {
        let of = deletions.iter().filter(|it| it.repository.as_deref() == Some(name));
        of.map(|it| it.outcome.as_str()).collect()
    };
    assert_eq!(outcomes("none"), ["RepositoryNotFoundException"]);
    assert_eq!(outcomes("app").first(), Some(&"ok"), "{deletions:?}");
    assert!(!outcomes("app")[1..].contains(&"ok"), "{deletions:?}");
    assert!(
        deletions
            .iter()
            .all(|it| it.account == ACCOUNT && it.principal.is_some())
    );
    Ok(())
}

#[tokio::test]
async fn a_held_call_goes_on_when_it_is_released() -> Result<()> {
    let aws = Aws::start(&Bed::new()?).await?;
    let ecr = aws.ecr(REGION, &aws.admin(ACCOUNT).await?);
    let id = aws.inject(&Fault::new("DescribeRepositories", Effect::Hold)).await?;
    let call = tokio::spawn(ecr.describe_repositories().send());
    aws.held(&id, Duration::from_secs(10)).await?;
    assert!(!call.is_finished());
    aws.release(&id).await?;
    call.await?.map_err(aws_sdk_ecr::Error::from)?;
    aws.remove_faults().await
}

#[tokio::test]
async fn a_delay_is_added_to_every_call() -> Result<()> {
    let aws = Aws::start(&Bed::new()?).await?;
    let ecr = aws.ecr(REGION, &aws.admin(ACCOUNT).await?);
    aws.set_delay(Duration::from_millis(300)).await?;
    let start = Instant::now();
    ecr.describe_repositories()
        .send()
        .await
        .map_err(aws_sdk_ecr::Error::from)?;
    assert!(start.elapsed() >= Duration::from_millis(300));
    Ok(())
}

#[tokio::test]
async fn lifecycle_policies_are_previewed_and_carried_out_on_demand() -> Result<()> {
    let aws = Aws::start(&Bed::new()?).await?;
    let ecr = aws.ecr(REGION, &aws.admin(ACCOUNT).await?);
    create_repository(&aws, "app").await?;
    let mut digests = Vec::new();
    for (tag, days) in [("v1", 9), ("v2", 8), ("v3", 7)] {
        let digest = aws.push_image(ACCOUNT, REGION, "app", tag, tag.as_bytes()).await?;
        aws.age_image(ACCOUNT, REGION, "app", &digest, ImageAge::pushed(days))
            .await?;
        digests.push(digest);
    }
    let text = r#"{"rules":[{"rulePriority":4,"selection":{"tagStatus":"any","countType":"sinceImagePushed","countUnit":"days","countNumber":10},"action":{"type":"expire"}}]}"#;
    let put = ecr.put_lifecycle_policy().repository_name("app");
    put.lifecycle_policy_text(text)
        .send()
        .await
        .map_err(aws_sdk_ecr::Error::from)?;

    aws.preview_takes(Duration::ZERO).await?;
    aws.fail_previews().await?;
    assert_eq!(preview(&ecr).await?, "FAILED");
    aws.complete_previews().await?;
    assert_eq!(preview(&ecr).await?, "COMPLETE");
    aws.expire_previews().await?;
    assert_eq!(preview_status(&ecr).await?, "EXPIRED");

    let none = aws.run_lifecycle(ACCOUNT, REGION, None, 0).await?;
    assert_eq!(none, []);
    let done = aws.run_lifecycle(ACCOUNT, REGION, Some("app"), 1).await?;
    let seen: Vec<_> = done.iter().map(|act| (&act.digest, act.action, act.rule)).collect();
    assert_eq!(seen, [(&digests[0], LifecycleAction::Expire, 4)]);
    let image = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag("v2").build();
    let delete = ecr.batch_delete_image().repository_name("app").image_ids(image);
    delete.send().await.map_err(aws_sdk_ecr::Error::from)?;

    let principal = aws.admin(ACCOUNT).await?.arn;
    let image_ids = vec![ImageId {
        image_digest: None,
        image_tag: Some("v2".to_owned()),
    }];
    let left = aws.departures(ACCOUNT, REGION).await?;
    let causes: Vec<_> = left
        .iter()
        .map(|departure| (&departure.digest, &departure.cause))
        .collect();
    assert_eq!(
        causes,
        [
            (&digests[0], &DepartureCause::Lifecycle { rule: 4 }),
            (&digests[1], &DepartureCause::BatchDelete { principal, image_ids })
        ]
    );
    assert_eq!(aws.departures(ACCOUNT, "us-east-1").await?, []);
    Ok(())
}

/// Starts a preview and waits for its end; gives how it ended.
async fn preview(ecr: &aws_sdk_ecr::Client) -> Result<String> {
    let start = ecr.start_lifecycle_policy_preview().repository_name("app");
    start.send().await.map_err(aws_sdk_ecr::Error::from)?;
    loop {
        let status = preview_status(ecr).await?;
        if status != "IN_PROGRESS" {
            return Ok(status);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn preview_status(ecr: &aws_sdk_ecr::Client) -> Result<String> {
    let get = ecr.get_lifecycle_policy_preview().repository_name("app");
    let seen = get.send().await.map_err(aws_sdk_ecr::Error::from)?;
    Ok(seen.status().context("a preview has a status")?.as_str().to_owned())
}
