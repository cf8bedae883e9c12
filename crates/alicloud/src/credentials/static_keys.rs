//! Static keys, for example of a Kubernetes Secret that an object refers to.

use futures::{FutureExt, future::BoxFuture};

use super::{Credentials, InvalidCredentials, Provider, ProviderError, Secret};

const NAME: &str = "credentialsRef";

/// Static keys. If the keys change, make a new provider.
pub struct StaticKeys(Credentials);

impl StaticKeys {
    /// A provider of these values. Does not trim them.
    ///
    /// # Errors
    /// [`InvalidCredentials`] for an invalid value.
    pub fn new(
        access_key_id: String,
        access_key_secret: Secret,
        security_token: Option<Secret>,
    ) -> Result<Self, InvalidCredentials> {
        let credentials = Credentials::new(access_key_id, access_key_secret, security_token)?;
        Ok(Self(credentials.from_provider(NAME)))
    }
}

impl Provider for StaticKeys {
    fn name(&self) -> &'static str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        let credentials = self.0.clone();
        async { Ok(Some(credentials)) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn static_keys_are_returned_unchanged() {
        let keys = StaticKeys::new("LTAI5tExample".into(), Secret::from("hush"), Some(Secret::from("token")));
        let credentials = keys.unwrap().credentials().await.unwrap().unwrap();
        assert_eq!(credentials.access_key_id(), "LTAI5tExample");
        assert_eq!(credentials.access_key_secret().expose(), "hush");
        assert_eq!(credentials.security_token().map(Secret::expose), Some("token"));
        assert_eq!((credentials.provider(), credentials.expires_at()), ("credentialsRef", None));
    }
}
