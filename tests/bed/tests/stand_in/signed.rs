//! Calls signed by hand, for what the SDK does not do.

use aws_lc_rs::hmac;
use bed_programs::{hexadecimal, sha256};
use jiff::Timestamp;
use serde_json::Value;

use crate::bed::{Bed, Keys, REGION};

/// An answer: its status, its request id, and its body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) request_id: String,
    pub(crate) body: String,
}

/// Posts `body` to a service; headers have to be in the order of their names.
pub(crate) async fn post(bed: &Bed, keys: &Keys, service: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = &time[..8];
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
    let canonical = format!("POST\n/\n\n{lines}\n\n{names}\n{}", sha256(body));
    let scope = format!("{date}/{REGION}/{service}/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(&canonical));
    // Signature version 4: each part of the scope is signed with what the part before gave.
    let key = [date, REGION, service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{}", keys.secret).into_bytes(), |key, part| {
            sign(&key, part)
        });
    let signature = hexadecimal(&sign(&key, &to_sign));
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

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
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
