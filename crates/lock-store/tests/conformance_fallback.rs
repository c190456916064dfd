//! Conformance of `FallbackLockStore`: every check, over stores that found no
//! Redis when they were made, and have moved to it since.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use lock_store::testing::Storage;
use lock_store::{Fallback, RedisConfig};
use redis_fixture::{Proxy, Server};

use support::redis::{Common, at, own_prefix, store};

static SERVER: Common<Server> = Common::new();

fn healed() -> Storage {
    let server = SERVER.get(Server::start);
    let prefix = own_prefix();
    let proxies = Arc::new(std::sync::Mutex::new(Vec::new()));
    Storage::new(move |timing| {
        let proxy = Proxy::to(&server.address());
        proxy.refuse(true);
        let redis = RedisConfig {
            key_prefix: Some(prefix.clone()),
            fallback: Fallback::InMemory,
            ..at(&proxy.url())
        };
        let (server, proxies) = (server.clone(), proxies.clone());
        Box::pin(async move {
            let store = store(&redis, timing).await;
            assert!(store.is_degraded());
            proxy.refuse(false);
            while store.is_degraded() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            proxies.lock().unwrap().push(proxy);
            drop(server);
            store
        })
    })
}

lock_store::conformance_tests!(healed());
