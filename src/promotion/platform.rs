//! Which platforms an image has: what its manifest and, for a single image, its configuration say. Pure.
//!
//! An index says itself which image is for which platform. ECR does not tell the platform of a single image, nor does
//! its manifest: that stands in the configuration, a small blob that the manifest names. So the reader gets the manifest
//! by digest (`BatchGetImage`), hands it to [`read`], and where that asks for the configuration, fetches this blob
//! (`GetDownloadUrlForLayer`), checks its digest and hands it to [`configured`].

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::api::names::{Digest, Platform};

/// The most bytes that a configuration may have to be read: real ones have some thousand.
pub(crate) const CONFIG_LIMIT: u64 = 1 << 20;

/// What a manifest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manifest {
    Index(Platforms),
    /// An image of one platform, which its configuration tells.
    Image {
        config: Blob,
    },
    /// A signature, a chart or anything else that does not run.
    Artifact {
        kind: String,
    },
}

/// Where a blob is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub digest: Digest,
    pub size: u64,
}

/// The images by platform.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Platforms(BTreeMap<Platform, Vec<Digest>>);

/// A manifest or configuration that cannot be made out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreadable(String);

/// The configurations that images which run have.
const IMAGE_CONFIGS: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    #[serde(default)]
    size: u64,
    platform: Option<WirePlatform>,
}

/// Of a descriptor, or of a configuration: both have these members.
#[derive(Deserialize)]
struct WirePlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

/// Reads a manifest of any of the four sorts: OCI or Docker, index or image.
pub(crate) fn read(manifest: &[u8]) -> Result<Manifest, Unreadable> {
    let wire: Wire = serde_json::from_slice(manifest)
        .map_err(|error| Unreadable(format!("the manifest is not one of OCI or Docker: {error}")))?;
    if wire.schema_version != 2 {
        return Err(Unreadable(format!(
            "the manifest has schemaVersion {}; push the image again with a current client, which writes 2",
            wire.schema_version
        )));
    }
    match (wire.manifests, wire.config) {
        (Some(children), None) => Ok(Manifest::Index(of_index(children)?)),
        (None, Some(config)) => {
            let kind = config.media_type.unwrap_or_default();
            if !IMAGE_CONFIGS.contains(&kind.as_str()) {
                let kind = wire.artifact_type.unwrap_or(kind);
                return Ok(Manifest::Artifact { kind });
            }
            Ok(Manifest::Image {
                config: Blob {
                    digest: digest(&config.digest)?,
                    size: config.size,
                },
            })
        }
        _ => Err(Unreadable(format!(
            "a manifest of type {} has to have either manifests or config",
            wire.media_type.as_deref().unwrap_or("unknown")
        ))),
    }
}

/// The platform of a single image, by its configuration.
pub(crate) fn configured(config: &[u8], image: &Digest) -> Result<Platforms, Unreadable> {
    let wire: WirePlatform = serde_json::from_slice(config).map_err(|error| {
        Unreadable(format!(
            "the image's configuration is not JSON of OCI or Docker: {error}"
        ))
    })?;
    let platform = wire
        .known()
        .ok_or_else(|| Unreadable("the image's configuration names no os and architecture".into()))?;
    Ok(Platforms(BTreeMap::from([(platform, vec![image.clone()])])))
}

impl Platforms {
    /// The wanted platforms that the image lacks.
    pub(crate) fn missing<'a>(&self, wanted: &'a [Platform]) -> Vec<&'a Platform> {
        wanted
            .iter()
            .filter(|wanted| !self.0.keys().any(|had| serves(had, wanted)))
            .collect()
    }

    /// The images for the wanted platforms, or all of them where no platform is wanted in particular; in the order of the
    /// platforms.
    pub(crate) fn images<'a>(&'a self, wanted: &'a [Platform]) -> impl Iterator<Item = (&'a Platform, &'a Digest)> {
        self.0
            .iter()
            .filter(move |(had, _)| wanted.is_empty() || wanted.iter().any(|wanted| serves(had, wanted)))
            .flat_map(|(platform, digests)| digests.iter().map(move |digest| (platform, digest)))
    }

    /// As a person writes it: `linux/amd64, linux/arm64`.
    pub(crate) fn list(&self) -> String {
        let names: Vec<&str> = self.0.keys().map(Platform::as_str).collect();
        names.join(", ")
    }
}

impl WirePlatform {
    /// `None` for what is not given, not known, or not the name of a platform: `unknown/unknown` is how attestations
    /// are kept in an index.
    fn known(&self) -> Option<Platform> {
        let (os, architecture) = (self.os.as_deref()?, self.architecture.as_deref()?);
        if os == "unknown" || architecture == "unknown" {
            return None;
        }
        let variant = self.variant.as_deref().filter(|variant| !variant.is_empty());
        let text = match variant {
            Some(variant) => format!("{os}/{architecture}/{variant}"),
            None => format!("{os}/{architecture}"),
        };
        text.parse().ok()
    }
}

fn of_index(children: Vec<Descriptor>) -> Result<Platforms, Unreadable> {
    let mut platforms: BTreeMap<Platform, Vec<Digest>> = BTreeMap::new();
    for child in children {
        if let Some(platform) = child.platform.as_ref().and_then(WirePlatform::known) {
            platforms.entry(platform).or_default().push(digest(&child.digest)?);
        }
    }
    Ok(Platforms(platforms))
}

/// Whether an image for one platform will do where another is wanted: a wanted platform without a variant takes any. As
/// in containerd, `arm64` is `arm64/v8` and `arm` is `arm/v7` where the image gives no variant.
fn serves(had: &Platform, wanted: &Platform) -> bool {
    let (had, wanted) = (parts(had), parts(wanted));
    if (had.0, had.1) != (wanted.0, wanted.1) {
        return false;
    }
    let usual = match had.1 {
        "arm64" => Some("v8"),
        "arm" => Some("v7"),
        _ => None,
    };
    wanted.2.is_none() || had.2.or(usual) == wanted.2
}

fn parts(platform: &Platform) -> (&str, &str, Option<&str>) {
    let mut parts = platform.as_str().splitn(3, '/');
    (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        parts.next(),
    )
}

fn digest(text: &str) -> Result<Digest, Unreadable> {
    text.parse()
        .map_err(|error| Unreadable(format!("the manifest names a digest that cannot be used: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn platforms(names: &[&str]) -> Vec<Platform> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn child(number: u32, platform: &Value) -> Value {
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{number:064x}"),
            "size": 500,
            "platform": platform
        })
    }

    fn index(children: &[Value]) -> Platforms {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": children
        });
        match read(manifest.to_string().as_bytes()).unwrap() {
            Manifest::Index(platforms) => platforms,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_index_has_the_platforms_of_its_images_and_attestations_are_none() {
        let index = index(&[
            child(1, &json!({ "os": "linux", "architecture": "amd64" })),
            child(2, &json!({ "os": "linux", "architecture": "arm64", "variant": "v8" })),
            child(3, &json!({ "os": "unknown", "architecture": "unknown" })),
            child(
                4,
                &json!({ "os": "windows", "architecture": "amd64", "os.version": "10.0.1" }),
            ),
            child(
                5,
                &json!({ "os": "windows", "architecture": "amd64", "os.version": "10.0.2" }),
            ),
            child(6, &Value::Null),
        ]);
        assert_eq!(index.list(), "linux/amd64, linux/arm64/v8, windows/amd64");
        let wanted = platforms(&["linux/amd64", "linux/arm64", "linux/s390x", "linux/amd64/v3"]);
        let missing: Vec<&str> = index.missing(&wanted).into_iter().map(Platform::as_str).collect();
        assert_eq!(missing, ["linux/s390x", "linux/amd64/v3"]);
        let images: Vec<String> = index
            .images(&platforms(&["linux/arm64", "windows/amd64"]))
            .map(|(platform, digest)| format!("{platform} {}", &digest.as_str()[70..]))
            .collect();
        assert_eq!(images, ["linux/arm64/v8 2", "windows/amd64 4", "windows/amd64 5"]);
        assert_eq!(index.images(&[]).count(), 4);
    }

    #[test]
    fn the_usual_variant_need_not_be_written() {
        for (had, wanted, expected) in [
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm", "linux/arm/v7", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/arm/v6", "linux/arm", true),
            ("linux/amd64", "linux/amd64/v2", false),
            ("linux/arm64", "linux/arm", false),
            ("windows/amd64", "linux/amd64", false),
        ] {
            assert_eq!(
                serves(&had.parse().unwrap(), &wanted.parse().unwrap()),
                expected,
                "{had} for {wanted}"
            );
        }
    }

    #[test]
    fn a_single_image_needs_its_configuration() {
        for kind in IMAGE_CONFIGS {
            let manifest = json!({
                "schemaVersion": 2,
                "config": { "mediaType": kind, "digest": format!("sha256:{:064x}", 9), "size": 1200 },
                "layers": []
            });
            let config = Blob {
                digest: format!("sha256:{:064x}", 9).parse().unwrap(),
                size: 1200,
            };
            assert_eq!(read(manifest.to_string().as_bytes()), Ok(Manifest::Image { config }));
        }
        let image: Digest = format!("sha256:{:064x}", 1).parse().unwrap();
        let found = configured(br#"{"os":"linux","architecture":"arm64","config":{}}"#, &image).unwrap();
        assert_eq!(
            found.images(&[]).collect::<Vec<_>>(),
            [(&"linux/arm64".parse().unwrap(), &image)]
        );
        assert!(configured(b"{}", &image).is_err());
        assert!(configured(b"[]", &image).is_err());
    }

    #[test]
    fn what_does_not_run_is_told_apart_and_what_is_no_manifest_is_refused() {
        let artifact = json!({
            "schemaVersion": 2,
            "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": format!("sha256:{:064x}", 9), "size": 2 }
        });
        assert_eq!(
            read(artifact.to_string().as_bytes()),
            Ok(Manifest::Artifact {
                kind: "application/vnd.dev.sigstore.bundle.v0.3+json".into()
            })
        );
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"schemaVersion":1}"#,
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":2,"manifests":[{"digest":"sha512:1","platform":{"os":"linux","architecture":"amd64"}}]}"#,
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
