//! Drills: an act is done over and over, each time with something going wrong at another of the AWS calls that the
//! operator makes for it. A kind of object joins with a [`Drill`] of its own.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, anyhow, ensure};
use bed::{Call, Cluster, Effect, Fault, Gateway, Operator, eventually};

use crate::support::{LIMIT, REGION, Scene, Stage, tail};

/// What is done to an object, and how it must end.
///
/// Each round has a number of its own, for names that no other round has.
pub(crate) trait Drill {
    /// Sets up what the act needs, and names the registry whose calls count. Settled when it returns.
    async fn prepare(&self, theatre: &Theatre, round: usize) -> Result<Scene>;

    /// Asks for what is drilled: applies, edits or deletes an object, and does not wait.
    async fn act(&self, scene: &Scene, round: usize) -> Result<()>;

    /// Waits until it is as asked, then looks into ECR itself: all of it is there, nothing twice, nothing left over.
    async fn settled(&self, scene: &Scene, round: usize) -> Result<()>;
}

/// A cluster and an operator to be killed at will.
pub(crate) struct Theatre {
    pub(crate) stage: &'static Stage,
    pub(crate) cluster: &'static Cluster,
    operator: Operator,
    /// What the operator's way to the apiserver goes through.
    gateway: Gateway,
}

/// How often the SDK tries a call whose answer is lost. What ECR would do once more each time is sent once.
fn attempts(operation: &str) -> u64 {
    match operation {
        "StartReplicationBackfill" => 1,
        _ => 3,
    }
}

impl Theatre {
    /// `name` is unique in the bed.
    pub(crate) async fn open(stage: &'static Stage, name: &str) -> Result<Self> {
        let cluster = stage.bare_cluster(name).await?;
        let gateway = cluster.gateway(bed::NAMESPACE, bed::SERVICE_ACCOUNT).await?;
        let operator = stage.quiet_operator(name, cluster, &gateway).await?;
        Ok(Self {
            stage,
            cluster,
            operator,
            gateway,
        })
    }

    /// A scene whose Registry is there and settled.
    pub(crate) async fn scene(&self, name: &str) -> Result<Scene> {
        let scene = self.stage.scene_on(self.cluster, name).await?;
        scene.registry(serde_json::json!({})).await?;
        Ok(scene)
    }

    /// Kills the operator at each of the calls that the act takes: the call is carried out, and its answer is never seen.
    /// Then at each that writes, before it is carried out: what was done towards it must not count as if it were.
    pub(crate) async fn killed_at_every_call(&self, drill: &impl Drill) -> Result<()> {
        let calls = self.clean(drill).await?;
        ensure!(!calls.is_empty(), "the act takes no calls");
        let mut struck = Vec::new();
        for nth in 1..=calls.len() {
            let round = async {
                let scene = self.ready(drill, nth).await?;
                let answerless = Fault::new("ecr:*", Effect::Hold)
                    .after()
                    .registry(&scene.account, REGION);
                let fault = self.stage.aws.inject(&answerless.nth(u64::try_from(nth)?)).await?;
                drill.act(&scene, nth).await?;
                self.stage.aws.held(&fault, LIMIT).await?;
                self.operator.kill();
                self.stage.aws.remove_fault(&fault).await?;
                let died = self.died(&scene, nth).await?;
                ensure!(died.carried_out, "{died:?}");
                struck.push(died.operation);
                self.operator.restart().await?;
                drill.settled(&scene, nth).await?;
                self.idle().await
            };
            self.told(round.await, &format!("killed at call {nth} of {calls:?}"))?;
        }
        // By its operation: how many reads come before it may depend on what was read a moment ago.
        let writes = calls.iter().enumerate().map(|(at, operation)| {
            let before = calls.iter().take(at).filter(|other| *other == operation);
            (before.count() + 1, operation)
        });
        let writes = writes.filter(|(_, operation)| is_write(operation));
        for (round, (nth, operation)) in (calls.len() + 1..).zip(writes) {
            let killed = async {
                let scene = self.ready(drill, round).await?;
                let hold = Fault::new(operation, Effect::Hold).registry(&scene.account, REGION);
                let fault = self.stage.aws.inject(&hold.nth(u64::try_from(nth)?)).await?;
                drill.act(&scene, round).await?;
                self.stage.aws.held(&fault, LIMIT).await?;
                self.operator.kill();
                eventually(LIMIT, "the call to be given up", async || {
                    let state = self.stage.aws.fault(&fault).await?;
                    ensure!(state.held == 0, "{state:?}");
                    Ok(())
                })
                .await?;
                self.stage.aws.remove_fault(&fault).await?;
                let died = self.given_up(&scene, operation).await?;
                ensure!(!died.carried_out, "{died:?}");
                self.operator.restart().await?;
                drill.settled(&scene, round).await?;
                self.idle().await
            };
            self.told(killed.await, &format!("killed before {operation} {nth} of {calls:?}"))?;
        }
        let kinds = |calls: &[String]| calls.iter().cloned().collect::<BTreeSet<_>>();
        ensure!(
            kinds(&struck) == kinds(&calls),
            "killed at {struck:?}, which are not the calls {calls:?}"
        );
        Ok(())
    }

    /// Kills the operator after each of the writes to the cluster that the act takes, before it sees the answer.
    pub(crate) async fn killed_at_every_write(&self, drill: &impl Drill) -> Result<()> {
        self.clean(drill).await?;
        self.idle().await?;
        let writes = self.gateway.writes();
        ensure!(!writes.is_empty(), "the act writes nothing to the cluster");
        for nth in 1..=writes.len() {
            let round = async {
                let scene = self.ready(drill, nth).await?;
                self.gateway.hold_after(nth);
                drill.act(&scene, nth).await?;
                self.gateway.held(LIMIT).await?;
                self.operator.kill();
                self.gateway.reset();
                self.operator.restart().await?;
                drill.settled(&scene, nth).await?;
                self.idle().await
            };
            self.told(round.await, &format!("killed at write {nth} of {writes:?}"))?;
        }
        Ok(())
    }

    /// Loses the answer to each write to the cluster once.
    pub(crate) async fn write_answers_lost(&self, drill: &impl Drill) -> Result<()> {
        self.clean(drill).await?;
        self.idle().await?;
        let writes = self.gateway.writes();
        for nth in 1..=writes.len() {
            let round = async {
                let scene = self.ready(drill, nth).await?;
                self.gateway.lose_answers(nth, 1);
                drill.act(&scene, nth).await?;
                drill.settled(&scene, nth).await?;
                self.idle().await
            };
            self.told(round.await, &format!("the answer to write {nth} of {writes:?} lost"))?;
        }
        Ok(())
    }

    /// Loses each answer once, and then those of every writing call until the SDK gives up.
    pub(crate) async fn answers_lost(&self, drill: &impl Drill) -> Result<()> {
        let calls = self.clean(drill).await?;
        ensure!(!calls.is_empty(), "the act takes no calls");
        let lost = |operation: &str| Fault::new(operation, Effect::Disconnect).after();
        let mut faults = Vec::new();
        for nth in 1..=calls.len() {
            faults.push((lost("ecr:*").nth(u64::try_from(nth)?), 1));
        }
        let writes = calls.iter().filter(|operation| is_write(operation));
        for operation in writes.collect::<BTreeSet<_>>() {
            let attempts = attempts(operation);
            faults.push((lost(operation).times(attempts), attempts));
        }
        for (round, (fault, times)) in (1..).zip(faults) {
            let what = format!("{fault:?} in {calls:?}");
            let round = async {
                let scene = self.ready(drill, round).await?;
                let id = self.stage.aws.inject(&fault.registry(&scene.account, REGION)).await?;
                drill.act(&scene, round).await?;
                drill.settled(&scene, round).await?;
                let state = self.stage.aws.fault(&id).await?;
                ensure!(state.injected == times, "{state:?}");
                self.stage.aws.remove_fault(&id).await
            };
            self.told(round.await, &what)?;
        }
        Ok(())
    }

    /// A run without any fault; gives the operations that the act takes.
    async fn clean(&self, drill: &impl Drill) -> Result<Vec<String>> {
        let run = async {
            let scene = self.ready(drill, 0).await?;
            drill.act(&scene, 0).await?;
            drill.settled(&scene, 0).await?;
            let calls = self.calls(&scene).await?;
            Ok(calls.into_iter().map(|call| call.operation).collect())
        };
        self.told(run.await, "without a fault")
    }

    /// Waits until nothing is under way: what an operator looks at when it starts is no part of the next round.
    async fn idle(&self) -> Result<()> {
        eventually(LIMIT, "the operator to be idle", async || {
            let metrics = self.operator.metrics().await?;
            let busy = metrics
                .lines()
                .filter(|line| line.starts_with("ecr_operator_reconciles_in_flight{") && !line.ends_with(" 0"));
            let busy: Vec<_> = busy.collect();
            ensure!(busy.is_empty(), "{busy:?}");
            Ok(())
        })
        .await
    }

    /// A prepared scene, with calls and writes counted from zero.
    async fn ready(&self, drill: &impl Drill, round: usize) -> Result<Scene> {
        let scene = drill.prepare(self, round).await?;
        self.stage.aws.reset_calls(&scene.account, REGION).await?;
        self.gateway.reset();
        Ok(scene)
    }

    /// The operator's calls to the registry in order.
    async fn calls(&self, scene: &Scene) -> Result<Vec<Call>> {
        let calls = self.stage.aws.calls(&scene.account, REGION).await?.calls;
        let ours = calls.into_iter().filter(|call| {
            let principal = call.principal.as_deref().unwrap_or_default();
            principal.contains("/ecr-operator") && !call.operation.contains(':')
        });
        Ok(ours.collect())
    }

    /// The call that the operator died of.
    async fn died(&self, scene: &Scene, nth: usize) -> Result<Call> {
        // The stand-in notes a call when it has noticed that nobody waits for its answer.
        eventually(LIMIT, "the call to be noted", async || {
            let calls = self.calls(scene).await?;
            let died = calls.get(nth - 1).filter(|call| call.outcome == "abandoned");
            died.cloned().with_context(|| format!("{calls:?}"))
        })
        .await
    }

    /// The call of this operation that the operator died before.
    async fn given_up(&self, scene: &Scene, operation: &str) -> Result<Call> {
        eventually(LIMIT, "the call to be noted", async || {
            let calls = self.calls(scene).await?;
            let mut of_it = calls.iter().filter(|call| call.operation == operation);
            let given_up = of_it.find(|call| call.outcome == "abandoned");
            given_up.cloned().with_context(|| format!("{calls:?}"))
        })
        .await
    }

    fn told<T>(&self, result: Result<T>, what: &str) -> Result<T> {
        result.map_err(|error| {
            let log = tail(&self.operator.process().log());
            anyhow!("{what}: {error:#}\nthe drilled operator's log ends with:\n{log}")
        })
    }
}

fn is_write(operation: &str) -> bool {
    !["Describe", "List", "Get", "BatchGet"]
        .iter()
        .any(|read| operation.starts_with(read))
}
