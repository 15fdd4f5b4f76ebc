//! What stands in the Secret: a Docker configuration with the tokens, and what is known of each in an annotation beside it.
//! Both are written in one step, so that one never speaks of the other's past. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::aws::pull::Auth;

/// The key of the configuration in the Secret.
pub(crate) const KEY: &str = ".dockerconfigjson";

/// How far a clock may be set back before a token counts as one of the future, which nobody can say anything about.
const SET_BACK: SignedDuration = SignedDuration::from_secs(60);

/// The least time between two renewals of a token.
const LEAST: SignedDuration = SignedDuration::from_secs(5);

/// The same where the token had expired, by our clock, before it came.
const LEAST_OF_EXPIRED: SignedDuration = SignedDuration::from_secs(60);

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub registry: String,
    pub host: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// What it was asked for with.
    pub scope: String,
    /// Tells the token from any other.
    pub digest: String,
}

/// A token with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub entry: Entry,
    pub auth: Auth,
}

/// A Docker configuration.
#[derive(Serialize, Deserialize)]
struct Config {
    auths: BTreeMap<String, Credentials>,
}

#[derive(Serialize, Deserialize)]
struct Credentials {
    auth: String,
}

impl Entry {
    /// When the token is to be renewed: at half of its life at the latest, spread over a fifth before it by `seed`.
    pub(crate) fn renew_at(&self, seed: &str) -> Timestamp {
        let life = self.expires_at.duration_since(self.issued_at);
        let hash: [u8; 32] = Sha256::digest(format!("{seed}/{}/{}", self.registry, self.issued_at)).into();
        let share = 0.4 + 0.1 * f64::from(hash[0]) / 256.0;
        let wait = match life.is_positive() {
            true => life.mul_f64(share).max(LEAST),
            false => LEAST_OF_EXPIRED,
        };
        self.issued_at.checked_add(wait).unwrap_or(self.issued_at)
    }

    /// Whether it is to be renewed. A token from the future says that the clock was set back, and how long it lasts is not
    /// known any more.
    pub(crate) fn is_due(&self, seed: &str, now: Timestamp) -> bool {
        now >= self.renew_at(seed) || self.issued_at.duration_since(now) > SET_BACK
    }

    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }
}

/// Tells a token from any other without giving it away: it has far too many bits to be guessed.
pub(crate) fn digest(auth: &Auth) -> String {
    crate::digest::short(auth.reveal())
}

/// The configuration of these entries.
pub(crate) fn config(entries: &[Known]) -> String {
    let auths = entries.iter().map(|known| {
        let auth = known.auth.reveal().to_owned();
        (known.entry.host.clone(), Credentials { auth })
    });
    let config = Config { auths: auths.collect() };
    // Maps of strings always serialize.
    serde_json::to_string(&config).unwrap_or_default()
}

/// The annotation of these entries.
pub(crate) fn annotation(entries: &[Known]) -> String {
    let entries: Vec<&Entry> = entries.iter().map(|known| &known.entry).collect();
    // As above.
    serde_json::to_string(&entries).unwrap_or_default()
}

/// The entries of which token and annotation belong together, and whether there is nothing else. What somebody edited is
/// left out, and so made anew.
pub(crate) fn read(annotation: Option<&str>, config: Option<&[u8]>) -> (Vec<Known>, bool) {
    let told: Vec<Entry> = annotation
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let mut auths = config
        .and_then(|bytes| serde_json::from_slice::<Config>(bytes).ok())
        .map(|config| config.auths)
        .unwrap_or_default();
    let mut entries = Vec::new();
    let mut intact = true;
    for entry in told {
        match auths.remove(&entry.host).map(|credentials| Auth::new(credentials.auth)) {
            Some(auth) if digest(&auth) == entry.digest => entries.push(Known { entry, auth }),
            _ => intact = false,
        }
    }
    let whole = config.is_some_and(|bytes| bytes == self::config(&entries).as_bytes());
    (entries, intact && whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn known(registry: &str, host: &str, auth: &str) -> Known {
        let auth = Auth::new(auth);
        Known {
            entry: Entry {
                registry: registry.into(),
                host: host.into(),
                issued_at: at(0),
                expires_at: at(3_600),
                scope: "scope".into(),
                digest: digest(&auth),
            },
            auth,
        }
    }

    fn both() -> [Known; 2] {
        [
            known("a", "a.example", "QVdTOmE="),
            known("b", "b.example:1", "QVdTOmI="),
        ]
    }

    #[test]
    fn what_was_written_is_read_back() {
        let entries = both();
        let (config, annotation) = (config(&entries), annotation(&entries));
        assert_eq!(
            config,
            r#"{"auths":{"a.example":{"auth":"QVdTOmE="},"b.example:1":{"auth":"QVdTOmI="}}}"#
        );
        assert_eq!(
            read(Some(&annotation), Some(config.as_bytes())),
            (entries.to_vec(), true)
        );
    }

    #[test]
    fn the_annotation_does_not_give_tokens_away() {
        let annotation = annotation(&both());
        assert!(
            !annotation.contains("QVdTOmE") && annotation.contains("a.example"),
            "{annotation}"
        );
    }

    #[test]
    fn what_somebody_edited_is_made_anew_and_the_rest_kept() {
        let entries = both();
        let annotation = annotation(&entries);
        let edited = config(&[entries[0].clone(), known("b", "b.example:1", "b3RoZXI=")]);
        assert_eq!(
            read(Some(&annotation), Some(edited.as_bytes())),
            (vec![entries[0].clone()], false)
        );
        let more =
            r#"{"auths":{"a.example":{"auth":"QVdTOmE="},"b.example:1":{"auth":"QVdTOmI="},"evil":{"auth":"eA=="}}}"#;
        assert_eq!(
            read(Some(&annotation), Some(more.as_bytes())),
            (entries.to_vec(), false)
        );
        for broken in [None, Some(&b"{}"[..]), Some(b"nonsense"), Some(b"[]"), Some(b"\xff")] {
            assert_eq!(read(Some(&annotation), broken), (Vec::new(), false));
        }
        for broken in [None, Some("nonsense"), Some("[{}]")] {
            assert_eq!(read(broken, Some(config(&entries).as_bytes())), (Vec::new(), false));
        }
    }

    #[test]
    fn a_token_is_renewed_at_half_its_life_at_the_latest_and_not_all_at_once() {
        let entry = known("a", "h", "x").entry;
        let waits: Vec<i64> = (0..200)
            .map(|n| entry.renew_at(&n.to_string()).duration_since(at(0)).as_secs())
            .collect();
        assert!(waits.iter().all(|wait| (1_440..=1_800).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait < 1_500) && waits.iter().any(|wait| *wait > 1_740));
        assert!(!entry.is_due("x", at(1_000)) && entry.is_due("x", at(1_800)));
    }

    #[test]
    fn a_clock_that_was_set_back_or_is_ahead_neither_keeps_a_token_nor_asks_without_end() {
        let entry = known("a", "h", "x").entry;
        assert!(!entry.is_due("x", at(-30)) && entry.is_due("x", at(-300)));
        let of_the_past = Entry {
            expires_at: at(-7_200),
            ..entry
        };
        assert!(!of_the_past.is_due("x", at(30)) && of_the_past.is_due("x", at(60)));
    }
}
