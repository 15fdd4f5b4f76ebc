//! Signatures of cosign with a key, over a digest. Pure: what is verified is handed in.
//!
//! cosign keeps them in the repository of the image, in two ways, and both are read:
//! - the older: a manifest under the tag `sha256-<hex>.sig` ([`tag`]). Each of its layers is a payload, with the
//!   signature over it in an annotation ([`layers`]); the payload names the digest ([`verify`]).
//! - the newer, the default since cosign 3: a referrer of the image whose artifact type is [`BUNDLE_TYPE`] and whose layer
//!   is a bundle: a DSSE envelope with a statement of in-toto about the digest ([`verify_bundle`]).
//!
//! Only the key is asked: no certificate, no transparency log. Keys are ECDSA on P-256, as `cosign generate-key-pair`
//! makes them.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;

use super::platform::Blob;
use crate::api::{
    names::{Digest, Tag},
    promotion::CosignKey,
};

/// The artifact type of a referrer that holds a bundle.
pub(crate) const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The most bytes of a payload or a bundle that are read.
pub(crate) const BLOB_LIMIT: u64 = 256 << 10;

/// The most signatures on one image that are looked at; the rest is as if it were not there.
pub(crate) const MOST_SIGNATURES: usize = 20;

const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
const CLAIM: &str = "cosign container image signature";
const STATEMENT_MEDIA_TYPE: &str = "application/vnd.in-toto+json";
/// An attestation is a bundle too; only a statement of this type says "I sign this image".
const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// A payload to be fetched, and the signature over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub payload: Blob,
    /// In base64.
    pub signature: String,
}

/// A public key, parsed.
#[derive(Clone, Debug)]
pub(crate) struct Key(ParsedPublicKey);

/// Why something is not a valid signature over the digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("the public key {0}; give an ECDSA key on P-256 as `cosign public-key` prints it")]
    Key(&'static str),
    #[error("the signature manifest is not one of cosign: {0}")]
    Manifest(String),
    #[error("the signature is not base64")]
    Encoding,
    #[error("what was signed is not a claim of cosign: {0}")]
    Claim(String),
    #[error("the signature is for another image, {0}")]
    OtherImage(String),
    #[error("the signature is not by this key")]
    NotByThisKey,
}

/// The tag under which cosign keeps the older signatures of an image.
pub(crate) fn tag(digest: &Digest) -> Option<Tag> {
    format!("{}.sig", digest.as_str().replace(':', "-")).parse().ok()
}

/// The signatures in a manifest that was found under [`tag`]. Layers of other sorts and larger than [`BLOB_LIMIT`] are
/// passed over; at most [`MOST_SIGNATURES`].
pub(crate) fn layers(manifest: &[u8]) -> Result<Vec<Layer>, Invalid> {
    let manifest: WireManifest =
        serde_json::from_slice(manifest).map_err(|error| Invalid::Manifest(error.to_string()))?;
    let signed = manifest.layers.into_iter().filter_map(|layer| {
        let signature = layer.annotations?.remove(SIGNATURE_ANNOTATION)?;
        (layer.media_type == PAYLOAD_TYPE && layer.size <= BLOB_LIMIT).then_some((layer.digest, layer.size, signature))
    });
    signed
        .take(MOST_SIGNATURES)
        .map(|(digest, size, signature)| {
            let digest = digest.parse().map_err(|error| Invalid::Manifest(format!("{error}")))?;
            Ok(Layer {
                payload: Blob { digest, size },
                signature,
            })
        })
        .collect()
}

/// The bundles in the manifest of a referrer of type [`BUNDLE_TYPE`], to be fetched.
pub(crate) fn bundles(manifest: &[u8]) -> Result<Vec<Blob>, Invalid> {
    let manifest: WireManifest =
        serde_json::from_slice(manifest).map_err(|error| Invalid::Manifest(error.to_string()))?;
    manifest
        .layers
        .into_iter()
        .filter(|layer| layer.media_type == BUNDLE_TYPE && layer.size <= BLOB_LIMIT)
        .take(MOST_SIGNATURES)
        .map(|layer| {
            let digest = layer
                .digest
                .parse()
                .map_err(|error| Invalid::Manifest(format!("{error}")))?;
            Ok(Blob {
                digest,
                size: layer.size,
            })
        })
        .collect()
}

impl Key {
    /// Reads a public key in PEM.
    pub(crate) fn parse(pem: &str) -> Result<Self, Invalid> {
        let pem = pem::parse(pem.trim()).map_err(|_| Invalid::Key("is not PEM"))?;
        if pem.tag() != "PUBLIC KEY" {
            return Err(Invalid::Key("is of another sort than PUBLIC KEY"));
        }
        ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pem.contents())
            .map(Self)
            .map_err(|_| Invalid::Key("is not ECDSA on P-256"))
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Invalid> {
        self.0.verify_sig(message, signature).map_err(|_| Invalid::NotByThisKey)
    }
}

/// Everything that was found of signatures on an image, fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// Payloads, each with the signature over it in base64.
    pub payloads: Vec<(Vec<u8>, String)>,
    pub bundles: Vec<Vec<u8>>,
}

/// Whether one of the signatures is valid under one of the keys; otherwise why not, in words that depend on the cause
/// alone.
pub(crate) fn judge(keys: &[CosignKey], digest: &Digest, evidence: &Evidence) -> Result<(), String> {
    let mut problems = std::collections::BTreeSet::new();
    for (index, key) in keys.iter().enumerate() {
        let key = Key::parse(&key.key).map_err(|error| format!("gates.signature.cosign[{index}].key: {error}"))?;
        let payloads = evidence
            .payloads
            .iter()
            .map(|(payload, signature)| verify(digest, payload, signature, &key));
        let bundles = evidence
            .bundles
            .iter()
            .map(|bundle| verify_bundle(digest, bundle, &key));
        for checked in payloads.chain(bundles) {
            match checked {
                Ok(()) => return Ok(()),
                Err(problem) => problems.insert(problem.to_string()),
            };
        }
    }
    if problems.is_empty() {
        return Err("it is not signed: no signature of cosign was found in its repository; sign the digest".into());
    }
    let problems: Vec<String> = problems.into_iter().take(3).collect();
    Err(format!("none of its signatures is valid: {}", problems.join("; ")))
}

/// Checks a payload and the signature over it, in base64, against one key. The bytes are those that were fetched; their
/// digest has been checked by whoever fetched them, or does not matter, since they are what is signed.
pub(crate) fn verify(digest: &Digest, payload: &[u8], signature: &str, key: &Key) -> Result<(), Invalid> {
    let signature = decode(signature)?;
    // First the signature: what nobody signed is not worth reading.
    key.verify(payload, &signature)?;
    let claim: Claim = serde_json::from_slice(payload).map_err(|error| Invalid::Claim(error.to_string()))?;
    if claim.critical.kind != CLAIM {
        return Err(Invalid::Claim(format!(
            "its type is {:?}",
            shortened(&claim.critical.kind)
        )));
    }
    match claim.critical.image.digest == digest.as_str() {
        true => Ok(()),
        false => Err(Invalid::OtherImage(shortened(&claim.critical.image.digest))),
    }
}

/// Checks a bundle against one key.
pub(crate) fn verify_bundle(digest: &Digest, bundle: &[u8], key: &Key) -> Result<(), Invalid> {
    let bundle: Bundle = serde_json::from_slice(bundle).map_err(|error| Invalid::Claim(error.to_string()))?;
    let envelope = bundle.dsse_envelope;
    let payload = decode(&envelope.payload)?;
    let message = pre_authentication(&envelope.payload_type, &payload);
    let mut signed = Err(Invalid::NotByThisKey);
    for signature in envelope.signatures.iter().take(MOST_SIGNATURES) {
        signed = decode(&signature.sig).and_then(|signature| key.verify(&message, &signature));
        if signed.is_ok() {
            break;
        }
    }
    signed?;
    if envelope.payload_type != STATEMENT_MEDIA_TYPE {
        return Err(Invalid::Claim(format!(
            "its type is {:?}",
            shortened(&envelope.payload_type)
        )));
    }
    let statement: Statement = serde_json::from_slice(&payload).map_err(|error| Invalid::Claim(error.to_string()))?;
    if statement.predicate_type != SIGN_PREDICATE {
        return Err(Invalid::Claim(format!(
            "it attests {:?} and signs no image",
            shortened(&statement.predicate_type)
        )));
    }
    let about = |subject: &Subject| digest.as_str().strip_prefix("sha256:") == subject.digest.sha256.as_deref();
    if statement.subject.iter().any(about) {
        return Ok(());
    }
    let other = statement
        .subject
        .first()
        .and_then(|subject| subject.digest.sha256.as_deref());
    Err(Invalid::OtherImage(format!(
        "sha256:{}",
        shortened(other.unwrap_or("unknown"))
    )))
}

/// What an envelope's signature is over, as DSSE has it.
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

fn decode(text: &str) -> Result<Vec<u8>, Invalid> {
    BASE64_STANDARD.decode(text.trim()).map_err(|_| Invalid::Encoding)
}

/// What others wrote must not fill conditions and logs.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[derive(Deserialize)]
struct WireManifest {
    #[serde(default)]
    layers: Vec<WireLayer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireLayer {
    media_type: String,
    digest: String,
    size: u64,
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Claim {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: ClaimedImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct ClaimedImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: SubjectDigest,
}

#[derive(Deserialize)]
struct SubjectDigest {
    sha256: Option<String>,
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
