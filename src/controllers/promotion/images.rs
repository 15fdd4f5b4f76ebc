//! The images of the source repository.

use super::Run;
use crate::{
    api::names::{Digest, Tag},
    control::error::Result,
    promotion::facts::Image,
};

pub(super) struct Images(Vec<Image>);

impl Images {
    pub(super) fn images(&self) -> impl Iterator<Item = &Image> {
        self.0.iter()
    }

    pub(super) fn image(&self, digest: &Digest) -> Option<Image> {
        self.0.iter().find(|image| image.digest == *digest).cloned()
    }

    pub(super) fn by_tag(&self, tag: &Tag) -> Option<Image> {
        self.0.iter().find(|image| image.tags.contains(tag)).cloned()
    }
}

impl Run<'_> {
    pub(super) async fn images(&self) -> Result<Images> {
        let place = &self.place()?.source;
        Ok(Images(place.connection.ecr.every_image(&place.name).await?))
    }

    pub(super) async fn lacks(&self, _digest: &Digest) -> Result<Option<String>> {
        Ok(None)
    }

    pub(super) async fn look_at_gates(&mut self, image: &crate::api::promotion::ImageStatus) -> Result<()> {
        self.facts.gates = Some((image.digest.clone(), Vec::new()));
        Ok(())
    }

    pub(super) async fn look_at_regression(&mut self, image: &crate::api::promotion::ImageStatus) -> Result<()> {
        self.facts.regression = Some((image.digest.clone(), None));
        Ok(())
    }
}
