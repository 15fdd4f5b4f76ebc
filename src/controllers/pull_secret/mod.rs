//! PullSecret: keeps a Secret with tokens for pulling, as [`plan`] decides, and tells what was seen.

mod account;
mod entries;
pub(crate) mod plan;
#[cfg(test)]
mod plan_tests;
mod scope;
mod secret;
pub(crate) mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, Client, ResourceExt};

use self::{
    entries::{Entry, Known},
    plan::{AccountSeen, SecretSeen, Seen, Step},
    scope::Scope,
    watch::Pulls,
};
use super::{access::Denied, registry::connection::Connection, world::World};
use crate::{
    api::{
        PullSecret,
        pull_secret::{PullRegistry, PullSecretStatus},
        status::CommonStatus,
    },
    aws::{error::AwsError, pull::Pull},
    control::{
        backoff,
        context::Context,
        error::{Error, Result},
        events::cut,
        managed::{Look, Managed, Told},
        plan::{Goal, Plan, Verdict},
    },
};

/// How often the Secret and the ServiceAccounts are looked at, besides at each renewal.
const LOOK: Duration = Duration::from_mins(10);

/// The longest pause after a renewal that failed while the token still holds.
const RETRY: Duration = Duration::from_mins(5);

/// What a PullSecret depends on.
pub(crate) struct References {
    client: Client,
    pulls: Arc<Pulls>,
    /// By Registry, in the order of the spec.
    scopes: Vec<(String, Result<Scope, Denied>)>,
    connections: BTreeMap<String, Arc<Connection>>,
    source: String,
    /// When to look again, once it is known.
    next: Mutex<Option<Duration>>,
}

impl References {
    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn accounts(&self, namespace: &str) -> Api<ServiceAccount> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

impl Managed for PullSecret {
    type World = World;
    type References = References;
    type Observed = Seen;
    type Step = Step;
    type Status = PullSecretStatus;

    const KIND: &'static str = "PullSecret";

    fn status(&self) -> Option<&PullSecretStatus> {
        self.status.as_ref()
    }

    fn common(status: &PullSecretStatus) -> &CommonStatus {
        &status.common
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend
    }

    fn lane(&self) -> String {
        self.spec
            .registry_refs
            .iter()
            .map(|of| of.name.as_str())
            .collect::<Vec<_>>()
            .join("/")
    }

    async fn refer(&self, ctx: &Context<World>) -> Result<References> {
        let world = &ctx.world;
        let namespace = self.namespace().unwrap_or_default();
        let labels = world.namespace(&namespace).await?;
        let (mut scopes, mut connections) = (Vec::new(), BTreeMap::new());
        for name in self.spec.registry_refs.iter().map(|of| &of.name) {
            let registry = match world.registry(name).await {
                Ok(registry) => registry,
                // The other Registries of the object have nothing to do with it.
                Err(error @ Error::UnreadableRegistry { .. }) => {
                    let verdict = Verdict::blocked(error.reason(), error.to_string());
                    scopes.push((name.clone(), Err(Denied::NotNow(verdict))));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let connection = world.connection(name);
            let standing = connection.as_ref().and_then(|connection| connection.standing());
            let scope = scope::scope(name, registry.as_ref(), &namespace, labels.as_ref(), standing);
            scopes.push((name.clone(), scope));
            connections.extend(connection.map(|connection| (name.clone(), connection)));
        }
        Ok(References {
            client: ctx.client.clone(),
            pulls: Arc::clone(&world.pulls),
            scopes,
            connections,
            source: scope::source_identity(&world.identity.owner),
            next: Mutex::default(),
        })
    }

    async fn observe(&self, _: Goal, _: Look, references: &References) -> Result<Seen> {
        let namespace = self.namespace().unwrap_or_default();
        let secret = secret::look(&references.secrets(&namespace), self).await?;
        let recorded = self.status.iter().flat_map(|status| &status.service_accounts);
        let names: BTreeSet<&String> = self.spec.service_accounts.iter().chain(recorded).collect();
        let api = references.accounts(&namespace);
        let mut accounts = BTreeMap::new();
        for name in names {
            accounts.insert(name.clone(), account::look(&api, name).await?);
        }
        let uid = self.uid().unwrap_or_default();
        let overdue = known(&secret)
            .iter()
            .map(|known| &known.entry)
            .filter(|entry| references.pulls.is_overdue(&uid, &entry.registry, &entry.digest))
            .map(|entry| entry.registry.clone())
            .collect();
        Ok(Seen {
            scopes: references.scopes.clone(),
            secret,
            accounts,
            failed: BTreeMap::new(),
            overdue,
        })
    }

    fn plan(&self, goal: Goal, _: &References, seen: &Seen, now: Timestamp) -> Plan<Step> {
        plan::plan(self, goal, seen, now)
    }

    async fn apply(&self, step: &Step, references: &References, mut seen: Seen) -> Result<Seen> {
        let namespace = self.namespace().unwrap_or_default();
        match step {
            Step::Write { renew, drop, .. } => self.write(renew, drop, references, seen).await,
            Step::Delete { .. } => {
                if let SecretSeen::Ours(ours) = &seen.secret {
                    seen.secret = secret::delete(&references.secrets(&namespace), self, ours).await?;
                }
                Ok(seen)
            }
            Step::Join { account, secret } => {
                let names = |names: Vec<String>| names.into_iter().chain([secret.clone()]).collect();
                self.list(account, references, seen, names).await
            }
            Step::Leave { account, secret } => {
                let names = |names: Vec<String>| names.into_iter().filter(|name| name != secret).collect();
                self.list(account, references, seen, names).await
            }
        }
    }

    fn tell(&self, common: CommonStatus, told: &Told<'_, Self>) -> PullSecretStatus {
        let old = self.status.clone().unwrap_or_default();
        let Some(seen) = told.seen else {
            return PullSecretStatus { common, ..old };
        };
        let entries = known(&seen.secret);
        let registries = seen.scopes.iter().map(|(registry, _)| {
            let entry = entries.iter().find(|known| known.entry.registry == *registry);
            let entry = entry.map(|known| &known.entry);
            let mut message = plan::trouble(seen, registry)
                .map(|(_, message)| message)
                .unwrap_or_default();
            cut(&mut message, 1_000);
            PullRegistry {
                name: registry.clone(),
                host: entry.map(|entry| entry.host.clone()).unwrap_or_default(),
                expires_at: entry.map(|entry| entry.expires_at),
                message,
            }
        });
        let name = self.secret_name();
        let has = |account: &String| match seen.accounts.get(account) {
            Some(AccountSeen::Found { names, .. }) => names.contains(&name),
            Some(AccountSeen::Missing) => false,
            Some(AccountSeen::Unreadable(_)) | None => true,
        };
        PullSecretStatus {
            secret_name: matches!(seen.secret, SecretSeen::Ours(_)).then(|| name.clone()),
            expires_at: entries.iter().map(|known| known.entry.expires_at).min(),
            registries: registries.collect(),
            service_accounts: old.service_accounts.into_iter().filter(has).collect(),
            common,
        }
    }

    /// The Secret was there and whole, and an entry was in its list.
    fn is_drift(&self, seen: &Seen) -> bool {
        let Some(status) = &self.status else { return false };
        let usable = seen.scopes.iter().any(|(_, scope)| scope.is_ok());
        let broken = match &seen.secret {
            SecretSeen::Absent => true,
            SecretSeen::Ours(ours) => !ours.intact,
            _ => false,
        };
        usable && status.secret_name.is_some() && broken
    }

    fn headline(steps: &[Step]) -> &'static str {
        let any = |is: fn(&Step) -> bool| steps.iter().any(is);
        match () {
            () if any(|step| matches!(step, Step::Write { create: true, .. })) => "Created",
            () if any(|step| matches!(step, Step::Delete { .. })) => "Deleted",
            () => "Updated",
        }
    }

    /// A renewal is no news: it comes twice an hour.
    fn is_news(step: &Step) -> bool {
        !matches!(step, Step::Write { create: false, drop, .. } if drop.is_empty())
    }

    fn rhythm(&self, references: &References, _: Option<&Seen>, _: &Result<Verdict>) -> Option<Duration> {
        *references.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An entry is recorded before it is added, or it would never be taken out again where the answer is lost.
    fn to_record(&self, steps: &[Step]) -> Option<PullSecretStatus> {
        let joining: Vec<&String> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Join { account, .. } => Some(account),
                _ => None,
            })
            .collect();
        if joining.is_empty() {
            return None;
        }
        let mut status = self.status.clone().unwrap_or_default();
        let all: BTreeSet<String> = status.service_accounts.iter().chain(joining).cloned().collect();
        status.service_accounts = all.into_iter().collect();
        Some(status)
    }

    fn left(uid: &str, ctx: &Context<World>) {
        ctx.world.pulls.forget(uid);
    }

    fn concluded(&self, ctx: &Context<World>, references: &References, seen: Option<&Seen>, outcome: &Result<Verdict>) {
        let goes = self.metadata.deletion_timestamp.is_some() && matches!(outcome, Ok(Verdict::Settled { .. }));
        if goes {
            // Another may wait for the name.
            let (uid, name) = (self.uid(), self.secret_name());
            ctx.world.wake_pulls(|other| {
                other.metadata.namespace == self.metadata.namespace && other.secret_name() == name && other.uid() != uid
            });
        }
        let next = seen.and_then(|seen| self.next_look(references, seen, outcome));
        *references.next.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

impl PullSecret {
    /// Takes tokens, all at once, and writes what there is then.
    async fn write(&self, renew: &[String], drop: &[String], references: &References, mut seen: Seen) -> Result<Seen> {
        let namespace = self.namespace().unwrap_or_default();
        let uid = self.uid().unwrap_or_default();
        let tokens = renew.iter().map(|registry| self.token(registry, references));
        let mut fresh = Vec::new();
        for (registry, token) in renew.iter().zip(join_all(tokens).await) {
            match token {
                Ok(token) => fresh.push(token),
                Err(error) => {
                    tracing::warn!(registry, %error, "no token for pulling could be had");
                    seen.failed.insert(registry.clone(), error);
                }
            }
        }
        let replaced = |known: &&Known| {
            let registry = &known.entry.registry;
            drop.contains(registry) || fresh.iter().any(|fresh| fresh.entry.registry == *registry)
        };
        let old = known(&seen.secret);
        let mut entries: Vec<Known> = old.iter().filter(|known| !replaced(known)).cloned().collect();
        let unchanged = entries.len() == old.len() && fresh.is_empty();
        let intact = matches!(&seen.secret, SecretSeen::Ours(ours) if ours.intact);
        entries.extend(fresh.iter().cloned());
        if entries.is_empty() || (unchanged && intact) {
            return Ok(seen);
        }
        let api = references.secrets(&namespace);
        seen.secret = match &seen.secret {
            SecretSeen::Ours(ours) => secret::update(&api, self, ours, &entries).await?,
            _ => secret::create(&api, self, &entries).await?,
        };
        for Known { entry, .. } in &fresh {
            let wait = entry.renew_at(plan::seed(self)).duration_since(Timestamp::now());
            let wait = Duration::try_from(wait).unwrap_or_default();
            references.pulls.took(&uid, &entry.registry, &entry.digest, wait);
            seen.overdue.remove(&entry.registry);
        }
        Ok(seen)
    }

    async fn token(&self, registry: &str, references: &References) -> Result<Known, AwsError> {
        let scope = references.scopes.iter().find(|(name, _)| name == registry);
        let (Some((_, Ok(scope))), Some(connection)) = (scope, references.connections.get(registry)) else {
            return Err(AwsError::incomplete("AssumeRole", "a Registry that is ready"));
        };
        let pull = Pull {
            role: &scope.role,
            policy: &scope.policy,
            session: &scope::session_name(&self.namespace().unwrap_or_default(), &self.name_any()),
            source: &references.source,
        };
        let token = connection.ecr.pull_token(&pull).await?;
        let entry = Entry {
            registry: registry.to_owned(),
            host: token.host,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            scope: scope.digest.clone(),
            digest: entries::digest(&token.auth),
        };
        Ok(Known {
            entry,
            auth: token.auth,
        })
    }

    /// Writes the list of a ServiceAccount.
    async fn list(
        &self,
        account: &str,
        references: &References,
        mut seen: Seen,
        change: impl FnOnce(Vec<String>) -> Vec<String>,
    ) -> Result<Seen> {
        let api = references.accounts(&self.namespace().unwrap_or_default());
        if let Some(found @ AccountSeen::Found { names, .. }) = seen.accounts.get(account) {
            let names = change(names.clone());
            let written = account::write(&api, account, found, names.into_iter()).await?;
            seen.accounts.insert(account.to_owned(), written);
        }
        Ok(seen)
    }

    /// When the next token is due, the next attempt after one that failed, or the next look at the Secret. `None` leaves it to
    /// the pauses after failures.
    fn next_look(&self, references: &References, seen: &Seen, outcome: &Result<Verdict>) -> Option<Duration> {
        let uid = self.uid().unwrap_or_default();
        let now = Timestamp::now();
        let entries = known(&seen.secret);
        let valid = |registry: &String| {
            let mut entries = entries.iter().map(|known| &known.entry);
            entries.any(|entry| entry.registry == *registry && entry.is_valid(now))
        };
        let retry = seen.failed.iter().map(|(registry, error)| {
            let reason = Error::from(error.clone()).reason();
            let pause = backoff::pause(reason, references.pulls.failed(&uid, registry), fastrand::f64());
            match valid(registry) {
                true => pause.min(RETRY),
                false => pause,
            }
        });
        let retry = retry.min();
        if retry.is_none() && entries.is_empty() && matches!(outcome, Ok(Verdict::Blocked { .. }) | Err(_)) {
            return None;
        }
        let renewable = |entry: &&Entry| {
            let open = |(name, scope): &(String, Result<Scope, Denied>)| *name == entry.registry && scope.is_ok();
            seen.scopes.iter().any(open) && !seen.failed.contains_key(&entry.registry)
        };
        let due =
            entries.iter().map(|known| &known.entry).filter(renewable).map(|entry| {
                Duration::try_from(entry.renew_at(plan::seed(self)).duration_since(now)).unwrap_or_default()
            });
        let look = LOOK.mul_f64(0.9 + 0.1 * fastrand::f64());
        due.chain(retry)
            .chain([look])
            .min()
            .map(|wait| wait.max(Duration::from_secs(1)))
    }
}

/// The entries of our Secret.
fn known(secret: &SecretSeen) -> &[Known] {
    match secret {
        SecretSeen::Ours(ours) => &ours.entries,
        _ => &[],
    }
}
