//! The report of what a cluster uses: one manifest, the content in its annotations. Pure. docs/reference/in-use-report.md
//! is written for those who publish from elsewhere.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};

use super::usage::{RegistryKey, Usage, Uses};
use crate::api::names::{AccountId, Digest, Region, RepositoryName, Tag};

/// What says that a manifest is a report.
pub(crate) const ARTIFACT_TYPE: &str = "application/vnd.ecr-operator.in-use.v1+json";

/// The type of the manifest.
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// The blob that stands where a manifest needs one and nothing is to be said: `{}`.
pub(crate) const EMPTY_BLOB: &[u8] = b"{}";
pub(crate) const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const EMPTY_DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

/// ECR takes no manifest that is larger.
const LARGEST: usize = 4 * 1024 * 1024;

const VERSION: &str = "1";
const KEYS: &str = "dev.ecr-operator.in-use.";
const KEY_VERSION: &str = "dev.ecr-operator.in-use.version";
const KEY_CLUSTER: &str = "dev.ecr-operator.in-use.cluster";
const KEY_OWNER: &str = "dev.ecr-operator.in-use.owner";
const KEY_PUBLISHED: &str = "dev.ecr-operator.in-use.published";
const KEY_REPOSITORY: &str = "dev.ecr-operator.in-use.repository/";

/// What a cluster said that it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The UID of its `kube-system`, or what stands for it elsewhere. The tag of the report begins with it, or is it.
    pub cluster: Tag,
    /// The `ownerId` of its installation.
    pub owner: String,
    pub published: Timestamp,
    pub usage: Usage,
}

/// Why a manifest is no report, or a report no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReportError {
    #[error("it has {0} bytes, and ECR takes {LARGEST}: too many images are used for one report")]
    TooLarge(usize),

    #[error("it is not a manifest of a report: {0}")]
    Malformed(String),

    #[error("its version is {0:?}, and this operator reads {VERSION:?}: update the operator that manages the registry")]
    Version(String),

    #[error("its annotation {key} is wrong: {why}")]
    Annotation { key: String, why: String },

    #[error("it is of the cluster {0}, and has another tag")]
    OtherTag(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u8,
    media_type: String,
    artifact_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
    annotations: Annotations,
}

#[derive(Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

/// By key; a key that comes twice is an error, where the last would win otherwise.
#[derive(Serialize)]
struct Annotations(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;

        impl<'de> Visitor<'de> for Unique {
            type Value = BTreeMap<String, String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if let Some(twice) = all.insert(key, value) {
                        let twice: String = twice.chars().take(80).collect();
                        return Err(A::Error::custom(format!(
                            "an annotation comes twice; its first value is {twice:?}"
                        )));
                    }
                }
                Ok(all)
            }
        }

        deserializer.deserialize_map(Unique).map(Self)
    }
}

impl Descriptor {
    fn empty() -> Self {
        Self {
            media_type: EMPTY_TYPE.into(),
            digest: EMPTY_DIGEST.into(),
            size: EMPTY_BLOB.len() as u64,
        }
    }
}

/// A manifest of the empty blob, told apart from others by its type and annotations.
pub(crate) fn manifest_of_nothing(
    artifact_type: &str,
    annotations: BTreeMap<String, String>,
) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Manifest {
        schema_version: 2,
        media_type: MANIFEST_TYPE.into(),
        artifact_type: artifact_type.into(),
        config: Descriptor::empty(),
        layers: vec![Descriptor::empty()],
        annotations: Annotations(annotations),
    })
}

/// The tag of a cluster's report in a registry. It names the registry, too: replication carries reports over with their tags, and
/// what a cluster uses of the source must not take the place of what it uses of the destination.
pub(crate) fn tag_in(cluster: &str, (account, region): &RegistryKey) -> String {
    format!("{cluster}.{account}.{region}")
}

/// Whose report has the tag in a registry; `None` where it is about another registry.
pub(crate) fn cluster_of(tag: &Tag, registry: &RegistryKey) -> Option<Tag> {
    let mut parts = tag.as_str().rsplitn(3, '.');
    let named = (parts.next(), parts.next(), parts.next());
    if let (Some(region), Some(account), Some(cluster)) = named
        && let (Ok(region), Ok(account)) = (region.parse::<Region>(), account.parse::<AccountId>())
    {
        let is_here = (&account, &region) == (&registry.0, &registry.1);
        return cluster.parse().ok().filter(|_| is_here);
    }
    Some(tag.clone())
}

impl Report {
    /// The manifest; the same report is the same text.
    pub(crate) fn encode(&self) -> Result<String, ReportError> {
        let mut annotations = BTreeMap::from([
            (KEY_VERSION.to_owned(), VERSION.to_owned()),
            (KEY_CLUSTER.to_owned(), self.cluster.to_string()),
            (KEY_OWNER.to_owned(), self.owner.clone()),
            (KEY_PUBLISHED.to_owned(), self.published.to_string()),
        ]);
        for (repository, uses) in self.usage.iter().filter(|(_, uses)| !uses.is_empty()) {
            let digests = uses.digests.iter().map(Digest::as_str);
            let references: Vec<&str> = digests.chain(uses.tags.iter().map(Tag::as_str)).collect();
            annotations.insert(format!("{KEY_REPOSITORY}{repository}"), references.join(" "));
        }
        let text = manifest_of_nothing(ARTIFACT_TYPE, annotations)
            .map_err(|error| ReportError::Malformed(error.to_string()))?;
        match text.len() {
            size if size > LARGEST => Err(ReportError::TooLarge(size)),
            _ => Ok(text),
        }
    }

    /// Reads a manifest whose tag is that of a cluster. All of it, or nothing: on a part, an image in use would seem unused.
    pub(crate) fn decode(of: &Tag, manifest: &[u8]) -> Result<Self, ReportError> {
        if manifest.len() > LARGEST {
            return Err(ReportError::TooLarge(manifest.len()));
        }
        let malformed = |why: &str| ReportError::Malformed(why.to_owned());
        let manifest: Manifest = serde_json::from_slice(manifest).map_err(|error| malformed(&error.to_string()))?;
        if manifest.schema_version != 2 || manifest.media_type != MANIFEST_TYPE {
            return Err(malformed("schemaVersion or mediaType"));
        }
        if manifest.artifact_type != ARTIFACT_TYPE {
            return Err(malformed(&format!("artifactType is not {ARTIFACT_TYPE}")));
        }
        if manifest.config != Descriptor::empty() || manifest.layers != [Descriptor::empty()] {
            return Err(malformed("config and the one layer must be the empty blob"));
        }
        let mut annotations = manifest.annotations.0;
        let mut take = |key: &str| annotations.remove(key).ok_or_else(|| wrong(key, "it is missing"));
        let version = take(KEY_VERSION)?;
        if version != VERSION {
            return Err(ReportError::Version(version.chars().take(40).collect()));
        }
        let cluster: Tag = take(KEY_CLUSTER)?.parse().map_err(|error| wrong(KEY_CLUSTER, error))?;
        if cluster != *of {
            return Err(ReportError::OtherTag(cluster.to_string()));
        }
        let owner = take(KEY_OWNER)?;
        if owner.is_empty() || owner.len() > 256 || owner.chars().any(char::is_control) {
            return Err(wrong(KEY_OWNER, "write 1 to 256 characters"));
        }
        let published = take(KEY_PUBLISHED)?
            .parse()
            .map_err(|error: jiff::Error| wrong(KEY_PUBLISHED, error))?;
        let mut usage = Usage::new();
        for (key, value) in annotations.iter().filter(|(key, _)| key.starts_with(KEYS)) {
            let name = key
                .strip_prefix(KEY_REPOSITORY)
                .ok_or_else(|| wrong(key, "there is no such annotation"))?;
            let name: RepositoryName = name.parse().map_err(|error| wrong(key, error))?;
            usage.insert(name, references(key, value)?);
        }
        Ok(Self {
            cluster,
            owner,
            published,
            usage,
        })
    }

    /// Whether the other says the same, whenever it was published.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        (&self.cluster, &self.owner, &self.usage) == (&other.cluster, &other.owner, &other.usage)
    }
}

fn wrong(key: &str, why: impl fmt::Display) -> ReportError {
    ReportError::Annotation {
        key: key.chars().take(320).collect(),
        why: why.to_string(),
    }
}

fn references(key: &str, value: &str) -> Result<Uses, ReportError> {
    let mut uses = Uses::default();
    for text in value.split(' ') {
        let is_new = match text.contains(':') {
            true => uses.digests.insert(text.parse().map_err(|error| wrong(key, error))?),
            false => uses.tags.insert(text.parse().map_err(|error| wrong(key, error))?),
        };
        if !is_new {
            return Err(wrong(key, format!("{text} comes twice")));
        }
    }
    Ok(uses)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
