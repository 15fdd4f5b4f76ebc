//! Signatures made by a key of the test, and one that cosign made.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
    },
};
use serde_json::{Value, json};

use super::*;

/// Made by `cosign sign --key` (v1) for an image on ttl.sh; known from the public tests of `StackRox`.
const COSIGN_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE04soAoNygRhaytCtygPcwsP+6Ein
YoDv/BJx1T9WmtsANh2HplRR66Fbm+3OjFuah2IhFufPhDl6a85I3ymVYw==
-----END PUBLIC KEY-----
";
const COSIGN_SIGNATURE: &str =
    "MEUCIDGMmJyxVKGPxvPk/QlRzMSGzcI8pYCy+MB7RTTpegzTAiEArssqWntVN8oJOMV0Aey0zhsNqRmEVQAYZNkn8hkAnXI=";
const COSIGN_PAYLOAD: &str = r#"{"critical":{"identity":{"docker-reference":"ttl.sh/d8d3892d-48bd-4671-a546-2e70a900b702"},"image":{"docker-manifest-digest":"sha256:ee89b00528ff4f02f2405e4ee221743ebc3f8e8dd0bfd5c4c20a2fa2aaa7ede3"},"type":"cosign container image signature"},"optional":null}"#;

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new(algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        Self(EcdsaKeyPair::generate(algorithm).unwrap())
    }

    fn pem(&self) -> String {
        let der: PublicKeyX509Der = self.0.public_key().as_der().unwrap();
        pem::encode(&pem::Pem::new("PUBLIC KEY", der.as_ref()))
    }

    fn key(&self) -> Key {
        Key::parse(&self.pem()).unwrap()
    }

    fn sign(&self, message: &[u8]) -> String {
        BASE64_STANDARD.encode(self.0.sign(&SystemRandom::new(), message).unwrap())
    }
}

fn signer() -> Signer {
    Signer::new(&ECDSA_P256_SHA256_ASN1_SIGNING)
}

fn digest(number: u32) -> Digest {
    format!("sha256:{number:064x}").parse().unwrap()
}

fn payload(digest: &Digest, kind: &str) -> String {
    json!({
        "critical": {
            "identity": { "docker-reference": "registry/app" },
            "image": { "docker-manifest-digest": digest },
            "type": kind
        },
        "optional": { "creator": "ci" }
    })
    .to_string()
}

fn bundle(signer: &Signer, payload_type: &str, statement: &Value) -> Value {
    let payload = statement.to_string();
    json!({
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": { "publicKey": { "hint": "x" } },
        "dsseEnvelope": {
            "payload": BASE64_STANDARD.encode(&payload),
            "payloadType": payload_type,
            "signatures": [{ "sig": signer.sign(&pre_authentication(payload_type, payload.as_bytes())) }]
        }
    })
}

fn statement(digest: &Digest, predicate: &str) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": &digest.as_str()[7..] } }],
        "predicateType": predicate,
        "predicate": {}
    })
}

#[test]
fn a_signature_that_cosign_made_is_valid() {
    let signed = "sha256:ee89b00528ff4f02f2405e4ee221743ebc3f8e8dd0bfd5c4c20a2fa2aaa7ede3"
        .parse()
        .unwrap();
    let key = Key::parse(COSIGN_KEY).unwrap();
    assert_eq!(
        verify(&signed, COSIGN_PAYLOAD.as_bytes(), COSIGN_SIGNATURE, &key),
        Ok(())
    );
    let forged = COSIGN_PAYLOAD.replace("ee89b0", "ee89b1");
    assert_eq!(
        verify(&signed, forged.as_bytes(), COSIGN_SIGNATURE, &key),
        Err(Invalid::NotByThisKey)
    );
    assert!(matches!(
        verify(&digest(1), COSIGN_PAYLOAD.as_bytes(), COSIGN_SIGNATURE, &key),
        Err(Invalid::OtherImage(other)) if other.starts_with("sha256:ee89")
    ));
}

#[test]
fn only_the_key_that_signed_and_only_a_claim_about_this_image_counts() {
    let (signer, stranger) = (signer(), signer());
    let good = payload(&digest(1), CLAIM);
    let signature = signer.sign(good.as_bytes());
    assert_eq!(verify(&digest(1), good.as_bytes(), &signature, &signer.key()), Ok(()));
    assert_eq!(
        verify(&digest(1), good.as_bytes(), &signature, &stranger.key()),
        Err(Invalid::NotByThisKey)
    );
    assert!(matches!(
        verify(&digest(2), good.as_bytes(), &signature, &signer.key()),
        Err(Invalid::OtherImage(_))
    ));
    let other = payload(&digest(1), "something else");
    let signature = signer.sign(other.as_bytes());
    assert!(matches!(
        verify(&digest(1), other.as_bytes(), &signature, &signer.key()),
        Err(Invalid::Claim(_))
    ));
    let none = signer.sign(b"[]");
    assert!(matches!(
        verify(&digest(1), b"[]", &none, &signer.key()),
        Err(Invalid::Claim(_))
    ));
    assert_eq!(
        verify(&digest(1), good.as_bytes(), "%", &signer.key()),
        Err(Invalid::Encoding)
    );
    assert_eq!(
        verify(&digest(1), good.as_bytes(), "", &signer.key()),
        Err(Invalid::NotByThisKey)
    );
}

#[test]
fn a_bundle_counts_where_it_signs_this_image_and_not_where_it_attests_something() {
    let (signer, stranger) = (signer(), signer());
    let check = |bundle: &Value, digest: &Digest, key: &Key| verify_bundle(digest, bundle.to_string().as_bytes(), key);
    let good = bundle(&signer, STATEMENT_MEDIA_TYPE, &statement(&digest(1), SIGN_PREDICATE));
    assert_eq!(check(&good, &digest(1), &signer.key()), Ok(()));
    assert_eq!(check(&good, &digest(1), &stranger.key()), Err(Invalid::NotByThisKey));
    assert!(matches!(
        check(&good, &digest(2), &signer.key()),
        Err(Invalid::OtherImage(_))
    ));
    let attestation = bundle(
        &signer,
        STATEMENT_MEDIA_TYPE,
        &statement(&digest(1), "https://cyclonedx.org/bom"),
    );
    assert!(matches!(
        check(&attestation, &digest(1), &signer.key()),
        Err(Invalid::Claim(_))
    ));
    let of_another_type = bundle(&signer, "text/plain", &statement(&digest(1), SIGN_PREDICATE));
    assert!(matches!(
        check(&of_another_type, &digest(1), &signer.key()),
        Err(Invalid::Claim(_))
    ));
    let mut swapped = good;
    swapped["dsseEnvelope"]["payload"] = BASE64_STANDARD
        .encode(statement(&digest(2), SIGN_PREDICATE).to_string())
        .into();
    assert_eq!(check(&swapped, &digest(2), &signer.key()), Err(Invalid::NotByThisKey));
    assert!(verify_bundle(&digest(1), b"{}", &signer.key()).is_err());
}

#[test]
fn a_key_is_ecdsa_on_p256_in_pem() {
    assert!(Key::parse(&format!("\n{}\n", signer().pem())).is_ok());
    let other_curve = Signer::new(&ECDSA_P384_SHA384_ASN1_SIGNING).pem();
    let private = signer().pem().replace("PUBLIC KEY", "PRIVATE KEY");
    for wrong in [
        "",
        "no key",
        &other_curve,
        &private,
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
    ] {
        assert!(matches!(Key::parse(wrong), Err(Invalid::Key(_))), "{wrong}");
    }
}

#[test]
fn signatures_are_found_where_cosign_keeps_them_and_in_bounds() {
    assert_eq!(tag(&digest(10)).unwrap().as_str(), format!("sha256-{:064x}.sig", 10));
    let layer = |kind: &str, size: u64, annotated: bool| {
        let mut layer = json!({ "mediaType": kind, "digest": digest(7), "size": size });
        if annotated {
            layer["annotations"] = json!({ SIGNATURE_ANNOTATION: "AAAA" });
        }
        layer
    };
    let manifest = json!({ "schemaVersion": 2, "layers": [
        layer(PAYLOAD_TYPE, 300, true),
        layer(PAYLOAD_TYPE, 300, false),
        layer(PAYLOAD_TYPE, BLOB_LIMIT + 1, true),
        layer("application/json", 300, true),
        layer(BUNDLE_TYPE, 300, false),
    ] });
    let found = layers(manifest.to_string().as_bytes()).unwrap();
    let payload = Blob {
        digest: digest(7),
        size: 300,
    };
    assert_eq!(
        found,
        [Layer {
            payload: payload.clone(),
            signature: "AAAA".into()
        }]
    );
    assert_eq!(bundles(manifest.to_string().as_bytes()), Ok(vec![payload]));
    let many = json!({ "layers": vec![layer(PAYLOAD_TYPE, 1, true); 500] });
    assert_eq!(layers(many.to_string().as_bytes()).unwrap().len(), MOST_SIGNATURES);
    assert!(layers(b"[1]").is_err());
}

#[test]
fn one_valid_signature_by_one_of_the_keys_is_enough() {
    let (signer, other) = (signer(), signer());
    let keys = |keys: &[&Signer]| keys.iter().map(|key| CosignKey { key: key.pem() }).collect::<Vec<_>>();
    let good = payload(&digest(1), CLAIM).into_bytes();
    let signature = signer.sign(&good);
    let evidence = Evidence {
        payloads: vec![(b"{}".to_vec(), "AAAA".into()), (good, signature)],
        bundles: vec![b"{}".to_vec()],
    };
    assert_eq!(judge(&keys(&[&other, &signer]), &digest(1), &evidence), Ok(()));
    let stranger = judge(&keys(&[&other]), &digest(1), &evidence).unwrap_err();
    assert!(stranger.contains("not by this key"), "{stranger}");
    let unsigned = judge(&keys(&[&signer]), &digest(1), &Evidence::default()).unwrap_err();
    assert!(unsigned.contains("not signed"), "{unsigned}");
    let by_bundle = Evidence {
        bundles: vec![
            bundle(&signer, STATEMENT_MEDIA_TYPE, &statement(&digest(1), SIGN_PREDICATE))
                .to_string()
                .into_bytes(),
        ],
        payloads: Vec::new(),
    };
    assert_eq!(judge(&keys(&[&signer]), &digest(1), &by_bundle), Ok(()));
    let broken = [CosignKey { key: "no key".into() }];
    let named = judge(&broken, &digest(1), &evidence).unwrap_err();
    assert!(named.starts_with("gates.signature.cosign[0].key"), "{named}");
}
