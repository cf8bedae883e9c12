//! The access key in the environment variables that all official SDKs read first.

use std::ffi::OsString;

use futures::{FutureExt, future::BoxFuture};

use super::{Credentials, FailureKind, InvalidCredentials, Provider, ProviderError, Secret};

/// The variable with the access key id.
pub const ACCESS_KEY_ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
/// The variable with the access key secret.
pub const ACCESS_KEY_SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
/// The variable with the security token of a temporary access key; optional.
pub const SECURITY_TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";

const NAME: &str = "environment";

/// The access key in the environment. It is read once, because the environment of a process does not change.
pub struct Environment(Result<Option<Credentials>, EnvironmentError>);

/// Why the variables are invalid. Names the variable and does not contain its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum EnvironmentError {
    #[error("{ACCESS_KEY_ID} is missing, though another variable of the access key is set")]
    NoId,
    #[error("{ACCESS_KEY_SECRET} is missing, though another variable of the access key is set")]
    NoSecret,
    #[error("{0} is not valid UTF-8")]
    NotUtf8(&'static str),
    #[error(transparent)]
    Invalid(#[from] InvalidCredentials),
}

impl Environment {
    /// Reads the variables through `lookup`: in the program `|name| std::env::var_os(name)`.
    ///
    /// As in the official SDKs, an empty variable counts as not set. A part of an access key is an error;
    /// [`Provider::credentials`] returns it.
    #[must_use]
    pub fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        Self(read(lookup))
    }
}

impl Provider for Environment {
    fn name(&self) -> &'static str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        let answer = self.0.clone();
        async { answer.map_err(|error| ProviderError::new(NAME, FailureKind::Refused, &error)) }.boxed()
    }
}

fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Option<Credentials>, EnvironmentError> {
    let value = |name: &'static str| match lookup(name).map(OsString::into_string) {
        Some(Ok(value)) if !value.is_empty() => Ok(Some(value)),
        Some(Ok(_)) | None => Ok(None),
        Some(Err(_)) => Err(EnvironmentError::NotUtf8(name)),
    };
    let id = value(ACCESS_KEY_ID)?;
    let secret = value(ACCESS_KEY_SECRET)?.map(Secret::from);
    let token = value(SECURITY_TOKEN)?.map(Secret::from);
    match (id, secret, token) {
        (None, None, None) => Ok(None),
        (None, _, _) => Err(EnvironmentError::NoId),
        (Some(_), None, _) => Err(EnvironmentError::NoSecret),
        (Some(id), Some(secret), token) => Ok(Some(Credentials::new(id, secret, token)?.from_provider(NAME))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(id: &str, secret: &str, token: &str) -> Result<Option<(String, bool)>, EnvironmentError> {
        let environment = Environment::read(|name| match name {
            ACCESS_KEY_ID => Some(id.into()),
            ACCESS_KEY_SECRET => Some(secret.into()),
            SECURITY_TOKEN => Some(token.into()),
            _ => None,
        });
        environment.0.map(|found| {
            found.map(|found| (found.access_key_id().to_owned(), found.security_token().is_some()))
        })
    }

    #[test]
    fn half_an_access_key_is_an_error() {
        let table = [
            (("", "", ""), Ok(None)),
            (("id", "secret", ""), Ok(Some(("id".to_owned(), false)))),
            (("id", "secret", "token"), Ok(Some(("id".to_owned(), true)))),
            (("id", "", ""), Err(EnvironmentError::NoSecret)),
            (("id", "", "token"), Err(EnvironmentError::NoSecret)),
            (("", "secret", ""), Err(EnvironmentError::NoId)),
            (("", "secret", "token"), Err(EnvironmentError::NoId)),
            (("", "", "token"), Err(EnvironmentError::NoId)),
            (
                ("id", "secret\n", ""),
                Err(EnvironmentError::Invalid(InvalidCredentials::Characters("access key secret"))),
            ),
        ];
        for ((id, secret, token), expected) in table {
            assert_eq!(outcome(id, secret, token), expected, "{id:?} {secret:?} {token:?}");
        }
    }

    #[tokio::test]
    async fn an_error_names_the_provider_and_the_variable() {
        let environment = Environment::read(|name| (name == ACCESS_KEY_ID).then(|| "id".into()));
        let error = environment.credentials().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "credentials from environment: ALIBABA_CLOUD_ACCESS_KEY_SECRET is missing, \
             though another variable of the access key is set"
        );
    }

    #[tokio::test]
    async fn an_empty_environment_is_not_configured() {
        assert!(Environment::read(|_| None).credentials().await.unwrap().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_text_is_an_error() {
        use std::os::unix::ffi::OsStringExt;

        let environment = Environment::read(|_| Some(OsString::from_vec(vec![0xff])));
        assert_eq!(environment.0.map(|_| ()), Err(EnvironmentError::NotUtf8(ACCESS_KEY_ID)));
    }
}
