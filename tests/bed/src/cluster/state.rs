//! The state of a cluster: copied to start others from, and restored so that a cluster can be used again.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

use super::etcd::{Change, Etcd, KeyValue, decode, encode};

/// Below these, an apiserver writes for itself whatever else happens: its own leases.
const NOT_STATE: [&str; 1] = ["/leases/kube-system/"];

/// How often a state is restored until nothing differs any more: what the controller manager answers to a change may come after
/// the first time.
const TRIES: usize = 50;

/// Every key of a cluster with its value, to start other clusters with.
#[derive(Debug, Clone)]
pub(super) struct Template {
    /// The keys without the prefix of their cluster.
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Template {
    pub(super) async fn of(etcd: &Etcd, prefix: &str) -> Result<Self> {
        let (_, found) = etcd.values(prefix).await?;
        let entries = found.iter().map(|one| entry(one, prefix)).collect::<Result<Vec<_>>>()?;
        let entries = entries.into_iter().filter(|(key, _)| is_state(key)).collect();
        Ok(Self { entries })
    }

    /// Writes the state below another prefix, before an apiserver is started there. The new cluster has a UID of its own: that
    /// of its namespace `kube-system`, by which clusters are told apart.
    pub(super) async fn copy_to(&self, etcd: &Etcd, prefix: &str) -> Result<()> {
        let changes = self.entries.iter().map(|(key, value)| {
            let value = if key == b"/namespaces/kube-system" {
                encode(&with_new_uid(value)?)
            } else {
                encode(value)
            };
            let key = encode(&[prefix.as_bytes(), key].concat());
            Ok(Change::Put { key, value })
        });
        etcd.write(&changes.collect::<Result<Vec<_>>>()?).await.map(drop)
    }
}

fn entry(one: &KeyValue, prefix: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let key = decode(&one.key)?;
    let key = key
        .strip_prefix(prefix.as_bytes())
        .context("a key of another cluster")?;
    Ok((key.to_vec(), decode(&one.value)?))
}

fn is_state(key: &[u8]) -> bool {
    !NOT_STATE.iter().any(|prefix| key.starts_with(prefix.as_bytes()))
}

/// Replaces the one UUID in a stored object. Its length stays, so the encoding around it does too.
fn with_new_uid(object: &[u8]) -> Result<Vec<u8>> {
    let at = object.windows(36).position(is_uuid).context("the object has no UID")?;
    let mut object = object.to_vec();
    object[at..at + 36].copy_from_slice(new_uuid().as_bytes());
    Ok(object)
}

fn is_uuid(text: &[u8]) -> bool {
    text.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

fn new_uuid() -> String {
    let hex = format!("{:032x}", fastrand::u128(..));
    let [a, b, c, d] = [&hex[..8], &hex[8..12], &hex[13..16], &hex[17..20]];
    format!("{a}-{b}-4{c}-8{d}-{}", &hex[20..])
}

/// What a cluster was like when it was started: each key with the revision that wrote it.
#[derive(Debug)]
pub(super) struct Baseline {
    prefix: String,
    /// etcd still has the values of this revision: the bed's apiservers do not compact it.
    revision: String,
    written: BTreeMap<String, String>,
}

impl Baseline {
    pub(super) async fn of(etcd: &Etcd, prefix: &str) -> Result<Self> {
        let (revision, found) = etcd.values(prefix).await?;
        let written = found.into_iter().map(|one| (one.key, one.mod_revision)).collect();
        Ok(Self {
            prefix: prefix.to_owned(),
            revision,
            written,
        })
    }

    /// Makes the cluster what it was, and checks that it is: the last look finds no key that differs.
    pub(super) async fn restore(&mut self, etcd: &Etcd) -> Result<()> {
        for _ in 0..TRIES {
            let now = etcd.keys(&self.prefix).await?;
            let differing = differences(&self.written, &now);
            let mut changes = Vec::new();
            for key in &differing {
                if !is_state(decode(key)?.strip_prefix(self.prefix.as_bytes()).unwrap_or_default()) {
                    continue;
                }
                changes.push(if self.written.contains_key(key) {
                    let value = etcd.value_at(key, &self.revision).await?;
                    Change::Put {
                        key: key.clone(),
                        value,
                    }
                } else {
                    Change::Delete { key: key.clone() }
                });
            }
            if changes.is_empty() {
                return Ok(());
            }
            let revisions = etcd.write(&changes).await?;
            for (change, revision) in changes.into_iter().zip(revisions) {
                if let Change::Put { key, .. } = change {
                    self.written.insert(key, revision);
                }
            }
        }
        bail!("the cluster did not become what it was, in {TRIES} tries");
    }
}

/// The keys that were written, added or taken away.
fn differences(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let gone = before.keys().filter(|key| !now.contains_key(*key));
    let other = now.iter().filter(|(key, revision)| before.get(*key) != Some(*revision));
    gone.chain(other.map(|(key, _)| key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_added_or_taken_away_differs() {
        let map = |entries: &[(&str, &str)]| -> BTreeMap<String, String> {
            let owned = entries
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            owned.collect()
        };
        let before = map(&[("gone", "1"), ("same", "2"), ("written", "3")]);
        let now = map(&[("added", "9"), ("same", "2"), ("written", "8")]);
        assert_eq!(differences(&before, &now), ["gone", "added", "written"]);
    }

    #[test]
    fn the_one_uid_of_an_object_is_replaced_by_another() -> Result<()> {
        let object = b"k8s\0\n\x24c0ffee00-1234-4321-8888-0123456789ab\x12kube-system";
        let copy = with_new_uid(object)?;
        assert_eq!(copy.len(), object.len());
        assert_ne!(copy, object);
        assert!(copy.windows(36).any(is_uuid) && copy.ends_with(b"\x12kube-system"));
        assert!(with_new_uid(b"nothing").is_err());
        Ok(())
    }
}
