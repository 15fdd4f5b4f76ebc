//! Images by the names that people have for them. Which digest is meant is found in the promotion's status, so that
//! going back to an image works while the registry does not.

use std::collections::BTreeMap;

use crate::api::{
    names::Digest,
    promotion::{ImagePromotionStatus, ImageStatus},
};

/// How many hexadecimal digits stand for a digest at least.
const FEWEST_DIGITS: usize = 6;

/// The images that a promotion knows: digest and name.
pub(super) fn known(status: &ImagePromotionStatus) -> BTreeMap<Digest, String> {
    let rollout = status.rollout.iter().map(|rollout| &rollout.image);
    let history = status.history.iter().map(|entry| &entry.image);
    let named = |image: &ImageStatus| (image.digest.clone(), image.name.clone());
    let mut known: BTreeMap<_, _> = status
        .rejected
        .iter()
        .map(|rejection| (rejection.digest.clone(), rejection.name.clone()))
        .collect();
    known.extend(history.rev().chain(rollout).map(named));
    let standing = [
        &status.previous,
        &status.last_good,
        &status.current,
        &status.requested,
        &status.candidate,
    ];
    known.extend(standing.into_iter().flatten().map(named));
    known
}

/// The digest that is meant by a digest, its first digits, or the name of an image in the status.
pub(super) fn resolve(text: &str, status: &ImagePromotionStatus) -> Result<Digest, String> {
    if let Ok(digest) = text.parse() {
        return Ok(digest);
    }
    let known = known(status);
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_start = digits.len() >= FEWEST_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let begins = |digest: &Digest| is_start && digest.as_str().trim_start_matches("sha256:").starts_with(digits);
    let meant: Vec<_> = known
        .iter()
        .filter(|(digest, name)| *name == text || begins(digest))
        .collect();
    match meant.as_slice() {
        [(digest, _)] => Ok((*digest).clone()),
        [] => Err(format!(
            "{text:?} is neither a digest nor an image of this promotion's status; name the image by its digest, \
             sha256:..., or as kubectl ecr history shows it"
        )),
        several => {
            let digests: Vec<_> = several.iter().map(|(digest, _)| digest.as_str()).collect();
            Err(format!(
                "{text:?} could be several images; name one of {}",
                digests.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(letter: char) -> String {
        format!("sha256:{}", letter.to_string().repeat(64))
    }

    fn status() -> ImagePromotionStatus {
        let image = |name: &str, letter| json!({ "name": name, "digest": digest(letter) });
        let entry = |id: u64, image: serde_json::Value| {
            json!({ "id": id, "kind": "Promotion", "image": image, "startedAt": "2026-11-24T10:00:00Z",
                "finishedAt": "2026-11-24T10:05:00Z", "outcome": "Succeeded" })
        };
        serde_json::from_value(json!({
            "conditions": [],
            "current": image("v2", 'b'),
            "history": [entry(3, image("v2", 'b')), entry(2, image("live", 'a')), entry(1, image("live", 'c'))],
        }))
        .unwrap()
    }

    #[test]
    fn an_image_is_meant_by_its_digest_its_first_digits_or_its_name() {
        let meant = |text: &str| resolve(text, &status()).map(String::from);
        assert_eq!(meant("v2"), Ok(digest('b')));
        assert_eq!(meant("bbbbbb"), Ok(digest('b')));
        assert_eq!(meant("sha256:aaaaaaaaaa"), Ok(digest('a')));
        assert_eq!(meant(&digest('f')), Ok(digest('f')), "whatever the status knows");
    }

    #[test]
    fn what_is_unknown_or_could_be_several_is_refused() {
        for (text, sentence) in [
            ("live", "could be several images"),
            ("v3", "neither a digest nor an image"),
            ("bbbbb", "neither a digest nor an image"),
            ("", "neither a digest nor an image"),
            ("sha256:", "neither a digest nor an image"),
        ] {
            let error = resolve(text, &status()).unwrap_err();
            assert!(error.contains(sentence), "{text}: {error}");
        }
    }
}
