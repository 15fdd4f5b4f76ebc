//! Repositories, their settings and tags.

use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageTagMutability, ImageTagMutabilityExclusionFilter,
    ImageTagMutabilityExclusionFilterType, Tag,
};

use crate::bed::{ACCOUNT, Bed, OTHER, REGION, code, refused};

fn filter(text: &str) -> ImageTagMutabilityExclusionFilter {
    let kind = ImageTagMutabilityExclusionFilterType::Wildcard;
    ImageTagMutabilityExclusionFilter::builder()
        .filter_type(kind)
        .filter(text)
        .build()
        .unwrap()
}

fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build().unwrap()
}

#[tokio::test]
async fn a_repository_shows_its_account_and_region_and_the_defaults() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    let made = ecr
        .create_repository()
        .repository_name("team/app")
        .send()
        .await
        .unwrap()
        .repository
        .unwrap();
    assert_eq!(
        made.repository_arn(),
        Some("arn:aws:ecr:eu-west-1:111122223333:repository/team/app")
    );
    assert_eq!(made.registry_id(), Some(ACCOUNT));
    assert_eq!(
        made.repository_uri(),
        Some("111122223333.dkr.ecr.eu-west-1.amazonaws.com/team/app")
    );
    assert_eq!(made.image_tag_mutability(), Some(&ImageTagMutability::Mutable));
    assert!(!made.image_scanning_configuration().unwrap().scan_on_push());
    assert_eq!(
        made.encryption_configuration().unwrap().encryption_type(),
        &EncryptionType::Aes256
    );
    assert_eq!(made.encryption_configuration().unwrap().kms_key(), None);
    let read = ecr
        .describe_repositories()
        .repository_names("team/app")
        .send()
        .await
        .unwrap();
    assert_eq!(read.repositories(), [made]);
}

#[tokio::test]
async fn each_account_and_region_has_its_own_repositories() {
    let bed = Bed::start().await;
    let (here, there) = (bed.admin(ACCOUNT).await, bed.admin(OTHER).await);
    bed.ecr(&here, REGION)
        .create_repository()
        .repository_name("app")
        .send()
        .await
        .unwrap();
    for client in [bed.ecr(&here, "us-east-1"), bed.ecr(&there, REGION)] {
        assert!(
            client
                .describe_repositories()
                .send()
                .await
                .unwrap()
                .repositories()
                .is_empty()
        );
        client.create_repository().repository_name("app").send().await.unwrap();
    }
    let foreign = bed
        .ecr(&there, REGION)
        .describe_repositories()
        .registry_id(ACCOUNT)
        .send()
        .await;
    assert_eq!(code(foreign), "AccessDeniedException");
    let own = bed
        .ecr(&there, REGION)
        .describe_repositories()
        .registry_id(OTHER)
        .send()
        .await;
    assert_eq!(own.unwrap().repositories().len(), 1);
}

#[tokio::test]
async fn names_follow_the_grammar() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    for name in ["ab", "a/b", "a.b_c__d---e/f", "0app"] {
        ecr.create_repository().repository_name(name).send().await.unwrap();
    }
    for name in ["a", "A/b", "a//b", "/ab", "ab/", "a..b", "a___b", "-ab", "ab-", "a._b"] {
        let outcome = ecr.create_repository().repository_name(name).send().await;
        assert_eq!(code(outcome), "InvalidParameterException", "{name}");
    }
    let again = ecr.create_repository().repository_name("ab").send().await;
    assert_eq!(code(again), "RepositoryAlreadyExistsException");
}

#[tokio::test]
async fn one_missing_name_fails_a_description() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    ecr.create_repository().repository_name("app").send().await.unwrap();
    let outcome = ecr
        .describe_repositories()
        .repository_names("app")
        .repository_names("gone")
        .send()
        .await;
    let (code_of, message) = refused(outcome);
    assert_eq!(code_of, "RepositoryNotFoundException");
    assert_eq!(
        message,
        "The repository with name 'gone' does not exist in the registry with id '111122223333'"
    );
    let paged = ecr
        .describe_repositories()
        .repository_names("app")
        .max_results(5)
        .send()
        .await;
    assert_eq!(code(paged), "InvalidParameterException");
    let many = (0..101).map(|index| format!("app{index}")).collect();
    let many = ecr
        .describe_repositories()
        .set_repository_names(Some(many))
        .send()
        .await;
    assert_eq!(code(many), "InvalidParameterException");
    assert_eq!(
        code(ecr.describe_repositories().max_results(1001).send().await),
        "InvalidParameterException"
    );
    // The same wording where the service itself looks the repository up.
    let (_, message) = refused(ecr.get_lifecycle_policy().repository_name("gone").send().await);
    assert!(message.ends_with("in the registry with id '111122223333'"), "{message}");
}

#[tokio::test]
async fn listing_pages_through_everything_once() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    for index in 0..7 {
        ecr.create_repository()
            .repository_name(format!("app{index}"))
            .send()
            .await
            .unwrap();
    }
    let mut pages = ecr.describe_repositories().into_paginator().page_size(3).send();
    let (mut names, mut sizes) = (Vec::new(), Vec::new());
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        sizes.push(page.repositories().len());
        names.extend(
            page.repositories()
                .iter()
                .map(|found| found.repository_name().unwrap().to_owned()),
        );
    }
    assert_eq!(sizes, [3, 3, 1]);
    assert_eq!(names, (0..7).map(|index| format!("app{index}")).collect::<Vec<_>>());
    let outcome = ecr.describe_repositories().next_token("nonsense").send().await;
    assert_eq!(code(outcome), "InvalidParameterException");
}

#[tokio::test]
async fn mutability_takes_exclusions_only_where_they_belong() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    let made = ecr
        .create_repository()
        .repository_name("app")
        .image_tag_mutability(ImageTagMutability::ImmutableWithExclusion)
        .image_tag_mutability_exclusion_filters(filter("dev-*"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        made.repository.unwrap().image_tag_mutability_exclusion_filters(),
        [filter("dev-*")]
    );
    let put = |mutability: ImageTagMutability, filters: Vec<_>| {
        let filters = (!filters.is_empty()).then_some(filters);
        ecr.put_image_tag_mutability()
            .repository_name("app")
            .image_tag_mutability(mutability)
            .set_image_tag_mutability_exclusion_filters(filters)
            .send()
    };
    put(
        ImageTagMutability::MutableWithExclusion,
        vec![filter("v*"), filter("release")],
    )
    .await
    .unwrap();
    let read = ecr
        .describe_repositories()
        .repository_names("app")
        .send()
        .await
        .unwrap();
    assert_eq!(
        read.repositories()[0].image_tag_mutability(),
        Some(&ImageTagMutability::MutableWithExclusion)
    );
    assert_eq!(
        read.repositories()[0].image_tag_mutability_exclusion_filters(),
        [filter("v*"), filter("release")]
    );
    for (mutability, count) in [
        (ImageTagMutability::Mutable, 1),
        (ImageTagMutability::Immutable, 1),
        (ImageTagMutability::MutableWithExclusion, 0),
        (ImageTagMutability::ImmutableWithExclusion, 6),
    ] {
        let outcome = put(mutability, vec![filter("x"); count]).await;
        assert_eq!(code(outcome), "InvalidParameterException");
    }
    put(ImageTagMutability::Immutable, Vec::new()).await.unwrap();
    let read = ecr.describe_repositories().send().await.unwrap();
    assert!(
        read.repositories()[0]
            .image_tag_mutability_exclusion_filters()
            .is_empty()
    );
}

#[tokio::test]
async fn keys_come_back_as_arns() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    let own = "arn:aws:kms:eu-west-1:999999999999:key/11111111-2222-3333-4444-555555555555";
    let id = "66666666-2222-3333-4444-555555555555";
    let cases = [
        ("a1", Some(own)),
        ("a2", Some(id)),
        ("a3", None),
        ("a4", Some("alias/mine")),
    ];
    let mut keys = Vec::new();
    for (name, key) in cases {
        let encryption = EncryptionConfiguration::builder()
            .encryption_type(EncryptionType::Kms)
            .set_kms_key(key.map(str::to_owned))
            .build()
            .unwrap();
        let made = ecr
            .create_repository()
            .repository_name(name)
            .encryption_configuration(encryption)
            .send()
            .await;
        let made = made.unwrap().repository.unwrap();
        keys.push(made.encryption_configuration().unwrap().kms_key().unwrap().to_owned());
    }
    assert_eq!(keys[0], own);
    assert_eq!(keys[1], format!("arn:aws:kms:eu-west-1:111122223333:key/{id}"));
    for key in &keys[2..] {
        assert!(key.starts_with("arn:aws:kms:eu-west-1:111122223333:key/"), "{key}");
    }
    assert_ne!(keys[2], keys[3]);
}

#[tokio::test]
async fn tags_are_added_and_removed_by_arn_within_their_limits() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    let made = ecr
        .create_repository()
        .repository_name("app")
        .tags(tag("team", "a"))
        .send()
        .await
        .unwrap();
    let arn = made.repository.unwrap().repository_arn.unwrap();
    ecr.tag_resource()
        .resource_arn(&arn)
        .tags(tag("stage", "prod"))
        .send()
        .await
        .unwrap();
    ecr.untag_resource()
        .resource_arn(&arn)
        .tag_keys("team")
        .send()
        .await
        .unwrap();
    let tags = ecr.list_tags_for_resource().resource_arn(&arn).send().await.unwrap();
    assert_eq!(tags.tags(), [tag("stage", "prod")]);
    let reserved = ecr
        .tag_resource()
        .resource_arn(&arn)
        .tags(tag("aws:mine", "x"))
        .send()
        .await;
    assert_eq!(code(reserved), "InvalidTagParameterException");
    let many = (0..50).map(|index| tag(&format!("key{index}"), "x")).collect();
    let many = ecr.tag_resource().resource_arn(&arn).set_tags(Some(many)).send().await;
    assert_eq!(code(many), "TooManyTagsException");
    let elsewhere = arn.replace("eu-west-1", "us-east-1");
    assert_eq!(
        code(ecr.list_tags_for_resource().resource_arn(elsewhere).send().await),
        "InvalidParameterException"
    );
    let foreign = arn.replace(ACCOUNT, OTHER);
    assert_eq!(
        code(ecr.list_tags_for_resource().resource_arn(foreign).send().await),
        "AccessDeniedException"
    );
}

#[tokio::test]
async fn scan_on_push_can_be_turned_off_though_the_sdk_sends_no_false() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    ecr.create_repository()
        .repository_name("team/scan")
        .send()
        .await
        .unwrap();
    for wanted in [true, false] {
        let scanning = aws_sdk_ecr::types::ImageScanningConfiguration::builder()
            .scan_on_push(wanted)
            .build();
        let put = ecr
            .put_image_scanning_configuration()
            .repository_name("team/scan")
            .image_scanning_configuration(scanning)
            .send()
            .await
            .unwrap();
        assert_eq!(put.image_scanning_configuration().unwrap().scan_on_push(), wanted);
    }
}
