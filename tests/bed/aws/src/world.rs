//! Everything the process holds: identities, registries, queues, and what the control endpoint has set.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fakecloud_core::multi_account::MultiAccountState;
use fakecloud_iam::credential_resolver::IamCredentialResolver;
use fakecloud_iam::iam_service::IamService;
use fakecloud_iam::policy_evaluator::IamPolicyEvaluatorImpl;
use fakecloud_iam::sts_service::StsService;
use fakecloud_iam::{IamState, SharedIamState};
use fakecloud_sqs::SqsService;
use parking_lot::RwLock;

use crate::calls::{Calls, Deletions};
use crate::departures::Departures;
use crate::ecr::Previews;
use crate::events::EventQueues;
use crate::faults::Faults;
use crate::principals::Principals;
use crate::registries::Registries;
use crate::tokens::Tokens;

/// Of no account that a test would use: fakecloud wants a default account, and here every call names its own.
const NO_ACCOUNT: &str = "000000000000";
const NO_REGION: &str = "us-east-1";

/// The state behind all endpoints.
pub(crate) struct World {
    pub(crate) iam_state: SharedIamState,
    pub(crate) iam: IamService,
    pub(crate) sts: StsService,
    pub(crate) sqs: SqsService,
    pub(crate) resolver: IamCredentialResolver,
    pub(crate) evaluator: IamPolicyEvaluatorImpl,
    pub(crate) principals: Principals,
    pub(crate) registries: Registries,
    pub(crate) tokens: Tokens,
    pub(crate) calls: Calls,
    pub(crate) deletions: Deletions,
    pub(crate) departures: Departures,
    pub(crate) previews: Previews,
    pub(crate) faults: Faults,
    pub(crate) event_queues: EventQueues,
    /// Accounts that repository policies may not name, as if they did not exist.
    pub(crate) unknown_accounts: RwLock<BTreeSet<String>>,
    delay_millis: AtomicU64,
}

impl World {
    pub(crate) fn new(endpoint: SocketAddr) -> Self {
        let base = format!("http://{endpoint}");
        let iam_state: SharedIamState = Arc::new(RwLock::new(MultiAccountState::<IamState>::new(
            NO_ACCOUNT, NO_REGION, &base,
        )));
        let sqs_state = Arc::new(RwLock::new(MultiAccountState::new(NO_ACCOUNT, NO_REGION, &base)));
        Self {
            iam: IamService::new(Arc::clone(&iam_state)),
            sts: StsService::new(Arc::clone(&iam_state)),
            sqs: SqsService::new(sqs_state),
            resolver: IamCredentialResolver::new(Arc::clone(&iam_state)),
            evaluator: IamPolicyEvaluatorImpl::new(Arc::clone(&iam_state)),
            principals: Principals::new(Arc::clone(&iam_state)),
            registries: Registries::new(endpoint.ip()),
            iam_state,
            tokens: Tokens::default(),
            calls: Calls::default(),
            deletions: Deletions::default(),
            departures: Departures::default(),
            previews: Previews::default(),
            faults: Faults::default(),
            event_queues: EventQueues::default(),
            unknown_accounts: RwLock::default(),
            delay_millis: AtomicU64::new(0),
        }
    }

    /// What is added to the answer of each signed call.
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_millis.load(Ordering::Relaxed))
    }

    pub(crate) fn set_delay(&self, millis: u64) {
        self.delay_millis.store(millis, Ordering::Relaxed);
    }
}
