//! The hook that is told of an approved digest.

use std::time::Duration;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::json;

use super::Run;
use crate::{
    api::promotion::ImageStatus,
    control::error::{Error, Result},
    promotion::{condition, patch},
};

/// How long the receiver may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The header that carries the signature, `t=<seconds>,v1=<hex>`: HMAC-SHA256 over `<seconds>.<body>`.
const SIGNATURE: &str = "ecr-operator-signature";

impl Run<'_> {
    pub(super) async fn publish(&mut self, image: &ImageStatus) -> Result<()> {
        let Some(to) = self.object.spec.publish_to.clone() else {
            self.status.published = Some(image.digest.clone());
            return Ok(());
        };
        let refused = |why: String| Error::Refused {
            what: format!("tell spec.publishTo of {}", image.name),
            why,
        };
        let settings = &self.ctx.world.promoting.settings;
        let address = condition::allowed(&to.url, &settings.allowed_addresses).map_err(refused)?;
        let key = settings.publish_key.clone().ok_or_else(|| {
            refused("this installation has no key to sign with; start the operator with --publish-key-file".into())
        })?;
        let place = self.place()?;
        let body = json!({
            "namespace": self.object.namespace(),
            "promotion": self.object.name_any(),
            "image": patch::by_digest(&place.runs().uri, &image.digest),
            "digest": image.digest,
            "tag": image.tag,
            "rollout": self.status.last_rollout,
        })
        .to_string();
        let at = Timestamp::now().as_second();
        let answer = self
            .ctx
            .world
            .promoting
            .http
            .post(address)
            .header("content-type", "application/json")
            .header(SIGNATURE, signature(&key, at, &body))
            .timeout(ANSWER)
            .body(body)
            .send()
            .await
            .map_err(|error| refused(error.without_url().to_string()))?;
        if !answer.status().is_success() {
            return Err(refused(format!("the receiver answered {}", answer.status().as_u16())));
        }
        self.status.published = Some(image.digest.clone());
        self.facts.targets = None;
        Ok(())
    }
}

/// The value of the signature's header.
fn signature(key: &[u8], at: i64, body: &str) -> String {
    use std::fmt::Write as _;
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    let mut text = format!("t={at},v1=");
    for byte in tag.as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Reads an answer of bounded length.
pub(super) async fn read(mut answer: reqwest::Response, most: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| error.without_url().to_string())? {
        if body.len() + chunk.len() > most {
            return Err("its answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_the_time_and_the_body() {
        // As `printf '1700000000.{}' | openssl dgst -sha256 -hmac secret` has it.
        let expected = "t=1700000000,v1=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163";
        let signed = signature(b"secret", 1_700_000_000, "{}");
        assert_eq!(signed, expected);
        assert_ne!(signed, signature(b"secret", 1_700_000_001, "{}"));
        assert_ne!(signed, signature(b"secret", 1_700_000_000, "{ }"));
        assert_ne!(signed, signature(b"other", 1_700_000_000, "{}"));
    }
}
