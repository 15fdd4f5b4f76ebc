//! The data plane, by a real OCI client.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::manifest::{IMAGE_CONFIG_MEDIA_TYPE, IMAGE_LAYER_GZIP_MEDIA_TYPE};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::{Value, json};

use crate::bed::{ACCOUNT, Bed, Keys, OTHER, REGION};

/// Where a principal's token leads to, and its password.
pub(crate) async fn login(bed: &Bed, keys: &Keys, region: &str) -> (String, RegistryAuth) {
    let token = bed.ecr(keys, region).get_authorization_token().send().await.unwrap();
    let data = &token.authorization_data()[0];
    let plain = String::from_utf8(STANDARD.decode(data.authorization_token().unwrap()).unwrap()).unwrap();
    let (user, password) = plain.split_once(':').unwrap();
    assert_eq!(user, "AWS");
    let host = data.proxy_endpoint().unwrap().trim_start_matches("http://").to_owned();
    (host, RegistryAuth::Basic(user.to_owned(), password.to_owned()))
}

pub(crate) fn client(chunked: bool) -> Client {
    Client::new(ClientConfig {
        protocol: ClientProtocol::Http,
        use_monolithic_push: !chunked,
        ..ClientConfig::default()
    })
}

pub(crate) async fn push(
    client: &Client,
    host: &str,
    auth: &RegistryAuth,
    image: &str,
    content: &[u8],
) -> Result<String, String> {
    let reference: Reference = format!("{host}/{image}").parse().unwrap();
    let layer = ImageLayer::new(content.to_vec(), IMAGE_LAYER_GZIP_MEDIA_TYPE.to_owned(), None);
    let config = Config::new(&b"{}"[..], IMAGE_CONFIG_MEDIA_TYPE.to_owned(), None);
    client
        .push(&reference, &[layer], config, auth, None)
        .await
        .map_err(|error| format!("{error:?}"))?;
    client
        .fetch_manifest_digest(&reference, auth)
        .await
        .map_err(|error| format!("{error:?}"))
}

pub(crate) async fn pull(client: &Client, host: &str, auth: &RegistryAuth, image: &str) -> Result<Vec<u8>, String> {
    let reference: Reference = format!("{host}/{image}").parse().unwrap();
    let image = client.pull(&reference, auth, vec![IMAGE_LAYER_GZIP_MEDIA_TYPE]).await;
    Ok(image.map_err(|error| format!("{error:?}"))?.layers[0].data.to_vec())
}

#[tokio::test]
async fn images_go_in_and_come_out_in_one_piece_or_in_chunks() {
    let bed = Bed::start().await;
    let admin = bed.admin(ACCOUNT).await;
    let ecr = bed.ecr(&admin, REGION);
    ecr.create_repository()
        .repository_name("team/app")
        .send()
        .await
        .unwrap();
    let (host, auth) = login(&bed, &admin, REGION).await;
    // The client's chunks have 4 MiB.
    for (tag, chunked) in [("one", false), ("chunks", true)] {
        let content: Vec<u8> = tag.bytes().cycle().take(5 << 20).collect();
        let image = format!("team/app:{tag}");
        let digest = push(&client(chunked), &host, &auth, &image, &content).await.unwrap();
        assert_eq!(pull(&client(false), &host, &auth, &image).await.unwrap(), content);
        let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag(tag).build();
        let seen = ecr
            .describe_images()
            .repository_name("team/app")
            .image_ids(id)
            .send()
            .await
            .unwrap();
        assert_eq!(seen.image_details()[0].image_digest(), Some(digest.as_str()));
        assert_eq!(seen.image_details()[0].image_size_in_bytes(), Some(2 + (5 << 20)));
        assert!(seen.image_details()[0].last_recorded_pull_time().is_some());
    }
}

#[tokio::test]
async fn each_registry_has_its_own_data_plane() {
    let bed = Bed::start().await;
    let (here, there) = (bed.admin(ACCOUNT).await, bed.admin(OTHER).await);
    let (one, auth) = login(&bed, &here, REGION).await;
    let (two, _) = login(&bed, &here, "us-east-1").await;
    let (three, foreign) = login(&bed, &there, REGION).await;
    assert!(one != two && two != three && one != three);
    let shown = bed
        .control("GET", &format!("/registries/{ACCOUNT}/{REGION}"), Value::Null)
        .await
        .unwrap();
    assert_eq!(shown["dataPlane"], format!("http://{one}"));
    bed.ecr(&here, "us-east-1")
        .create_repository()
        .repository_name("app")
        .send()
        .await
        .unwrap();
    // A token is good for all of its principal's registries, and for no other's.
    push(&client(false), &two, &auth, "app:v1", b"content").await.unwrap();
    let refused = push(&client(false), &two, &foreign, "app:v2", b"content").await;
    assert!(refused.unwrap_err().to_lowercase().contains("denied"));
}

#[tokio::test]
async fn unknown_passwords_are_refused() {
    let bed = Bed::start().await;
    let admin = bed.admin(ACCOUNT).await;
    let (host, _) = login(&bed, &admin, REGION).await;
    let get = |password: Option<&str>| {
        let request = reqwest::Client::new().get(format!("http://{host}/v2/"));
        match password {
            Some(password) => request.basic_auth("AWS", Some(password)),
            None => request,
        }
        .send()
    };
    for password in [None, Some("guessed")] {
        let response = get(password).await.unwrap();
        assert_eq!(response.status(), 401);
        let challenge = response.headers()["www-authenticate"].to_str().unwrap();
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
    }
}

#[tokio::test]
async fn pushing_and_pulling_need_rights() {
    let bed = Bed::start().await;
    let admin = bed.admin(ACCOUNT).await;
    bed.ecr(&admin, REGION)
        .create_repository()
        .repository_name("app")
        .send()
        .await
        .unwrap();
    let (host, auth) = login(&bed, &admin, REGION).await;
    push(&client(false), &host, &auth, "app:v1", b"content").await.unwrap();
    let token = json!({ "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*" });
    let read = json!({
        "Effect": "Allow", "Resource": "arn:aws:ecr:eu-west-1:111122223333:repository/app",
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"],
    });
    let reader = bed
        .principal(ACCOUNT, "role", "reader", json!({ "Statement": [token, read] }))
        .await;
    let (_, auth) = login(&bed, &reader, REGION).await;
    assert_eq!(pull(&client(false), &host, &auth, "app:v1").await.unwrap(), b"content");
    let denied = push(&client(false), &host, &auth, "app:v2", b"other")
        .await
        .unwrap_err();
    assert!(
        denied.to_lowercase().contains("denied") && denied.contains("ecr:InitiateLayerUpload"),
        "{denied}"
    );
    // The token follows its principal's rights.
    bed.principal(ACCOUNT, "role", "reader", json!({ "Statement": [token] }))
        .await;
    let denied = pull(&client(false), &host, &auth, "app:v1").await.unwrap_err();
    assert!(denied.to_lowercase().contains("denied"), "{denied}");
}

#[tokio::test]
async fn immutable_tags_hold_on_the_data_plane() {
    let bed = Bed::start().await;
    let admin = bed.admin(ACCOUNT).await;
    let filter = aws_sdk_ecr::types::ImageTagMutabilityExclusionFilter::builder()
        .filter_type(aws_sdk_ecr::types::ImageTagMutabilityExclusionFilterType::Wildcard)
        .filter("dev*")
        .build()
        .unwrap();
    let ecr = bed.ecr(&admin, REGION);
    let create = ecr
        .create_repository()
        .repository_name("app")
        .image_tag_mutability_exclusion_filters(filter);
    create
        .image_tag_mutability("IMMUTABLE_WITH_EXCLUSION".into())
        .send()
        .await
        .unwrap();
    let (host, auth) = login(&bed, &admin, REGION).await;
    for tag in ["dev", "v1"] {
        push(&client(false), &host, &auth, &format!("app:{tag}"), b"first")
            .await
            .unwrap();
    }
    push(&client(false), &host, &auth, "app:dev", b"second").await.unwrap();
    push(&client(false), &host, &auth, "app:v1", b"first").await.unwrap();
    let moved = push(&client(false), &host, &auth, "app:v1", b"second")
        .await
        .unwrap_err();
    assert!(moved.contains("cannot be overwritten"), "{moved}");
}

#[tokio::test]
async fn a_layer_is_read_by_its_download_url_alone() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    ecr.create_repository().repository_name("app").send().await.unwrap();
    crate::images::put(&ecr, "app", "v1").await;
    let digest = crate::images::digest("layer of v1");
    let url = ecr
        .get_download_url_for_layer()
        .repository_name("app")
        .layer_digest(digest)
        .send()
        .await
        .unwrap();
    let url = url.download_url().unwrap();
    let layer = reqwest::get(url).await.unwrap();
    assert_eq!(layer.text().await.unwrap(), "layer of v1");
    let stripped = url.split('?').next().unwrap();
    for unsigned in [stripped.to_owned(), format!("{stripped}?signature=0")] {
        assert_eq!(reqwest::get(unsigned).await.unwrap().status(), 403);
    }
    // As S3 does, which takes the one or the other.
    let both = reqwest::Client::new().get(url).basic_auth("AWS", Some("password"));
    assert_eq!(both.send().await.unwrap().status(), 400);
    let rest = reqwest::Client::new().get(url).header("range", "bytes=9-");
    let rest = rest.send().await.unwrap();
    assert_eq!(rest.status(), 206);
    assert_eq!(rest.headers()["content-range"], "bytes 9-10/11");
    assert_eq!(rest.text().await.unwrap(), "v1");
}

#[tokio::test]
async fn the_data_plane_redirects_for_blobs_is_counted_and_suffers_faults() {
    let bed = Bed::start().await;
    let admin = bed.admin(ACCOUNT).await;
    let ecr = bed.ecr(&admin, REGION);
    ecr.create_repository().repository_name("app").send().await.unwrap();
    let (host, auth) = login(&bed, &admin, REGION).await;
    push(&client(false), &host, &auth, "app:v1", b"content").await.unwrap();
    bed.control("POST", "/calls/reset", Value::Null).await.unwrap();
    assert_eq!(pull(&client(false), &host, &auth, "app:v1").await.unwrap(), b"content");
    let calls = bed.control("GET", "/calls", Value::Null).await.unwrap();
    assert_eq!(calls["dataPlane"]["oci:GetBlob"], 2);
    assert_eq!(calls["dataPlane"]["oci:DownloadBlob"], 2);
    assert_eq!(calls["total"], 0);
    for (effect, sign) in [
        (json!({ "corrupt": true }), "digest"),
        (json!({ "cutAfter": 3 }), "body"),
        (json!({ "code": "SlowDown", "status": 503 }), "503"),
    ] {
        let mut rule = effect;
        rule["operation"] = json!("oci:DownloadBlob");
        bed.control("POST", "/faults", rule).await.unwrap();
        let error = pull(&client(false), &host, &auth, "app:v1").await.unwrap_err();
        assert!(error.to_lowercase().contains(sign), "{sign}: {error}");
        bed.control("DELETE", "/faults", Value::Null).await.unwrap();
    }
    let elsewhere = json!({ "operation": "PutImage", "corrupt": true });
    bed.control("POST", "/faults", elsewhere).await.unwrap_err();
}

#[tokio::test]
async fn blobs_are_mounted_where_the_registry_is_set_to() {
    let bed = Bed::start().await;
    let admin = bed.admin(ACCOUNT).await;
    let ecr = bed.ecr(&admin, REGION);
    for name in ["from", "to"] {
        ecr.create_repository().repository_name(name).send().await.unwrap();
    }
    crate::images::put(&ecr, "from", "v1").await;
    let (host, auth) = login(&bed, &admin, REGION).await;
    let digest = crate::images::digest("layer of v1");
    let RegistryAuth::Basic(user, password) = auth else {
        panic!("a password")
    };
    let mount = || {
        let url = format!("http://{host}/v2/to/blobs/uploads/?mount={digest}&from=from");
        reqwest::Client::new()
            .post(url)
            .basic_auth(&user, Some(&password))
            .send()
    };
    assert_eq!(mount().await.unwrap().status(), 202);
    ecr.put_account_setting()
        .name("BLOB_MOUNTING")
        .value("ENABLED")
        .send()
        .await
        .unwrap();
    assert_eq!(mount().await.unwrap().status(), 201);
    let head = reqwest::Client::new().head(format!("http://{host}/v2/to/blobs/{digest}"));
    let head = head.basic_auth(&user, Some(&password)).send().await.unwrap();
    assert_eq!(head.status(), 200);
}

#[tokio::test]
async fn tokens_last_as_long_as_was_set_for_their_account() {
    let bed = Bed::start().await;
    let (here, there) = (bed.admin(ACCOUNT).await, bed.admin(OTHER).await);
    let lifetime = json!({ "account": ACCOUNT, "millis": 1_500 });
    bed.control("PUT", "/tokens", lifetime).await.unwrap();
    let ecr = bed.ecr(&here, REGION);
    ecr.create_repository().repository_name("app").send().await.unwrap();
    let (host, auth) = login(&bed, &here, REGION).await;
    push(&client(false), &host, &auth, "app:v1", b"content").await.unwrap();
    let lasts = |answer: aws_sdk_ecr::operation::get_authorization_token::GetAuthorizationTokenOutput| {
        let ends = answer.authorization_data()[0].expires_at().unwrap().secs();
        ends - i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap()
    };
    assert!(lasts(ecr.get_authorization_token().send().await.unwrap()) <= 2);
    let other = bed.ecr(&there, REGION).get_authorization_token().send().await.unwrap();
    assert!(lasts(other) > 11 * 3_600);
    let mut tries = 0;
    while pull(&client(false), &host, &auth, "app:v1").await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        tries += 1;
        assert!(tries < 100, "the token does not expire");
    }
    bed.control("PUT", "/tokens", json!({ "account": ACCOUNT }))
        .await
        .unwrap();
    assert!(lasts(ecr.get_authorization_token().send().await.unwrap()) > 11 * 3_600);
}
