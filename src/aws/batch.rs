//! Lookups of single repositories that arrive together become one call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt as _, join};
use tokio::sync::oneshot;

use super::{
    client::{DESCRIBE_LIMIT, Ecr},
    error::{AwsError, Fault},
    record::Record,
};
use crate::api::names::RepositoryName;

/// How long the first lookup waits for others to join it. Small against the time AWS takes to answer.
const GATHER: Duration = Duration::from_millis(10);

type Answer = Result<Option<Arc<Record>>, AwsError>;

/// Gathers lookups. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookups {
    waiting: Arc<Mutex<HashMap<RepositoryName, Vec<oneshot::Sender<Answer>>>>>,
}

impl Lookups {
    /// Reads one repository from ECR, together with whatever else is being looked up. `None`: it does not exist.
    pub(crate) async fn get(&self, ecr: &Ecr, name: &RepositoryName) -> Answer {
        let (sender, receiver) = oneshot::channel();
        let mut full = None;
        let first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let first = waiting.is_empty();
            waiting.entry(name.clone()).or_default().push(sender);
            if waiting.len() >= DESCRIBE_LIMIT {
                full = Some(std::mem::take(&mut *waiting));
            }
            first
        };
        if let Some(full) = full {
            let ecr = ecr.clone();
            tokio::spawn(async move { answer(&ecr, full).await });
        } else if first {
            // A task of its own: whoever came first may give up, and the others must not wait in vain.
            let (this, ecr) = (self.clone(), ecr.clone());
            tokio::spawn(async move {
                tokio::time::sleep(GATHER).await;
                let gathered = std::mem::take(&mut *this.waiting.lock().unwrap_or_else(PoisonError::into_inner));
                answer(&ecr, gathered).await;
            });
        }
        receiver
            .await
            .unwrap_or_else(|_| Err(AwsError::incomplete("DescribeRepositories", "an answer to this lookup")))
    }
}

async fn answer(ecr: &Ecr, mut waiting: HashMap<RepositoryName, Vec<oneshot::Sender<Answer>>>) {
    let names: Vec<RepositoryName> = waiting.keys().cloned().collect();
    for (name, answer) in read(ecr, names).await {
        for sender in waiting.remove(&name).unwrap_or_default() {
            // Whoever asked may have given up.
            let _ = sender.send(answer.clone());
        }
    }
}

/// Reads the names in one call. ECR fails the whole call for one missing name and does not say which others exist, so
/// the names are halved until the missing ones stand alone: about 2 log2(n) calls for one of n.
fn read(ecr: &Ecr, names: Vec<RepositoryName>) -> BoxFuture<'_, Vec<(RepositoryName, Answer)>> {
    async move {
        if names.is_empty() {
            return Vec::new();
        }
        match ecr.describe(&names).await {
            Ok(records) => {
                let mut found: HashMap<RepositoryName, Arc<Record>> = records
                    .into_iter()
                    .map(|record| (record.name.clone(), Arc::new(record)))
                    .collect();
                names
                    .into_iter()
                    .map(|name| {
                        let record = found.remove(&name);
                        (name, Ok(record))
                    })
                    .collect()
            }
            Err(error) if error.fault == Fault::NotFound && names.len() > 1 => {
                let mut left = names;
                let right = left.split_off(left.len() / 2);
                let (mut left, right) = join(read(ecr, left), read(ecr, right)).await;
                left.extend(right);
                left
            }
            Err(error) if error.fault == Fault::NotFound => names.into_iter().map(|name| (name, Ok(None))).collect(),
            Err(error) => names.into_iter().map(|name| (name, Err(error.clone()))).collect(),
        }
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use bed::{Aws, Bed};
    use futures::future::join_all;

    use super::*;

    const ACCOUNT: &str = "111122223333";
    const REGION: &str = "eu-west-1";

    /// Looks all names up at once; gives how many exist, and how many calls it took.
    async fn look_up(aws: &Aws, names: &[RepositoryName]) -> anyhow::Result<(usize, u64)> {
        let ecr = Ecr::of_admin(aws, ACCOUNT, REGION).await?;
        aws.reset_calls(ACCOUNT, REGION).await?;
        let lookups = Lookups::default();
        let answers = join_all(names.iter().map(|name| lookups.get(&ecr, name))).await;
        let found = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let calls = aws.calls(ACCOUNT, REGION).await?.of("DescribeRepositories");
        Ok((found.iter().flatten().count(), calls))
    }

    #[tokio::test]
    async fn lookups_that_arrive_together_are_one_call_and_a_missing_name_fails_no_other() -> anyhow::Result<()> {
        let bed = Bed::new()?;
        let aws = Aws::start(&bed).await?;
        let by_hand = aws.ecr(REGION, &aws.admin(ACCOUNT).await?);
        let mut names = Vec::new();
        for number in 0..DESCRIBE_LIMIT {
            let name = format!("team-a/web-{number}");
            by_hand.create_repository().repository_name(&name).send().await?;
            names.push(name.parse()?);
        }
        assert_eq!(look_up(&aws, &names).await?, (100, 1));
        by_hand
            .delete_repository()
            .repository_name("team-a/web-42")
            .send()
            .await?;
        let (found, calls) = look_up(&aws, &names).await?;
        assert_eq!(found, 99);
        assert!(calls <= 15, "halving takes about 2 log2(100) calls, this took {calls}");
        Ok(())
    }
}
