//! Calls signed by hand, for what the SDK does not do.

use fakecloud_aws::sigv4::sign_string;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::bed::{Bed, Keys, REGION};

/// An answer: its status, its request id, and its body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) request_id: String,
    pub(crate) body: String,
}

/// Posts `body` to a service; headers have to be in the order of their names.
pub(crate) async fn post(bed: &Bed, keys: &Keys, service: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let now = chrono::Utc::now();
    let time = now.format("%Y%m%dT%H%M%SZ").to_string();
    let date = &time[..8];
    let sha = |text: &str| format!("{:x}", Sha256::digest(text));
    let host = bed.endpoint.trim_start_matches("http://");
    let mut signed = vec![("host", host), ("x-amz-date", time.as_str())];
    signed.extend_from_slice(headers);
    signed.sort_unstable();
    let lines = signed
        .iter()
        .map(|(name, value)| format!("{name}:{value}"))
        .collect::<Vec<_>>()
        .join("\n");
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let canonical = format!("POST\n/\n\n{lines}\n\n{names}\n{}", sha(body));
    let scope = format!("{date}/{REGION}/{service}/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha(&canonical));
    let signature = sign_string(&keys.secret, date, REGION, service, &to_sign);
    let credential = format!("{}/{scope}", keys.id);
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}");
    let mut request = reqwest::Client::new()
        .post(&bed.endpoint)
        .header("authorization", authorization);
    for (name, value) in signed.iter().filter(|(name, _)| *name != "host") {
        request = request.header(*name, *value);
    }
    let response = request.body(body.to_owned()).send().await.unwrap();
    let id = response.headers().get("x-amzn-requestid");
    Answer {
        status: response.status().as_u16(),
        request_id: id.map(|id| id.to_str().unwrap().to_owned()).unwrap_or_default(),
        body: response.text().await.unwrap(),
    }
}

/// A call to ECR: status, request id and body of its answer.
pub(crate) async fn ecr(bed: &Bed, keys: &Keys, operation: &str, body: &Value) -> (u16, String, Value) {
    let target = format!("AmazonEC2ContainerRegistry_V20150921.{operation}");
    let headers = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", target.as_str()),
    ];
    let answer = post(bed, keys, "ecr", &headers, &body.to_string()).await;
    (
        answer.status,
        answer.request_id,
        serde_json::from_str(&answer.body).unwrap(),
    )
}
