//! `ecr-operator run`

mod work;

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, RwLock},
    time::Duration,
};

use futures::{FutureExt as _, channel::mpsc};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, runtime::reflector::store};
use tokio::signal::unix::{SignalKind, signal};

use self::work::{Hinted, Writers, watch, work};
use crate::{
    api::{
        ClusterLifecyclePolicy, ImagePromotion, LifecyclePolicy, PullSecret, PullThroughCacheRule, Registry,
        ReplicationConfig, Repository, RepositoryCreationTemplate, names::OwnerId,
    },
    control::{
        context::{Context, Memory},
        driven::Driven as _,
        events::Events,
        gate::Gate,
        lead::{self, Candidate},
        managed::Managed,
        spawn::Readiness,
        turns::Turns,
    },
    controllers::{
        lifecycle::nudge::Policies,
        prefixed::Watches,
        promotion::shared::{Promoting, Settings},
        pull_secret::watch::Pulls,
        registry::documents,
        world::{Identity, World},
    },
    events::queues::Queues,
    in_use,
    metrics::Metrics,
    server::{self, Served},
    telemetry::{self, LogFormat},
    terminal::{self, Outcome},
};

/// How long the first answer of the apiserver is waited for.
const ANSWER: Duration = Duration::from_secs(20);

/// Runs the operator until SIGTERM or Ctrl-C. Of several in one cluster one leads and the others stand by; one that loses
/// the lead ends with an error, to be started again. It finds the cluster by the pod's `ServiceAccount` or by KUBECONFIG, and
/// AWS by the SDK's default chain: environment, IRSA, EKS Pod Identity.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The name under which this installation claims registries and marks what is its own: 1 to 40 letters, digits, '.',
    /// '_', '-'. It must stay the same when the cluster is rebuilt, and differ from every other installation's.
    #[arg(long, env = "ECR_OPERATOR_OWNER_ID", value_name = "NAME")]
    owner_id: OwnerId,

    /// How often each registry is listed, which is how soon a change of what the listing shows is noticed. 1s to 1h.
    #[arg(long, env = "ECR_OPERATOR_INVENTORY_INTERVAL", value_name = "TIME", default_value = "60s",
          value_parser = |text: &str| duration(text, 1, 3_600))]
    inventory_interval: Duration,

    /// How often is looked which images are in use: what this cluster runs, and what other clusters have reported. 5s to 1h.
    #[arg(long, env = "ECR_OPERATOR_IN_USE_INTERVAL", value_name = "TIME", default_value = "5m",
          value_parser = |text: &str| duration(text, 5, 3_600))]
    in_use_interval: Duration,

    /// How often each object is checked in full, its policy and tags included. 1m to 7d.
    #[arg(long, env = "ECR_OPERATOR_CHECK_INTERVAL", value_name = "TIME", default_value = "6h",
          value_parser = |text: &str| duration(text, 60, 604_800))]
    check_interval: Duration,

    /// How many objects of one kind are worked on at once for each registry. 1 to 256.
    #[arg(long, env = "ECR_OPERATOR_CONCURRENCY", value_name = "NUMBER", default_value_t = 16,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,

    /// How long the leader's Lease is valid, which is how soon another goes on after the leader died. Whole seconds, 2s to
    /// 5m; all replicas need the same.
    #[arg(long, env = "ECR_OPERATOR_LEASE_DURATION", value_name = "TIME", default_value = "15s",
          value_parser = |text: &str| duration(text, 2, 300))]
    lease_duration: Duration,

    /// What the addresses of Prometheus and of hooks in ImagePromotions must begin with, such as
    /// `http://prometheus.monitoring:9090`; may be given several times. Default: none is allowed.
    #[arg(
        long = "allow-address",
        env = "ECR_OPERATOR_ALLOW_ADDRESS",
        value_name = "URL",
        value_delimiter = ','
    )]
    allowed_addresses: Vec<String>,

    /// The file with the key that hooks of ImagePromotions are signed with (HMAC-SHA256), at least 16 bytes. Default:
    /// absent, no hook is called.
    #[arg(long, env = "ECR_OPERATOR_PUBLISH_KEY_FILE", value_name = "FILE")]
    publish_key_file: Option<PathBuf>,

    /// Where /metrics, /livez and /readyz are served, as [ADDRESS]:PORT.
    #[arg(long, env = "ECR_OPERATOR_LISTEN", value_name = "ADDRESS", default_value = ":8080", value_parser = address)]
    listen: SocketAddr,

    /// How log lines are written.
    #[arg(
        long,
        env = "ECR_OPERATOR_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    log_format: LogFormat,

    /// What is logged, such as `info` or `info,ecr_operator=debug`.
    #[arg(long, env = "ECR_OPERATOR_LOG_FILTER", value_name = "FILTER", default_value = "info")]
    log_filter: String,
}

/// A time such as `60s`, `10m`, `6h` or `7d`, within bounds given in seconds.
fn duration(text: &str, least: u64, most: u64) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..) {
        Some("s") => 1,
        Some("m") => 60,
        Some("h") => 3_600,
        Some("d") => 86_400,
        _ => return Err("write a number and a unit: s, m, h or d, such as 60s or 6h".into()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "write a whole number before the unit, such as 60s".to_owned())?;
    match number.checked_mul(unit) {
        Some(seconds) if (least..=most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("must be from {least}s to {most}s")),
    }
}

/// `:8080` means every address, as in other Kubernetes programs.
fn address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') {
        format!("[::]{text}")
    } else {
        text.to_owned()
    };
    full.parse()
        .map_err(|_| "write [ADDRESS]:PORT, such as :8080 or 127.0.0.1:8080".into())
}

pub(super) fn main(args: Args) -> Outcome {
    telemetry::start(args.log_format, &args.log_filter)?;
    terminal::block_on(run(args)).map(|()| ExitCode::SUCCESS)
}

#[expect(
    clippy::too_many_lines,
    reason = "what the program is put together from, to be read as one"
)]
async fn run(args: Args) -> Result<(), String> {
    // First of all: a process 1 that handles no SIGTERM does not hear it.
    let shutdown = stop_signal()?.shared();
    let cluster = terminal::cluster().await?;
    let gate = Gate::closed();
    let client = super::gated(cluster.clone(), &gate)?;
    let candidate = Candidate::new(
        terminal::client(cluster)?,
        lead::name(),
        args.lease_duration,
        gate.clone(),
    );
    let listener = server::listen(args.listen).await?;
    let cluster = cluster_uid(&client).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), owner = %args.owner_id, cluster, "starting");

    let settings = Settings {
        allowed_addresses: args.allowed_addresses,
        publish_key: args.publish_key_file.as_deref().map(publish_key).transpose()?,
    };
    let metrics = Metrics::new();
    let readiness = Readiness::default();
    readiness.wait_for(lead::LEASE);
    let (registries, registries_writer) = store();
    let (repositories, repositories_writer) = store();
    let (promotions, promotions_writer) = store();
    let (lifecycle_policies, lifecycle_policies_writer) = store();
    let (cluster_lifecycle_policies, cluster_lifecycle_policies_writer) = store();
    let (pull_secrets, pull_secrets_writer) = store();
    let (pulls, pulled) = mpsc::unbounded();
    let (replication_configs, replication_configs_writer) = store();
    let (replications, replicated) = mpsc::unbounded();
    let (counts, counted) = mpsc::unbounded();
    let (namespaces, namespaces_writer) = store();
    let (nudges, woken) = mpsc::unbounded();
    let promoting = Promoting::new(settings).map_err(|error| error.to_string())?;
    let (hints, hinted) = mpsc::unbounded();
    let (looks, looked) = mpsc::unbounded();
    let (cache_rules, of_cache_rules) = watch::<PullThroughCacheRule>();
    let (templates, of_templates) = watch::<RepositoryCreationTemplate>();
    let (of_documents, documents_woken) = documents::shared::Shared::new();
    let ctx = Arc::new(Context {
        client: client.clone(),
        metrics: metrics.clone(),
        events: Events::start(client.clone()),
        memory: Memory::default(),
        turns: Turns::new(args.concurrency),
        check_interval: args.check_interval,
        world: World {
            client: client.clone(),
            identity: Identity {
                owner: args.owner_id,
                cluster,
            },
            metrics: metrics.clone(),
            inventory_interval: args.inventory_interval,
            gate,
            readiness: readiness.clone(),
            registries: registries.clone(),
            repositories: repositories.clone(),
            promotions: promotions.clone(),
            lifecycle_policies: lifecycle_policies.clone(),
            cluster_lifecycle_policies: cluster_lifecycle_policies.clone(),
            pull_secrets: pull_secrets.clone(),
            pulls: Arc::new(Pulls::new(pulls)),
            replication_configs: replication_configs.clone(),
            replicating: Arc::default(),
            replications,
            policies: Policies::default(),
            counts,
            namespaces: namespaces.clone(),
            connections: RwLock::new(HashMap::new()),
            hints,
            looks,
            queues: Queues::default(),
            nudges,
            promoting,
            in_use: in_use::Shared::new(args.in_use_interval),
            prefixed: Watches { cache_rules, templates },
            documents: of_documents,
        },
    });
    let refresh = Arc::clone(&ctx);
    let served = Served {
        metrics,
        readiness: readiness.clone(),
        refresh: Arc::new(move || {
            refresh.world.count_objects();
            for kind in [
                Registry::KIND,
                Repository::KIND,
                LifecyclePolicy::KIND,
                ClusterLifecyclePolicy::KIND,
                ReplicationConfig::KIND,
                ImagePromotion::CALLED,
                PullThroughCacheRule::KIND,
                RepositoryCreationTemplate::KIND,
                PullSecret::KIND,
            ] {
                refresh
                    .metrics
                    .oldest_trigger(kind, refresh.memory.oldest_trigger(kind));
            }
        }),
    };
    tokio::spawn(server::serve(listener, served));

    // Whoever stands by is ready for its work, which is to wait; or no rollout of two replicas would ever end.
    let lead = candidate.wait_for_lead(|| readiness.done(lead::LEASE));
    let mut leader = tokio::select! {
        leader = lead => leader,
        () = shutdown.clone() => return Ok(()),
    };
    let writers = Writers {
        registries: registries_writer,
        repositories: repositories_writer,
        promotions: promotions_writer,
        lifecycle_policies: lifecycle_policies_writer,
        cluster_lifecycle_policies: cluster_lifecycle_policies_writer,
        pull_secrets: pull_secrets_writer,
        replication_configs: replication_configs_writer,
        namespaces: namespaces_writer,
        cache_rules: of_cache_rules,
        templates: of_templates,
    };
    let hinted = Hinted {
        objects: hinted,
        registries: looked,
        promotions: woken,
        policies: counted,
        pulls: pulled,
        replications: replicated,
        documents: documents_woken,
    };
    let finished = tokio::select! {
        finished = work(Arc::clone(&ctx), writers, hinted, shutdown) => finished,
        why = leader.keep() => return Err(format!("the lead is lost: {why}; start the program again to stand by")),
    };
    ctx.events.flush().await;
    match finished {
        true => leader.hand_over().await,
        false => leader.let_run_out(),
    }
    Ok(())
}

/// The key that hooks are signed with.
fn publish_key(file: &Path) -> Result<Arc<[u8]>, String> {
    let key = std::fs::read(file).map_err(|error| format!("--publish-key-file {}: {error}", file.display()))?;
    match key.trim_ascii() {
        key if key.len() >= 16 => Ok(key.into()),
        _ => Err(format!(
            "--publish-key-file {}: the key has fewer than 16 bytes",
            file.display()
        )),
    }
}

/// The UID of the namespace `kube-system`, by which clusters are commonly told apart.
pub(super) async fn cluster_uid(client: &Client) -> Result<String, String> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let why = |error: &dyn std::fmt::Display| {
        format!("the namespace kube-system, whose UID identifies the cluster, could not be read: {error}")
    };
    let system = tokio::time::timeout(ANSWER, namespaces.get_metadata("kube-system"))
        .await
        .map_err(|_| why(&format!("no answer within {} s", ANSWER.as_secs())))?
        .map_err(|error| why(&error))?;
    system
        .metadata
        .uid
        .ok_or_else(|| "the namespace kube-system has no UID".into())
}

/// Ends with SIGTERM or Ctrl-C.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, String> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| format!("SIGTERM cannot be waited for: {error}"))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| format!("SIGINT cannot be waited for: {error}"))?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit_and_kept_within_bounds() {
        assert_eq!(duration("60s", 1, 3_600), Ok(Duration::from_mins(1)));
        assert_eq!(duration("6h", 1, 86_400), Ok(Duration::from_hours(6)));
        for bad in [
            "",
            "60",
            "s",
            "1w",
            "-1s",
            "1.5h",
            "0s",
            "2h",
            "99999999999999999999s",
            "9223372036854775807d",
            "ä",
        ] {
            assert!(duration(bad, 1, 3_600).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_without_a_host_means_every_one() {
        assert_eq!(address(":8080"), Ok("[::]:8080".parse().unwrap()));
        assert_eq!(address("127.0.0.1:1"), Ok("127.0.0.1:1".parse().unwrap()));
        assert!(address("8080").is_err());
        assert!(address(":99999").is_err());
    }
}
