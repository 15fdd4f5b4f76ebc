//! The requests: one annotation is written, and its answer waited for.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Subcommand;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::json;

use super::{
    connect::{Cluster, prose},
    image, text,
};
use crate::{
    api::{
        ImagePromotion,
        names::Digest,
        promotion::{
            ImagePromotionStatus,
            request::{DigestOrTag, Request, annotation, requests},
        },
        span::Span,
    },
    terminal::{self, Outcome},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Roll out the image that the policy picks, or another of the repository, also where a hold keeps it back.
    Promote {
        #[command(flatten)]
        common: Common,

        /// A digest or a tag of the repository. Default: what the policy picks.
        #[arg(value_name = "DIGEST|TAG")]
        image: Option<DigestOrTag>,

        #[command(flatten)]
        why: Why,
    },
    /// Go back to an earlier image and stay there until a newer one comes.
    Rollback {
        #[command(flatten)]
        common: Common,

        /// A digest, its first digits, or a name that `history` shows. Default: the last good image.
        #[arg(value_name = "IMAGE")]
        image: Option<String>,

        #[command(flatten)]
        why: Why,
    },
    /// Approve an image, in your own name. Needs the verb `approve`.
    Approve {
        #[command(flatten)]
        common: Common,

        /// A digest, its first digits, or a name that `status` shows. Default: the candidate, which is shown.
        #[arg(value_name = "IMAGE")]
        image: Option<String>,
    },
    /// Never roll out an image again; where it runs, it is taken back.
    Reject {
        #[command(flatten)]
        common: Common,

        /// A digest, its first digits, or a name that `status` shows.
        #[arg(value_name = "IMAGE")]
        image: String,

        #[command(flatten)]
        why: Why,
    },
    /// Stay on an image until `resume`, whatever the policy picks.
    Pin {
        #[command(flatten)]
        common: Common,

        /// A digest, its first digits, or a name that `history` shows. Default: the current image.
        #[arg(value_name = "IMAGE")]
        image: Option<String>,

        #[command(flatten)]
        why: Why,
    },
    /// End a hold or a pin: the policy decides again.
    Resume {
        #[command(flatten)]
        common: Common,
    },
}

/// What every request takes.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// The promotion.
    name: String,

    /// Whether to wait for the operator's answer.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    wait: bool,

    /// How long to wait for it.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    timeout: Span,
}

#[derive(Debug, clap::Args)]
pub(super) struct Why {
    /// Why, for whoever reads the history later; one line.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

pub(super) async fn main(cluster: &Cluster, command: Command) -> Outcome {
    let (common, request) = match command {
        Command::Promote { common, image, why } => {
            let reason = why.reason;
            (common, Asked::Ready(Request::Promote { image, reason }))
        }
        Command::Rollback { common, image, why } => (common, Asked::Rollback(image, why.reason)),
        Command::Approve { common, image } => (common, Asked::Approve(image)),
        Command::Reject { common, image, why } => (common, Asked::Reject(image, why.reason)),
        Command::Pin { common, image, why } => (common, Asked::Pin(image, why.reason)),
        Command::Resume { common } => (common, Asked::Ready(Request::Resume)),
    };
    let promotion = cluster.promotion(&common.name).await?;
    let status = promotion.status.clone().unwrap_or_default();
    let request = match request {
        Asked::Ready(request) => request,
        Asked::Rollback(image, reason) => Request::Rollback {
            digest: meant(image.as_deref(), &status)?,
            reason,
        },
        Asked::Pin(image, reason) => Request::Pin {
            digest: meant(image.as_deref(), &status)?,
            reason,
        },
        Asked::Reject(image, reason) => Request::Reject {
            digest: image::resolve(&image, &status)?,
            reason,
        },
        Asked::Approve(image) => {
            let digest = match meant(image.as_deref(), &status)? {
                Some(digest) => digest,
                None => candidate(&common.name, &status)?,
            };
            let by = user(cluster).await?;
            Request::Approve { digest, by }
        }
    };
    // No two requests of one promotion are written in one microsecond.
    let value = request.value(&Timestamp::now().to_string())?;
    send(cluster, &promotion, &common, request.name(), &value).await
}

/// A request whose image is still as it was named.
enum Asked {
    Ready(Request),
    Rollback(Option<String>, String),
    Pin(Option<String>, String),
    Reject(String, String),
    Approve(Option<String>),
}

fn meant(image: Option<&str>, status: &ImagePromotionStatus) -> Result<Option<Digest>, String> {
    image.map(|image| image::resolve(image, status)).transpose()
}

/// The candidate, shown before it is approved.
fn candidate(name: &str, status: &ImagePromotionStatus) -> Result<Digest, String> {
    let candidate = status.candidate.as_ref().ok_or_else(|| {
        format!("{name} has no candidate that could be approved; kubectl ecr status {name} says why, or name a digest")
    })?;
    terminal::print(&format!("candidate: {}\n", text::image(candidate, Timestamp::now())))?;
    Ok(candidate.digest.clone())
}

/// The name by which the cluster knows us.
async fn user(cluster: &Cluster) -> Result<String, String> {
    let reviews: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    let review = reviews
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .map_err(|error| prose(&error))?;
    let user = review.status.and_then(|status| status.user_info?.username);
    user.ok_or_else(|| "the cluster does not say which user you are".to_owned())
}

async fn send(
    cluster: &Cluster,
    promotion: &ImagePromotion,
    common: &Common,
    request: &'static str,
    value: &str,
) -> Outcome {
    let name = &common.name;
    let api = cluster.promotions();
    let key = annotation(request);
    if handled(promotion, request, value) {
        return terminal::print(&format!("{request}: was asked for and answered before\n"));
    }
    if request == "approve" {
        await_earlier(cluster, promotion, common).await?;
    }
    let settings = PatchParams {
        field_manager: Some("kubectl-ecr".into()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { key.as_str(): value } } }));
    api.patch(name, &settings, &patch)
        .await
        .map_err(|error| format!("{request} was refused: {}", prose(&error)))?;
    if !common.wait {
        return terminal::print(&format!("{request}: asked for\n"));
    }
    if promotion.spec.suspend {
        return Err(format!(
            "{name} is suspended: the request is written down and is answered once spec.suspend is false"
        ));
    }
    let answered = await_condition(api, name, |found: Option<&ImagePromotion>| {
        found.is_none_or(|promotion| handled(promotion, request, value))
    });
    let answer = tokio::time::timeout(common.timeout.duration(), answered)
        .await
        .map_err(|_| {
            format!(
                "the request is written down, but the operator has not answered within {}; see whether it runs, and \
                 kubectl ecr status {name}",
                common.timeout
            )
        })?
        .map_err(|error| format!("the request is written down, but its answer cannot be watched: {error}"))?;
    let promotion = answer.ok_or_else(|| format!("{name} was deleted before the request was answered"))?;
    let words = promotion.status.and_then(|status| status.last_answer);
    let words = words.unwrap_or_else(|| "done".to_owned());
    terminal::print(&format!("{request}: {}\n", terminal::table::plain(&words)))?;
    Ok(ExitCode::SUCCESS)
}

/// Waits until an approval that somebody else wrote down was taken in: an annotation holds one only, and a second would
/// take the place of the first.
async fn await_earlier(cluster: &Cluster, promotion: &ImagePromotion, common: &Common) -> Result<(), String> {
    let is_free = |promotion: &ImagePromotion| {
        let empty = BTreeMap::new();
        let status = promotion.status.as_ref();
        let handled = status.map_or(&empty, |status| &status.last_handled_requests);
        !requests(promotion.annotations(), handled)
            .iter()
            .any(|(name, ..)| *name == "approve")
    };
    if is_free(promotion) {
        return Ok(());
    }
    let free = await_condition(cluster.promotions(), &common.name, |found: Option<&ImagePromotion>| {
        found.is_none_or(is_free)
    });
    let waited = tokio::time::timeout(common.timeout.duration(), free).await;
    match waited {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("an earlier approval cannot be waited for: {error}")),
        Err(_) => Err(format!(
            "an earlier approval was not answered within {}, and this one would take its place; see whether the \
             operator runs, and ask again",
            common.timeout
        )),
    }
}

fn handled(promotion: &ImagePromotion, request: &str, value: &str) -> bool {
    let status = promotion.status.as_ref();
    status.is_some_and(|status| {
        status
            .last_handled_requests
            .get(request)
            .is_some_and(|last| last == value)
    })
}
