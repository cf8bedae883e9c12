//! Remembers what the provider answered until it is told to forget.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Credentials, Provider, ProviderError};

/// The last credentials of a provider. Many callers may wait for them, but only one asks at a time.
pub(in crate::ecs) struct Cache {
    provider: Arc<dyn Provider>,
    last: Mutex<Option<Arc<Credentials>>>,
    asking: tokio::sync::Mutex<()>,
}

impl Cache {
    pub(in crate::ecs) fn new(provider: Arc<dyn Provider>) -> Self {
        Self { provider, last: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// The name of the provider that is asked.
    pub(in crate::ecs) fn provider(&self) -> &'static str {
        self.provider.name()
    }

    /// The remembered credentials, else the provider's; `None` if it is not configured. Neither `None` nor an error
    /// is remembered.
    pub(in crate::ecs) async fn get(&self) -> Result<Option<Arc<Credentials>>, ProviderError> {
        if let Some(credentials) = self.last() {
            return Ok(Some(credentials));
        }
        let _turn = self.asking.lock().await;
        // Whoever held the lock before us may have been given them.
        if let Some(credentials) = self.last() {
            return Ok(Some(credentials));
        }
        let answer = self.provider.credentials().await?.map(Arc::new);
        self.remember(answer.clone());
        Ok(answer)
    }

    /// Makes the next call ask the provider again.
    pub(in crate::ecs) fn forget(&self) {
        self.remember(None);
    }

    fn last(&self) -> Option<Arc<Credentials>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, credentials: Option<Arc<Credentials>>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = credentials;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::{
        FutureExt,
        future::{BoxFuture, join_all},
    };

    use super::*;
    use crate::ecs::credentials::Secret;

    /// Fails the first time, is not configured the second, then gives a new id each time.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Provider for Counting {
        fn name(&self) -> &'static str {
            "counting"
        }

        fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
            async {
                let turn = self.0.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                match turn {
                    0 => Err(ProviderError { provider: "counting", problem: "not yet".into() }),
                    1 => Ok(None),
                    n => Ok(Credentials::new(format!("id-{n}"), Secret::from("secret"), None).ok()),
                }
            }
            .boxed()
        }
    }

    #[tokio::test]
    async fn credentials_are_asked_for_once_until_forgotten() {
        let cache = Cache::new(Arc::new(Counting::default()));
        assert!(cache.get().await.is_err());
        assert!(cache.get().await.unwrap().is_none());
        for answer in join_all((0..9).map(|_| cache.get())).await {
            assert_eq!(answer.unwrap().unwrap().access_key_id(), "id-2");
        }
        cache.forget();
        assert_eq!(cache.get().await.unwrap().unwrap().access_key_id(), "id-3");
    }
}
