//! One registry for each account and Region, made on first need, each with a data plane on a port of its own: requests
//! to `/v2/` carry neither account nor Region, so the port has to tell. Another port stands for S3, where the blobs are.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fakecloud_core::service::AwsServiceError;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::answer::refusal;
use crate::ecr::Registry;
use crate::world::World;
use crate::{plane, serve};

/// The registries in use.
pub(crate) struct Registries {
    host: IpAddr,
    open: Mutex<HashMap<(String, String), Arc<Registry>>>,
}

impl Registries {
    pub(crate) fn new(host: IpAddr) -> Self {
        Self {
            host,
            open: Mutex::default(),
        }
    }
}

/// The registry of an account in a Region; its data plane serves from now on.
pub(crate) fn registry(world: &Arc<World>, account: &str, region: &str) -> Result<Arc<Registry>, AwsServiceError> {
    let mut open = world.registries.open.lock();
    let key = (account.to_owned(), region.to_owned());
    if let Some(registry) = open.get(&key) {
        return Ok(Arc::clone(registry));
    }
    let open_port = || {
        listen(world.registries.host)
            .map_err(|error| refusal(500, "ServerException", format!("no data plane: {error}")))
    };
    let ((listener, address), (store, store_address)) = (open_port()?, open_port()?);
    let registry = Arc::new(Registry::new(account, region, address, store_address));
    for (listener, side) in [(listener, plane::Side::Registry), (store, plane::Side::Store)] {
        let (world, registry) = (Arc::clone(world), Arc::clone(&registry));
        tokio::spawn(serve::serve(listener, move |request| {
            plane::request(Arc::clone(&world), Arc::clone(&registry), side, request)
        }));
    }
    open.insert(key, Arc::clone(&registry));
    Ok(registry)
}

fn listen(host: IpAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind((host, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((TcpListener::from_std(listener)?, address))
}
