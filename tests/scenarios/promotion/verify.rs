//! What must succeed after a rollout, what becomes of an image that proved good, and what a spec says of single images.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_sdk_ecr::types::ImageIdentifier;
use bed::{Behaviour, Effect, Fault};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

use super::play::{Play, workloads};
use crate::support::{OWNER, REGION, run};

/// A verification by a Job of this image.
pub(super) fn job(image: &str) -> Value {
    json!({ "job": { "spec": { "backoffLimit": 0, "template": { "spec": {
        "restartPolicy": "Never", "containers": [{ "name": "check", "image": image }],
    } } } }, "timeout": "40s" })
}

/// The Jobs of a play.
pub(super) async fn jobs(play: &Play) -> Result<Vec<Value>> {
    play.scene.cluster.list("job", Some(&play.scene.name)).await
}

/// Where a tag is.
pub(super) async fn tag(play: &Play, tag: &str) -> Result<String> {
    let id = ImageIdentifier::builder().image_tag(tag).build();
    let describe = play.scene.ecr().await?.describe_images();
    let answer = describe.repository_name(&play.repository).image_ids(id).send().await;
    let answer = answer.map_err(aws_sdk_ecr::Error::from)?;
    let digest = answer.image_details().first().and_then(|image| image.image_digest());
    digest.map(str::to_owned).context("no image")
}

async fn tag_is_on(play: &Play, name: &str, digest: &str) -> Result<()> {
    bed::eventually(super::play::LIMIT, &format!("{name} to be on {digest}"), async || {
        let on = tag(play, name).await?;
        ensure!(on == digest, "it is on {on}");
        Ok(())
    })
    .await
}

#[test]
fn a_job_that_fails_takes_the_image_back() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "verify-job").await?;
        workloads(stage)
            .await?
            .behave("checks.example/verify-bad", Behaviour::Crash);
        play.begin(json!({ "verification": [job("checks.example/verify-good")] }))
            .await?;
        ensure!(jobs(&play).await?.is_empty(), "what ran already needs no proof");
        let second = play.push("1.1.0").await?;
        play.look().await?;
        let status = play.runs(&second).await?;
        ensure!(status["lastGood"]["digest"] == second.as_str(), "{status:#}");

        let job_ = jobs(&play).await?.pop().context("no Job")?;
        let promotion = play.scene.get("imagepromotion", "app").await?;
        let owner = &job_["metadata"]["ownerReferences"][0];
        ensure!(
            owner["kind"] == "ImagePromotion" && owner["uid"] == promotion["metadata"]["uid"],
            "{owner}"
        );
        let env = job_["spec"]["template"]["spec"]["containers"][0]["env"].to_string();
        for (name, value) in [
            ("ECR_OPERATOR_IMAGE", play.image(&second)),
            ("ECR_OPERATOR_DIGEST", second.clone()),
            ("ECR_OPERATOR_TAG", "1.1.0".to_owned()),
        ] {
            let entry = json!({ "name": name, "value": value }).to_string();
            ensure!(env.contains(&entry), "{env} lacks {entry}");
        }

        play.promote(json!({ "verification": [job("checks.example/verify-bad")] }))
            .await?;
        let third = play.push("1.2.0").await?;
        play.look().await?;
        let status = play.taken_back(&third).await?;
        let reason = status["rejected"][0]["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains("verification 0 failed: Job "), "{reason}");
        play.runs(&second).await.map(drop)
    })
}

#[test]
fn a_job_that_a_quota_refuses_is_told_of_and_given_up_in_time() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "verify-quota").await?;
        let mut check = job("checks.example/verify-good");
        check["timeout"] = json!("8s");
        let first = play.begin(json!({ "verification": [check] })).await?;
        let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": { "name": "no-jobs", "namespace": play.scene.name },
            "spec": { "hard": { "count/jobs.batch": "0" } } });
        play.scene.apply(&quota).await?;
        bed::eventually(super::play::LIMIT, "the quota to hold", async || {
            let probe = ["create", "job", "probe", "--image=probe", "--dry-run=server"];
            match play.kubectl(&probe).await {
                Err(error) if format!("{error:#}").contains("exceeded quota") => Ok(()),
                Err(error) => Err(error),
                Ok(_) => Err(anyhow!("it lets a Job through")),
            }
        })
        .await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        play.says("exceeded quota: no-jobs").await?;
        let status = play.taken_back(&second).await?;
        let reason = status["rejected"][0]["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains("verification 0 did not succeed within 8s"), "{reason}");
        play.runs(&first).await.map(drop)
    })
}

/// A server that answers every request with this body, as long as it is not dropped.
struct Answering {
    url: String,
    body: Arc<Mutex<String>>,
    asked: Arc<AtomicU32>,
    serving: JoinHandle<()>,
}

impl Answering {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (body, asked) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicU32::new(0)));
        let (answer, count) = (Arc::clone(&body), Arc::clone(&asked));
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => request.push(byte),
                        Err(_) => break,
                    }
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                if request.starts_with("GET /api/v1/query?query=errors") {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                let body = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                // A client that went away is none of the server's business.
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        Ok(Self {
            url,
            body,
            asked,
            serving,
        })
    }

    /// As Prometheus says that the query gives this.
    fn gives(&self, value: &str) {
        let answer = json!({ "status": "success", "data": { "resultType": "scalar", "result": [1, value] } });
        *self.body.lock().unwrap_or_else(PoisonError::into_inner) = answer.to_string();
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn query(address: &str) -> Value {
    json!([{ "prometheus": { "address": address, "query": "errors", "successWhen": "< 0.01", "interval": "1s" },
        "timeout": "30s" }])
}

/// On a cluster without pods: the promotion copies and verifies.
#[test]
fn a_query_decides_whether_an_image_is_good() -> Result<()> {
    run(async |stage| {
        let prometheus = Answering::start().await?;
        let cluster = stage.bare_cluster().await?;
        let args = ["--allow-address", &prometheus.url];
        let _operator = stage.operator_with("verify-query", cluster, OWNER, &args).await?;
        let play = Play::open_on(stage, cluster, "verify-query").await?;
        play.scene.settled("copies", json!({})).await?;
        super::copying::let_copy(&play.scene, REGION).await?;
        let first = play.push("1.0.0").await?;
        prometheus.gives("0.001");
        play.promote(json!({
            "targets": null, "copyTo": { "repositoryRef": { "name": "copies" } },
            "verification": query(&prometheus.url),
        }))
        .await?;
        let good = |digest: String| move |status: &Value| status["lastGood"]["digest"] == digest.as_str();
        play.until("the first to be good", good(first.clone())).await?;
        ensure!(prometheus.asked.load(Ordering::Relaxed) > 0, "nobody asked");

        // No answer is not a bad one.
        prometheus.gives("NaN");
        let second = play.push("1.1.0").await?;
        play.look().await?;
        play.says("the query has no answer yet").await?;
        prometheus.gives("0.002");
        play.until("the second to be good", good(second.clone())).await?;

        prometheus.gives("0.5");
        let third = play.push("1.2.0").await?;
        play.look().await?;
        let status = play.taken_back(&third).await?;
        let reason = status["rejected"][0]["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains("the query gave 0.5, which is not < 0.01"), "{reason}");
        ensure!(status["current"]["digest"] == second.as_str(), "{status:#}");
        Ok(())
    })
}

#[test]
fn an_address_that_the_installation_does_not_allow_is_not_asked() -> Result<()> {
    run(async |stage| {
        let prometheus = Answering::start().await?;
        prometheus.gives("0");
        let play = Play::open(stage, "verify-address").await?;
        let first = play.begin(json!({ "verification": query(&prometheus.url) })).await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        let status = play.taken_back(&second).await?;
        let reason = status["rejected"][0]["reason"].as_str().unwrap_or_default();
        ensure!(
            reason.contains("this installation does not allow http://127.0.0.1:"),
            "{reason}"
        );
        ensure!(reason.contains("--allow-address"), "{reason}");
        ensure!(prometheus.asked.load(Ordering::Relaxed) == 0, "it was asked");
        play.runs(&first).await.map(drop)
    })
}

#[test]
fn the_tag_of_good_images_is_put_on_and_goes_back_after_a_later_failure() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "verify-tag").await?;
        let first = play.begin(json!({ "onVerified": { "tag": "verified" } })).await?;
        tag_is_on(&play, "verified", &first).await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        play.runs(&second).await?;
        tag_is_on(&play, "verified", &second).await?;
        play.request("reject", &format!("one {second} it leaks")).await?;
        play.runs(&first).await?;
        tag_is_on(&play, "verified", &first).await?;

        // It fails before it is good: the tag never moves to it.
        let third = play.push_bad("1.2.0", Behaviour::Crash).await?;
        play.look().await?;
        play.taken_back(&third).await?;
        play.runs(&first).await?;
        tag_is_on(&play, "verified", &first).await
    })
}

#[test]
fn the_spec_pins_an_image_and_forbids_one() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "verify-pin").await?;
        let first = play.begin(json!({})).await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        play.runs(&second).await?;
        play.promote(json!({ "pin": { "digest": first, "reason": "an audit" } }))
            .await?;
        let status = play.runs(&first).await?;
        ensure!(status["history"][0]["kind"] == "Pin", "{status:#}");
        let third = play.push("1.2.0").await?;
        play.looked().await?;
        let status = play.runs(&first).await?;
        ensure!(status["phase"] == "Pinned", "{status:#}");
        play.promote(json!({})).await?;
        play.runs(&third).await?;
        play.promote(json!({ "reject": [{ "digest": third, "reason": "it is slow" }] }))
            .await?;
        play.runs(&second).await?;
        play.looked().await?;
        play.runs(&second).await?;
        let digest = play.push("1.3.0").await?;
        play.look().await?;
        play.runs(&digest).await?;
        let status = play.status().await?;
        ensure!(status["hold"].is_null(), "{status:#}");
        Ok(())
    })
}

/// On a cluster without pods: the promotion copies, and tags the copy.
#[test]
fn killed_when_it_has_moved_the_tag_the_operator_knows_it_for_its_own() -> Result<()> {
    run(async |stage| {
        let cluster = stage.bare_cluster().await?;
        let operator = stage.rare_operator("verify-kill", cluster).await?;
        let play = Play::open_on(stage, cluster, "verify-kill").await?;
        super::copying::let_copy(&play.scene, REGION).await?;
        play.scene.settled("copies", json!({})).await?;
        let copies = Play {
            repository: "verify-kill/copies".to_owned(),
            scene: play.scene.clone(),
            uri: String::new(),
            operator: play.operator,
            workloads: None,
        };
        let first = play.push("1.0.0").await?;
        play.promote(json!({
            "targets": null, "copyTo": { "repositoryRef": { "name": "copies" } },
            "onVerified": { "tag": "verified" }, "interval": "1d",
        }))
        .await?;
        let tagged = |digest: String| move |status: &Value| status["verifiedTag"]["digest"] == digest.as_str();
        play.until("the first to be tagged", tagged(first)).await?;
        let hold = Fault::new("PutImage", Effect::Hold).after();
        let hold = stage.aws.inject(&hold.registry(&play.scene.account, REGION)).await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        stage.aws.held(&hold, super::play::LIMIT).await?;
        operator.kill();
        stage.aws.remove_fault(&hold).await?;
        ensure!(tag(&copies, "verified").await? == second, "it was moved before");
        operator.restart().await?;
        play.until("the second to be tagged", tagged(second.clone())).await?;
        ensure!(tag(&copies, "verified").await? == second, "it was moved again");
        let others = play.scene.events("app", "TagMovedByOther").await?;
        ensure!(others.is_empty(), "{others:?}");
        Ok(())
    })
}
