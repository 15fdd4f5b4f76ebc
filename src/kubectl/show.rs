//! `status` and `history`: read, print, and print again at each change.

use std::{io::IsTerminal as _, process::ExitCode};

use clap::ValueEnum;
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::ListParams,
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    connect::{Cluster, prose},
    text,
};
use crate::{
    api::{ImagePromotion, promotion::request::requests},
    terminal::{self, Outcome},
};

/// Of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// The promotion. Default: all of the namespace.
    name: Option<String>,

    /// The promotions of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "name")]
    all_namespaces: bool,

    #[command(flatten)]
    printing: Printing,
}

/// Of `history`.
#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    /// The promotion.
    name: String,

    #[command(flatten)]
    printing: Printing,
}

#[derive(Debug, clap::Args)]
struct Printing {
    /// How to print. Default: a table.
    #[arg(short, long, value_enum)]
    output: Option<Format>,

    /// Print again at each change; of one promotion, until it has settled.
    #[arg(short, long)]
    watch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Format {
    fn print(self, value: &impl Serialize) -> Result<String, String> {
        match self {
            Self::Json => serde_json::to_string_pretty(value)
                .map(|text| text + "\n")
                .map_err(|error| error.to_string()),
            Self::Yaml => serde_yaml_ng::to_string(value)
                .map(|text| format!("---\n{text}"))
                .map_err(|error| error.to_string()),
        }
    }
}

pub(super) async fn status(cluster: &Cluster, args: &StatusArgs) -> Outcome {
    let output = args.printing.output;
    if let Some(name) = &args.name {
        let render = |promotion: &ImagePromotion| match output {
            Some(format) => format.print(&bare(promotion)),
            None => Ok(text::detail(promotion, Timestamp::now())),
        };
        return one(cluster, name, &args.printing, render).await;
    }
    let api = if args.all_namespaces {
        Api::all(cluster.client.clone())
    } else {
        cluster.promotions()
    };
    let render = |promotions: &[ImagePromotion]| match output {
        Some(format) => {
            let items: Vec<_> = promotions.iter().map(bare).collect();
            format.print(&json!({ "apiVersion": "v1", "kind": "List", "items": items }))
        }
        None if promotions.is_empty() && args.all_namespaces => Ok("there is no ImagePromotion\n".into()),
        None if promotions.is_empty() => {
            let namespace = &cluster.namespace;
            Ok(format!("there is no ImagePromotion in namespace {namespace}\n"))
        }
        None => Ok(text::list(promotions, args.all_namespaces, Timestamp::now())),
    };
    let listed = api.list(&ListParams::default()).await.map_err(|error| prose(&error))?;
    if args.printing.watch {
        let render = |promotions: &[ImagePromotion]| render(promotions).map(|text| (text, None));
        watch(api, watcher::Config::default(), render).await
    } else {
        terminal::print(&render(&sorted(listed.items))?)
    }
}

pub(super) async fn history(cluster: &Cluster, args: &HistoryArgs) -> Outcome {
    let output = args.printing.output;
    let render = |promotion: &ImagePromotion| {
        let entries = promotion.status.as_ref().map(|status| status.history.as_slice());
        let entries = entries.unwrap_or_default();
        match output {
            Some(format) => format.print(&entries),
            None => Ok(text::history(entries, Timestamp::now())),
        }
    };
    one(cluster, &args.name, &args.printing, render).await
}

/// Prints one promotion, again and again if that is wanted, until it has settled.
async fn one(
    cluster: &Cluster,
    name: &str,
    printing: &Printing,
    render: impl Fn(&ImagePromotion) -> Result<String, String>,
) -> Outcome {
    let promotion = cluster.promotion(name).await?;
    if !printing.watch {
        return terminal::print(&render(&promotion)?);
    }
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watch(cluster.promotions(), config, |promotions| match promotions {
        [promotion] => Ok((render(promotion)?, settled(promotion))),
        _ => Err(format!("{name} was deleted")),
    })
    .await
}

/// Whether nothing more is to be expected without a change from outside, and whether that is as the spec says.
fn settled(promotion: &ImagePromotion) -> Option<bool> {
    let status = promotion.status.as_ref()?;
    let is = |type_: &str| {
        let condition = text::condition(status, type_);
        condition.is_some_and(|condition| {
            condition.status == "True" && condition.observed_generation == promotion.metadata.generation
        })
    };
    if promotion.spec.suspend {
        return Some(true);
    }
    let is_asked = !requests(promotion.annotations(), &status.last_handled_requests).is_empty();
    if is_asked || status.rollout.is_some() {
        return None;
    }
    let (ready, stalled) = (is("Ready"), is("Stalled"));
    (ready || stalled).then_some(ready)
}

/// Prints what `render` makes of the objects at each change, until it says how it ended or nobody reads any more.
async fn watch(
    api: Api<ImagePromotion>,
    config: watcher::Config,
    render: impl Fn(&[ImagePromotion]) -> Result<(String, Option<bool>), String>,
) -> Outcome {
    let (seen, writer) = reflector::store();
    let events = watcher(api, config).default_backoff().reflect(writer);
    let mut events = std::pin::pin!(events);
    let clears = std::io::stdout().is_terminal();
    let mut complete = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::InitDone) => complete = true,
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_)) if complete => {}
            Err(error) if is_final(&error) => return Err(format!("the promotions cannot be watched: {error}")),
            // Not all are known yet; or the cluster is away, and the watch goes on when it is back.
            Ok(_) | Err(_) => continue,
        }
        let promotions = seen.state().iter().map(|promotion| (**promotion).clone()).collect();
        let (text, ended) = render(&sorted(promotions))?;
        let clear = if clears { "\u{1b}[H\u{1b}[2J" } else { "" };
        let is_read = terminal::write(&format!("{clear}{text}"))?;
        match ended {
            Some(false) => return Ok(ExitCode::FAILURE),
            None if is_read => {}
            Some(true) | None => return Ok(ExitCode::SUCCESS),
        }
    }
    Err("the watch ended".into())
}

/// Whether asking again would be answered in the same way.
fn is_final(error: &watcher::Error) -> bool {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        _ => return false,
    };
    [401, 403, 404].contains(&code)
}

fn sorted(mut promotions: Vec<ImagePromotion>) -> Vec<ImagePromotion> {
    promotions.sort_by_key(|promotion| (promotion.namespace(), promotion.name_any()));
    promotions
}

/// The object without what only the apiserver needs, as kubectl shows it.
fn bare(promotion: &ImagePromotion) -> Value {
    let mut promotion = promotion.clone();
    promotion.metadata.managed_fields = None;
    serde_json::to_value(promotion).unwrap_or_default()
}
