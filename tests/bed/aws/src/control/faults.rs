//! Faults: set, listed, released, removed.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::{Answer, Body, Problem};
use crate::faults::Rule;
use crate::world::World;

pub(super) async fn add(State(world): State<Arc<World>>, Body(rule): Body<Rule>) -> Answer {
    Ok(Json(json!({ "id": world.faults.add(rule)? })))
}

pub(super) async fn list(State(world): State<Arc<World>>) -> Json<Value> {
    Json(json!(world.faults.list()))
}

pub(super) async fn clear(State(world): State<Arc<World>>) -> Json<Value> {
    world.faults.remove(None);
    Json(json!({}))
}

pub(super) async fn remove(State(world): State<Arc<World>>, Path(id): Path<String>) -> Answer {
    found(world.faults.remove(Some(&id)), &id)
}

pub(super) async fn release(State(world): State<Arc<World>>, Path(id): Path<String>) -> Answer {
    found(world.faults.release(&id), &id)
}

fn found(found: bool, id: &str) -> Answer {
    if found {
        Ok(Json(json!({})))
    } else {
        Err(Problem(format!("there is no fault {id}")))
    }
}
