//! Who there is: principals and their keys, and accounts that there are not.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Body, Problem};
use crate::principals::Wanted;
use crate::world::World;

pub(super) async fn put(State(world): State<Arc<World>>, Body(wanted): Body<Wanted>) -> Answer {
    Ok(Json(json!(world.principals.put(wanted)?)))
}

/// A principal by its account and name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    account: String,
    name: String,
}

pub(super) async fn remove(State(world): State<Arc<World>>, Body(named): Body<Named>) -> Answer {
    if world.principals.remove(&named.account, &named.name) {
        return Ok(Json(json!({})));
    }
    Err(Problem(format!(
        "there is no principal {} in account {}",
        named.name, named.account
    )))
}

/// An access key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Key {
    access_key_id: String,
}

pub(super) async fn expire(State(world): State<Arc<World>>, Body(key): Body<Key>) -> Answer {
    world.principals.expire(&key.access_key_id);
    Ok(Json(json!({})))
}

/// How long tokens of an account last from now on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lifetime {
    account: String,
    /// Absent: twelve hours, as ECR has it.
    millis: Option<u64>,
}

pub(super) async fn tokens(State(world): State<Arc<World>>, Body(lifetime): Body<Lifetime>) -> Answer {
    let millis = lifetime.millis.map(std::time::Duration::from_millis);
    world.tokens.set_lifetime(&lifetime.account, millis);
    Ok(Json(json!({})))
}

/// An account.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Account {
    account: String,
    /// Whether it is unknown; false makes it known again.
    #[serde(default = "yes")]
    unknown: bool,
}

fn yes() -> bool {
    true
}

pub(super) async fn unknown(State(world): State<Arc<World>>, Body(account): Body<Account>) -> Answer {
    let mut unknown = world.unknown_accounts.write();
    if account.unknown {
        unknown.insert(account.account);
    } else {
        unknown.remove(&account.account);
    }
    Ok(Json(json!({})))
}
