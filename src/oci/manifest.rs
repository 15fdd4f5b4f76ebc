//! What a manifest refers to. Pure: the bytes are kept as they came, since their digest is the image's name.
//!
//! Known are Docker's image manifest (version 2, schema 2) and list, and OCI's image manifest, index and the withdrawn
//! artifact manifest.

use bytes::Bytes;
use serde::Deserialize;

use crate::api::names::{Digest, NameError};

/// The most bytes of a manifest; more than that ECR does not take (`PutImage`, `imageManifest`).
pub(crate) const LARGEST: usize = 4 << 20;

/// The most images or blobs that one manifest may name. Nothing of ECR's: the largest index in use has some dozens.
pub(crate) const MOST_ENTRIES: usize = 1_000;

/// What is asked for when a manifest is read. A registry that does not find the stored type in this list may translate
/// the manifest, and its digest would not be the one that was asked for.
pub(crate) const MEDIA_TYPES: [&str; 5] = [OCI_INDEX, OCI_IMAGE, DOCKER_LIST, DOCKER_IMAGE, OCI_ARTIFACT];

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A manifest and what it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub digest: Digest,
    pub media_type: String,
    /// As they came.
    pub bytes: Bytes,
    /// The manifests of an index, each once.
    pub children: Vec<Digest>,
    /// Config and layers, each once.
    pub blobs: Vec<Blob>,
    /// The image that this one says something about.
    pub subject: Option<Digest>,
}

/// A config or a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// It may also be had elsewhere, so that the registry need not hold it ("foreign" layers).
    pub elsewhere: bool,
}

/// Why a manifest is not copied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("it has {0} bytes; ECR takes at most {LARGEST}")]
    TooLarge(u64),

    #[error("its content has the digest {0}: what is stored there is damaged, or was changed on the way")]
    OtherDigest(Digest),

    #[error("it is not a manifest: {0}")]
    Malformed(String),

    #[error("it is of the type {0:?}, which cannot be copied; push the image again in the format of OCI or Docker 2.2")]
    Unsupported(String),

    #[error("it names more than {MOST_ENTRIES} images or blobs")]
    TooManyEntries,

    #[error("it refers to something by a digest that ECR does not know: {0}")]
    Digest(#[from] NameError),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    size: u64,
    urls: Option<Vec<String>>,
}

impl Manifest {
    /// Reads what the registry sent for the manifest `digest`. `content_type` is what it was announced as, which counts
    /// where the manifest does not say.
    pub(crate) fn read(digest: &Digest, content_type: Option<&str>, bytes: Bytes) -> Result<Self, ManifestError> {
        if bytes.len() > LARGEST {
            return Err(ManifestError::TooLarge(bytes.len() as u64));
        }
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(ManifestError::OtherDigest(actual));
        }
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|error| ManifestError::Malformed(error.to_string()))?;
        let media_type = wire.media_type(content_type)?;
        let index = matches!(media_type.as_str(), OCI_INDEX | DOCKER_LIST);
        // One reader would see an index and another an image in the same bytes.
        let has_blobs = wire.config.is_some() || wire.layers.is_some() || wire.blobs.is_some();
        if index == has_blobs || index != wire.manifests.is_some() {
            return Err(ManifestError::Malformed(format!(
                "it says that it is {media_type} and has the fields of another type"
            )));
        }

        let mut children = Vec::new();
        for child in wire.manifests.unwrap_or_default() {
            add(&mut children, child.digest.parse()?, |known: &Digest| known)?;
        }
        let mut blobs = Vec::new();
        let lists = [wire.layers, wire.blobs].into_iter().flatten().flatten();
        for blob in wire.config.into_iter().chain(lists) {
            let blob = Blob {
                digest: blob.digest.parse()?,
                size: blob.size,
                elsewhere: blob.urls.is_some_and(|urls| !urls.is_empty()),
            };
            let digest = blob.digest.clone();
            match blobs.iter_mut().find(|known: &&mut Blob| known.digest == digest) {
                Some(known) if known.size != blob.size => {
                    return Err(ManifestError::Malformed(format!("it gives {digest} two sizes")));
                }
                // Needed here, wherever else it may be had.
                Some(known) => known.elsewhere &= blob.elsewhere,
                None => add(&mut blobs, blob, |known: &Blob| &known.digest)?,
            }
        }
        Ok(Self {
            digest: actual,
            media_type,
            bytes,
            children,
            blobs,
            subject: wire.subject.map(|subject| subject.digest.parse()).transpose()?,
        })
    }

    /// Whether nothing that `other` refers to is missing here: putting this one in its place loses nothing. So it is when a
    /// signature was added to those that are kept under one tag.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        let layers = |manifest: &Self| -> Vec<Digest> {
            // The config of such an image only lists its layers and differs each time.
            manifest.blobs.iter().skip(1).map(|blob| blob.digest.clone()).collect()
        };
        let here = layers(self);
        self.media_type == other.media_type
            && layers(other).iter().all(|layer| here.contains(layer))
            && other.children.iter().all(|child| self.children.contains(child))
    }
}

impl Wire {
    /// The type: what the manifest says, else what it was announced as, else what it looks like.
    fn media_type(&self, content_type: Option<&str>) -> Result<String, ManifestError> {
        let announced = content_type
            .and_then(|text| text.split(';').next())
            .map(str::trim)
            .filter(|text| MEDIA_TYPES.contains(text) || text.starts_with("application/vnd."));
        let looks = match (&self.manifests, &self.config) {
            (Some(_), _) => Some(OCI_INDEX),
            (None, Some(_)) => Some(OCI_IMAGE),
            (None, None) => None,
        };
        let said = self.media_type.as_deref().filter(|text| !text.is_empty());
        let media_type = said.or(announced).or(looks).unwrap_or("unknown");
        // The artifact manifest has no schemaVersion.
        let schema = self.schema_version.unwrap_or(2);
        if schema != 2 || !MEDIA_TYPES.contains(&media_type) {
            return Err(ManifestError::Unsupported(media_type.chars().take(120).collect()));
        }
        Ok(media_type.to_owned())
    }
}

/// Adds an entry that is not there yet.
fn add<T>(entries: &mut Vec<T>, entry: T, digest: impl Fn(&T) -> &Digest) -> Result<(), ManifestError> {
    if entries.iter().any(|known| digest(known) == digest(&entry)) {
        return Ok(());
    }
    if entries.len() == MOST_ENTRIES {
        return Err(ManifestError::TooManyEntries);
    }
    entries.push(entry);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: &Value, content_type: Option<&str>) -> Result<Manifest, ManifestError> {
        let bytes = Bytes::from(value.to_string());
        Manifest::read(&Digest::of(&bytes), content_type, bytes)
    }

    fn descriptor(content: &str) -> Value {
        json!({ "mediaType": "x", "digest": Digest::of(content.as_bytes()).as_str(), "size": content.len() })
    }

    fn image(layers: &[&str]) -> Value {
        let layers: Vec<Value> = layers.iter().map(|layer| descriptor(layer)).collect();
        json!({ "schemaVersion": 2, "mediaType": OCI_IMAGE, "config": descriptor("config"), "layers": layers })
    }

    #[test]
    fn an_image_has_a_config_and_layers_each_once() {
        let read = read(&image(&["a", "b", "a"]), None).unwrap();
        let blobs: Vec<Digest> = read.blobs.iter().map(|blob| blob.digest.clone()).collect();
        assert_eq!(blobs, ["config", "a", "b"].map(|text| Digest::of(text.as_bytes())));
        assert!(read.children.is_empty() && read.subject.is_none());
    }

    #[test]
    fn an_index_has_children_and_the_bytes_stay_as_they_came() {
        let text = format!(
            "{{ \"schemaVersion\":2,\n\t\"manifests\": [ {}, {} ] ,\"annotations\":{{\"z\":\"1\",\"a\":\"\\u0041\"}}}}\n",
            descriptor("one"),
            descriptor("two")
        );
        let digest = Digest::of(text.as_bytes());
        let read = Manifest::read(&digest, Some(OCI_INDEX), Bytes::from(text.clone())).unwrap();
        assert_eq!(read.children, [Digest::of(b"one"), Digest::of(b"two")]);
        assert_eq!((read.bytes, read.digest), (Bytes::from(text), digest));
    }

    #[test]
    fn artifacts_name_their_subject() {
        let mut signature = image(&["payload"]);
        signature["subject"] = descriptor("the image");
        assert_eq!(read(&signature, None).unwrap().subject, Some(Digest::of(b"the image")));
        let artifact = json!({ "mediaType": OCI_ARTIFACT, "blobs": [descriptor("b")], "subject": descriptor("s") });
        let artifact = read(&artifact, None).unwrap();
        assert_eq!(artifact.blobs[0].digest, Digest::of(b"b"));
        assert_eq!(artifact.subject, Some(Digest::of(b"s")));
    }

    #[test]
    fn the_type_is_what_the_manifest_says_then_what_was_announced_then_what_it_looks_like() {
        let mut bare = image(&["a"]);
        bare.as_object_mut().unwrap().remove("mediaType");
        for (content_type, wanted) in [
            (Some(DOCKER_IMAGE), DOCKER_IMAGE),
            (
                Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
                OCI_IMAGE,
            ),
            (Some("text/plain"), OCI_IMAGE),
            (None, OCI_IMAGE),
        ] {
            assert_eq!(
                read(&bare, content_type).unwrap().media_type,
                wanted,
                "{content_type:?}"
            );
        }
        assert_eq!(read(&image(&["a"]), Some(DOCKER_IMAGE)).unwrap().media_type, OCI_IMAGE);
    }

    #[test]
    fn what_another_reader_could_see_as_something_else_is_refused() {
        let mut both = image(&["a"]);
        both["manifests"] = json!([descriptor("b")]);
        assert!(matches!(read(&both, None), Err(ManifestError::Malformed(_))));
        let mut index = both.clone();
        index["mediaType"] = json!(OCI_INDEX);
        assert!(matches!(read(&index, None), Err(ManifestError::Malformed(_))));
        let mut image = image(&["a"]);
        image["mediaType"] = json!(DOCKER_LIST);
        assert!(matches!(read(&image, None), Err(ManifestError::Malformed(_))));
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is() {
        let good = image(&["a"]).to_string().into_bytes();
        let digest = Digest::of(&good);
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            let outcome = Manifest::read(&digest, None, Bytes::from(changed));
            assert!(matches!(outcome, Err(ManifestError::OtherDigest(_))), "{at}");
        }
    }

    #[test]
    fn old_and_unknown_types_are_refused_by_name() {
        let old = json!({ "schemaVersion": 1, "name": "web", "fsLayers": [] });
        let announced = Some("application/vnd.docker.distribution.manifest.v1+prettyjws");
        let error = read(&old, announced).unwrap_err().to_string();
        assert!(error.contains("v1+prettyjws"), "{error}");
        assert!(matches!(
            read(&json!({ "a": 1 }), None),
            Err(ManifestError::Unsupported(_))
        ));
        for nonsense in [
            json!([]),
            json!("text"),
            json!({ "manifests": 1 }),
            json!({ "config": { "size": -1 } }),
        ] {
            assert!(
                matches!(read(&nonsense, None), Err(ManifestError::Malformed(_))),
                "{nonsense}"
            );
        }
    }

    #[test]
    fn too_much_is_refused() {
        let text = "x".repeat(LARGEST + 1);
        let outcome = Manifest::read(&Digest::of(b""), None, Bytes::from(text));
        assert_eq!(outcome, Err(ManifestError::TooLarge(LARGEST as u64 + 1)));
        let layers: Vec<String> = (0..MOST_ENTRIES).map(|number| number.to_string()).collect();
        let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
        // The config is one of them.
        assert_eq!(read(&image(&layers), None), Err(ManifestError::TooManyEntries));
        assert!(read(&image(&layers[1..]), None).is_ok());
    }

    #[test]
    fn a_layer_that_is_needed_here_is_not_elsewhere() {
        let mut foreign = image(&["a", "a"]);
        foreign["layers"][0]["urls"] = json!(["https://example.org/a"]);
        assert!(!read(&foreign, None).unwrap().blobs[1].elsewhere);
        foreign["layers"][1]["urls"] = json!(["https://example.org/a"]);
        assert!(read(&foreign, None).unwrap().blobs[1].elsewhere);
        foreign["layers"][1]["size"] = json!(7);
        assert!(read(&foreign, None).is_err());
    }

    #[test]
    fn more_signatures_include_fewer_and_not_the_other_way_round() {
        let (one, two) = (
            read(&image(&["a"]), None).unwrap(),
            read(&image(&["a", "b"]), None).unwrap(),
        );
        assert!(two.includes(&one) && !one.includes(&two) && one.includes(&one));
        let other = read(&image(&["c"]), None).unwrap();
        assert!(!two.includes(&other) && !other.includes(&one));
    }
}
