//! Verifications: a Job that must complete, a query whose answer must fulfil a condition.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::batch::v1::{Job, JobSpec},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};
use serde_json::Value;

use super::Run;
use crate::{
    api::promotion::{ImageStatus, PrometheusVerification},
    control::error::{Error, Result},
    promotion::{condition, facts::Progress, job, patch},
};

/// How long Prometheus may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The most that is read of an answer.
const LONGEST: usize = 1024 * 1024;

/// The last answers, so that a query is asked at its own interval and not with every look.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<HashMap<String, (u64, u8, Instant, Progress)>>);

impl Answers {
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    fn recent(&self, uid: &str, rollout: u64, index: u8, within: Duration) -> Option<Progress> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, at, when, progress) = answers.get(uid)?;
        ((*of, *at) == (rollout, index) && when.elapsed() < within).then(|| progress.clone())
    }

    fn note(&self, uid: String, rollout: u64, index: u8, progress: Progress) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(uid, (rollout, index, Instant::now(), progress));
    }
}

impl Run<'_> {
    /// How far a verification is.
    pub(super) async fn look_at_check(&mut self, index: u8, rollout: u64) -> Result<()> {
        let verification = self.object.spec.verification.get(usize::from(index)).cloned();
        let progress = match verification {
            None => Progress::Done,
            Some(verification) => match (verification.job, verification.prometheus) {
                (Some(_), _) => self.job_progress(index, rollout).await?,
                (None, Some(prometheus)) => self.query_progress(&prometheus, index, rollout).await,
                (None, None) => Progress::Failed("it has neither a job nor a query".into()),
            },
        };
        self.facts.check = Some((index, progress));
        Ok(())
    }

    fn jobs(&self) -> Api<Job> {
        let namespace = self.object.namespace().unwrap_or_default();
        Api::namespaced(self.ctx.client.clone(), &namespace)
    }

    /// One name for each run, so that one which was started already is found again after a restart.
    fn job_name(&self, index: u8, rollout: u64) -> String {
        let uid = self.uid();
        let name: String = self.object.name_any().chars().take(30).collect();
        let short: String = uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        format!(
            "{}-{short}-{rollout}-{index}",
            name.trim_end_matches(['-', '.']).replace('.', "-")
        )
    }

    async fn job_progress(&self, index: u8, rollout: u64) -> Result<Progress> {
        let name = self.job_name(index, rollout);
        let job = self
            .jobs()
            .get_opt(&name)
            .await
            .map_err(Error::kube("read the verification's Job"))?;
        let Some(job) = job else {
            return Ok(Progress::NotStarted);
        };
        let owned = job
            .owner_references()
            .iter()
            .any(|owner| Some(&owner.uid) == self.object.uid().as_ref());
        if !owned {
            return Ok(Progress::Failed(format!(
                "a Job {name} exists that is not this promotion's"
            )));
        }
        let conditions = job.status.and_then(|status| status.conditions).unwrap_or_default();
        let find = |kind: &str| {
            conditions
                .iter()
                .find(|condition| condition.type_ == kind && condition.status == "True")
        };
        Ok(match (find("Complete"), find("Failed")) {
            (Some(_), _) => Progress::Done,
            (None, Some(failed)) => {
                let why = failed.message.clone().unwrap_or_else(|| "it failed".into());
                Progress::Failed(format!("Job {name}: {why}"))
            }
            (None, None) => Progress::Running(format!("Job {name} runs")),
        })
    }

    /// Starts a verification; a Job that is there already is a success.
    pub(super) async fn start_check(&mut self, index: u8, rollout: u64, image: &ImageStatus) -> Result<()> {
        let verification = self.object.spec.verification.get(usize::from(index)).cloned();
        self.facts.check = None;
        let Some((job, timeout)) =
            verification.and_then(|verification| Some((verification.job?, verification.timeout)))
        else {
            return Ok(());
        };
        let name = self.job_name(index, rollout);
        let repository = self.place()?.runs().uri.clone();
        let refused = |why: String| Error::Refused {
            what: format!("create Job {name}"),
            why,
        };
        let text = patch::by_digest(&repository, &image.digest);
        let spec = job::spec(&job, timeout.duration(), &text, image);
        let spec: JobSpec =
            serde_json::from_value(spec).map_err(|error| refused(format!("verification {index}: {error}")))?;
        let body = Job {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: self.object.namespace(),
                owner_references: self.object.controller_owner_ref(&()).map(|owner| {
                    // A finalizer on the promotion is not the Job's business.
                    vec![OwnerReference {
                        block_owner_deletion: None,
                        ..owner
                    }]
                }),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
            status: None,
        };
        match self.jobs().create(&PostParams::default(), &body).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(Error::write(&format!("Job {name}"), error)),
        }
    }

    /// The answer to a query, asked at most once in its interval.
    async fn query_progress(&self, query: &PrometheusVerification, index: u8, rollout: u64) -> Progress {
        let promoting = &self.ctx.world.promoting;
        let uid = self.uid();
        if let Some(progress) = promoting
            .answers
            .recent(&uid, rollout, index, query.interval.duration())
        {
            return progress;
        }
        let began = self.status.rollout.as_ref().map(|rollout| rollout.since);
        let held = began.is_some_and(|began| {
            let held = Duration::try_from(Timestamp::now().duration_since(began)).unwrap_or_default();
            held >= query.hold.duration()
        });
        let progress = match self.ask(query).await {
            Ok(value) => match condition::holds(&query.success_when, value) {
                Ok(true) if held => Progress::Done,
                Ok(true) => Progress::Running(format!("the query holds and is watched for {}", query.hold)),
                Ok(false) => Progress::Failed(format!("the query gave {value}, which is not {}", query.success_when)),
                Err(wrong) => Progress::Failed(wrong),
            },
            Err(Unanswered::Never(why)) => Progress::Failed(why),
            Err(Unanswered::NotNow(why)) => Progress::Running(format!("the query has no answer yet: {why}")),
        };
        promoting.answers.note(uid, rollout, index, progress.clone());
        progress
    }

    async fn ask(&self, query: &PrometheusVerification) -> Result<f64, Unanswered> {
        let allowed = &self.ctx.world.promoting.settings.allowed_addresses;
        let address = condition::allowed(&query.address, allowed).map_err(Unanswered::Never)?;
        let base = address.trim_end_matches('/');
        let answer = self
            .ctx
            .world
            .promoting
            .http
            .get(format!("{base}/api/v1/query"))
            .query(&[("query", &query.query)])
            .timeout(ANSWER)
            .send()
            .await
            .map_err(|error| Unanswered::NotNow(error.without_url().to_string()))?;
        if !answer.status().is_success() {
            return Err(Unanswered::NotNow(format!(
                "Prometheus answered {}",
                answer.status().as_u16()
            )));
        }
        let body = super::publish::read(answer, LONGEST)
            .await
            .map_err(Unanswered::NotNow)?;
        let body: Value =
            serde_json::from_slice(&body).map_err(|_| Unanswered::NotNow("its answer is not JSON".into()))?;
        condition::value(&body).map_err(Unanswered::NotNow)
    }
}

/// Why a query has no answer.
enum Unanswered {
    /// It will not have one.
    Never(String),
    NotNow(String),
}
