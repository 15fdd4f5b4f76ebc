//! A repository to copy from or to, and what is put into it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Result;
use bed::{Effect, Fault, Policy, Principal};
use serde_json::{Value, json};

use crate::support::Stage;

pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry with one repository, of a scenario's own.
#[derive(Clone)]
pub(super) struct Shelf {
    pub(super) stage: &'static Stage,
    pub(super) account: String,
    pub(super) region: &'static str,
    pub(super) repository: String,
}

impl Shelf {
    /// In an account of its own.
    pub(super) async fn new(stage: &'static Stage, region: &'static str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let account = format!("3000000{:05}", NEXT.fetch_add(1, Ordering::Relaxed));
        let new = Self {
            stage,
            account,
            region,
            repository: "team/app".to_owned(),
        };
        new.create().await?;
        Ok(new)
    }

    /// Another repository of the same registry.
    pub(super) async fn beside(&self, repository: &str) -> Result<Self> {
        let new = Self {
            repository: repository.to_owned(),
            ..self.clone()
        };
        new.create().await?;
        Ok(new)
    }

    async fn create(&self) -> Result<()> {
        self.ecr()
            .await?
            .create_repository()
            .repository_name(&self.repository)
            .send()
            .await?;
        Ok(())
    }

    pub(super) async fn ecr(&self) -> Result<aws_sdk_ecr::Client> {
        Ok(self.stage.aws.ecr(self.region, &self.admin().await?))
    }

    pub(super) async fn admin(&self) -> Result<Principal> {
        self.stage.aws.admin(&self.account).await
    }

    /// As ECR would call it.
    pub(super) fn uri(&self, rest: &str) -> String {
        format!(
            "{}.dkr.ecr.{}.amazonaws.com/{}{rest}",
            self.account, self.region, self.repository
        )
    }

    pub(super) async fn push(&self, tag: &str, content: &[u8]) -> Result<String> {
        self.stage
            .aws
            .push_image(&self.account, self.region, &self.repository, tag, content)
            .await
    }

    /// Pushes an image of these layers, by its digest alone or under a tag; `more` are further members of its manifest.
    pub(super) async fn push_image(&self, tag: Option<&str>, layers: &[&[u8]], more: &Value) -> Result<Descriptor> {
        let (aws, mut descriptors) = (&self.stage.aws, Vec::new());
        for content in [&b"{}"[..]].iter().chain(layers) {
            let digest = aws
                .push_blob(&self.account, self.region, &self.repository, content)
                .await?;
            descriptors
                .push(json!({ "mediaType": "application/octet-stream", "digest": digest, "size": content.len() }));
        }
        let config = descriptors.remove(0);
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": descriptors });
        for (name, value) in more.as_object().into_iter().flatten() {
            manifest[name] = value.clone();
        }
        self.push_manifest(tag, &manifest).await
    }

    pub(super) async fn push_manifest(&self, tag: Option<&str>, manifest: &Value) -> Result<Descriptor> {
        let digest = self
            .stage
            .aws
            .push_manifest(&self.account, self.region, &self.repository, tag, manifest)
            .await?;
        Ok(Descriptor {
            media_type: manifest["mediaType"].as_str().unwrap_or_default().to_owned(),
            digest,
            size: manifest.to_string().len(),
        })
    }

    pub(super) async fn whole(&self, reference: &str) -> Result<BTreeMap<String, usize>> {
        self.stage
            .aws
            .pull_whole(&self.account, self.region, &self.repository, reference)
            .await
    }

    /// Where the tag is.
    pub(super) async fn tag(&self, tag: &str) -> Result<Option<String>> {
        let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag(tag).build();
        let answer = self
            .ecr()
            .await?
            .describe_images()
            .repository_name(&self.repository)
            .image_ids(id)
            .send()
            .await;
        match answer.map_err(aws_sdk_ecr::Error::from) {
            Ok(answer) => Ok(answer.image_details()[0].image_digest().map(str::to_owned)),
            Err(aws_sdk_ecr::Error::ImageNotFoundException(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// How many images there are, with and without tags.
    pub(super) async fn images(&self) -> Result<usize> {
        let answer = self
            .ecr()
            .await?
            .describe_images()
            .repository_name(&self.repository)
            .send()
            .await?;
        Ok(answer.image_details().len())
    }

    /// Makes a role that may do everything here and that another account may assume.
    pub(super) async fn open_to(&self, account: &str) -> Result<String> {
        let trust = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Principal": { "AWS": account }, "Action": "sts:AssumeRole" },
        ]});
        self.stage
            .aws
            .role(&self.account, "trusting", Policy::Admin, trust)
            .await?;
        Ok(format!("arn:aws:iam::{}:role/trusting", self.account))
    }

    pub(super) async fn requests(&self, operation: &str) -> Result<u64> {
        Ok(self
            .stage
            .aws
            .calls(&self.account, self.region)
            .await?
            .on_plane(operation))
    }

    pub(super) async fn fault(
        &self,
        operation: &str,
        effect: Effect,
        narrow: impl FnOnce(Fault) -> Fault,
    ) -> Result<String> {
        let fault = Fault::new(operation, effect).registry(&self.account, self.region);
        self.stage.aws.inject(&narrow(fault)).await
    }
}

/// What an index or a subject says of a manifest.
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: usize,
}

impl Descriptor {
    pub(super) fn json(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size })
    }
}
