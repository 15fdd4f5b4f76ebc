//! Drills: an act is done over and over, each time with something going wrong at another of the AWS calls that the
//! operator makes for it. A kind of object joins with a [`Drill`] of its own.

use std::collections::{BTreeMap, BTreeSet};

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

/// What the ARNs of the operator contain, and of nobody else.
const OPERATOR: &str = "/ecr-operator";

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
        let cluster = stage.bare_cluster().await?;
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
        let targets = Target::all(&calls);
        let before = targets.iter().filter(|target| target.is_write());
        let after = targets.iter().map(|target| (target, true));
        let mut struck = BTreeSet::new();
        for (round, (target, after)) in (1..).zip(after.chain(before.map(|target| (target, false)))) {
            let killed = async {
                let scene = self.ready(drill, round).await?;
                // Of the operator alone: what the test looks at meanwhile is not held.
                let mut effect = target
                    .fault(Effect::Hold)
                    .registry(&scene.account, REGION)
                    .principal(OPERATOR);
                if after {
                    effect = effect.after();
                }
                let fault = self.stage.aws.inject(&effect).await?;
                drill.act(&scene, round).await?;
                let held = self
                    .struck(drill, &scene, round, self.stage.aws.held(&fault, LIMIT))
                    .await?;
                ensure!(held || !target.is_write(), "it settled without the call");
                if held {
                    self.operator.kill();
                    self.given_up(&fault).await?;
                }
                self.stage.aws.remove_fault(&fault).await?;
                if held {
                    let died = self.died(&scene, target).await?;
                    ensure!(died.carried_out == after, "{died:?}");
                    struck.insert(&target.operation);
                    self.operator.restart().await?;
                }
                drill.settled(&scene, round).await?;
                self.idle().await
            };
            let side = if after { "at" } else { "before" };
            self.told(killed.await, &format!("killed {side} {target:?} of {calls:?}"))?;
        }
        ensure!(
            struck == calls.iter().collect(),
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
                let held = self.struck(drill, &scene, nth, self.gateway.held(LIMIT)).await?;
                if held {
                    self.operator.kill();
                    self.gateway.reset();
                    self.operator.restart().await?;
                } else {
                    // What two writes told may be told by one this time; something is written every time.
                    let written = self.gateway.writes().len();
                    ensure!(nth > 1 && written < nth, "{written} writes, and none was held");
                    self.gateway.reset();
                }
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
        let once = Target::all(&calls);
        let writes = once.iter().filter(|target| target.nth == 1 && target.is_write());
        let often = writes.map(|target| (target, attempts(&target.operation)));
        let often = often.filter(|(_, attempts)| *attempts > 1);
        let mut lost = BTreeSet::new();
        for (round, (target, times)) in (1..).zip(once.iter().map(|target| (target, 1)).chain(often)) {
            let fault = match times {
                1 => target.fault(Effect::Disconnect),
                times => Fault::new(&target.operation, Effect::Disconnect).times(times),
            };
            let what = format!("{fault:?} in {calls:?}");
            let round = async {
                let scene = self.ready(drill, round).await?;
                let fault = fault.after().registry(&scene.account, REGION).principal(OPERATOR);
                let id = self.stage.aws.inject(&fault).await?;
                drill.act(&scene, round).await?;
                drill.settled(&scene, round).await?;
                let state = self.stage.aws.fault(&id).await?;
                ensure!(state.injected == times || !target.is_write(), "{state:?}");
                if state.injected > 0 {
                    lost.insert(&target.operation);
                }
                self.stage.aws.remove_fault(&id).await
            };
            self.told(round.await, &what)?;
        }
        ensure!(
            lost == calls.iter().collect(),
            "answers to {lost:?} were lost, which are not the calls {calls:?}"
        );
        Ok(())
    }

    /// Whether the fault strikes. It does not if the act comes to its end without it: all is as asked, and nothing is under way
    /// that could still run into it.
    async fn struck(
        &self,
        drill: &impl Drill,
        scene: &Scene,
        round: usize,
        held: impl Future<Output = Result<()>>,
    ) -> Result<bool> {
        tokio::select! {
            biased;
            held = held => held.map(|()| true),
            ended = async {
                drill.settled(scene, round).await?;
                self.idle().await
            } => ended.map(|()| false),
        }
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
            principal.contains(OPERATOR) && !call.operation.contains(':')
        });
        Ok(ours.collect())
    }

    /// Waits until the stand-in has noticed that nobody waits for the answer that is held.
    async fn given_up(&self, fault: &str) -> Result<()> {
        eventually(LIMIT, "the call to be given up", async || {
            let state = self.stage.aws.fault(fault).await?;
            ensure!(state.held == 0, "{state:?}");
            Ok(())
        })
        .await
    }

    /// The call that the operator died of.
    async fn died(&self, scene: &Scene, target: &Target) -> Result<Call> {
        eventually(LIMIT, "the call to be noted", async || {
            let calls = self.calls(scene).await?;
            let mut of_it = calls.iter().filter(|call| call.operation == target.operation);
            let died = of_it.find(|call| call.outcome == "abandoned");
            died.cloned().with_context(|| format!("{calls:?}"))
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

/// A call that something happens to.
///
/// By its operation, because how many reads come before a write may depend on what was read a moment ago. For the same reason a
/// read may not come at all; a write must.
#[derive(Debug)]
struct Target {
    operation: String,
    /// Among those of this operation, from 1.
    nth: u64,
}

impl Target {
    /// Each of these calls.
    fn all(calls: &[String]) -> Vec<Self> {
        let mut seen = BTreeMap::new();
        let targets = calls.iter().map(|operation| {
            let nth: &mut u64 = seen.entry(operation).or_default();
            *nth += 1;
            Self {
                operation: operation.clone(),
                nth: *nth,
            }
        });
        targets.collect()
    }

    fn fault(&self, effect: Effect) -> Fault {
        Fault::new(&self.operation, effect).nth(self.nth)
    }

    fn is_write(&self) -> bool {
        !["Describe", "List", "Get", "BatchGet"]
            .iter()
            .any(|read| self.operation.starts_with(read))
    }
}
