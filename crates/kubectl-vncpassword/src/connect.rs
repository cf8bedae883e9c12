//! kubectl's own flags: which cluster, as whom, in which namespace.

use std::{env, ffi::OsString, io, path::PathBuf, time::Duration};

use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use super::{Error, Lookup};
use vncpassword_kube_client as kube_client;
use vncpassword_kube_client::{Deadlines, Retries};

/// The flags that kubectl has, too. They may stand before the command or after it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Flags of kubectl")]
pub struct ConnectArgs {
    /// Namespace. Default: that of the context
    #[arg(long, short, value_name = "NAMESPACE", global = true)]
    pub namespace: Option<String>,

    /// Kubeconfig file. Default: what KUBECONFIG names, else ~/.kube/config
    #[arg(long, value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig. Default: the current one
    #[arg(long, value_name = "NAME", global = true)]
    pub context: Option<String>,

    /// Cluster of the kubeconfig. Default: that of the context
    #[arg(long, value_name = "NAME", global = true)]
    pub cluster: Option<String>,

    /// User of the kubeconfig. Default: that of the context
    #[arg(long, value_name = "NAME", global = true)]
    pub user: Option<String>,

    /// Address of the API server. Default: that of the cluster
    #[arg(long, short, value_name = "URL", global = true)]
    pub server: Option<String>,

    /// How long to wait for one reply of the API server, such as 1m; 0: 10s, for a list 30s
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration, global = true)]
    pub request_timeout: Duration,

    /// User to act as, in place of yourself
    #[arg(long = "as", value_name = "USER", global = true)]
    pub as_user: Option<String>,

    /// Group to act as; may be repeated
    #[arg(long, value_name = "GROUP", global = true)]
    pub as_group: Vec<String>,

    /// UID to act as
    #[arg(long, value_name = "UID", global = true)]
    pub as_uid: Option<String>,

    /// Where a kubeconfig is looked for without `--kubeconfig`.
    #[arg(skip)]
    pub places: Vec<PathBuf>,
}

/// The files that `KUBECONFIG` lists, else the one in the home directory.
#[must_use]
pub fn places(lookup: &Lookup) -> Vec<PathBuf> {
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let listed = |list: OsString| -> Vec<PathBuf> {
        env::split_paths(&list).filter(|file| !file.as_os_str().is_empty()).collect()
    };
    match set("KUBECONFIG") {
        Some(list) => listed(list),
        None => set("HOME").map(|home| PathBuf::from(home).join(".kube/config")).into_iter().collect(),
    }
}

/// Those of these files that are there, as one; the first that says something has the say, as with kubectl.
fn merged(files: &[PathBuf]) -> Result<Kubeconfig, KubeconfigError> {
    let mut merged: Option<Kubeconfig> = None;
    let mut missing = KubeconfigError::FindPath;
    for file in files {
        match Kubeconfig::read_from(file) {
            Ok(more) => merged = Some(merged.unwrap_or_default().merge(more)?),
            Err(error) if is_missing(&error) => missing = error,
            Err(error) => return Err(error),
        }
    }
    merged.ok_or(missing)
}

/// Whether there is no file, as against one that cannot be read.
fn is_missing(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(error, _) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Reads a Go duration, or seconds without a unit as kubectl does.
///
/// # Errors
/// It is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    vncpassword_core::api::duration(text).ok_or_else(|| "must be a duration such as 30s or 1h30m".to_owned())
}

/// A way to the cluster.
#[derive(Clone)]
pub struct Connection {
    /// Talks to the API server.
    pub client: Client,
    /// That of the flag, else that of the context.
    pub namespace: String,
}

impl ConnectArgs {
    /// Reads the kubeconfig and makes a client of it. Nothing is asked of the API server yet.
    ///
    /// # Errors
    /// [`Error::Kubeconfig`], [`Error::Usage`], [`Error::Client`].
    pub async fn connect(&self) -> Result<Connection, Error> {
        let config = self.config().await?;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        // As with kubectl: a time of the flag is for every request but a watch.
        let deadlines = match self.request_timeout {
            Duration::ZERO => Deadlines::default(),
            all => Deadlines { single: all, list: all, ..Deadlines::default() },
        };
        let client = kube_client::client(config, deadlines, Retries::WhenSafe)
            .map_err(|error| Error::Client(Box::new(error)))?;
        Ok(Connection { client, namespace })
    }

    /// The kubeconfig as it is.
    ///
    /// # Errors
    /// [`Error::Kubeconfig`].
    pub fn kubeconfig(&self) -> Result<Kubeconfig, Error> {
        match &self.kubeconfig {
            Some(file) => Kubeconfig::read_from(file),
            None => merged(&self.places),
        }
        .map_err(Error::Kubeconfig)
    }

    async fn config(&self) -> Result<Config, Error> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            cluster: self.cluster.clone(),
            user: self.user.clone(),
        };
        let chosen = self.kubeconfig.is_some()
            || options.context.is_some()
            || options.cluster.is_some()
            || options.user.is_some();
        let mut config = match self.kubeconfig() {
            Ok(kubeconfig) => {
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(Error::Kubeconfig)?
            }
            // In a Pod there is none, and kubectl makes do with the Pod's own account.
            Err(Error::Kubeconfig(why)) if !chosen && is_missing(&why) => {
                Config::incluster().map_err(|_| Error::Kubeconfig(why))?
            }
            Err(error) => return Err(error),
        };
        self.override_in(&mut config)?;
        Ok(config)
    }

    fn override_in(&self, config: &mut Config) -> Result<(), Error> {
        if let Some(server) = &self.server {
            config.cluster_url =
                server.parse().map_err(|error| Error::Usage(format!("--server {server}: {error}")))?;
        }
        if !self.request_timeout.is_zero() {
            config.connect_timeout = Some(self.request_timeout);
        }
        if self.as_user.is_none() && (!self.as_group.is_empty() || self.as_uid.is_some()) {
            return Err(Error::Usage("--as-group and --as-uid need --as".to_owned()));
        }
        if self.as_user.is_some() {
            config.auth_info.impersonate.clone_from(&self.as_user);
            config.auth_info.impersonate_uid.clone_from(&self.as_uid);
            config.auth_info.impersonate_groups = (!self.as_group.is_empty()).then(|| self.as_group.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use super::*;

    #[test]
    fn durations_are_read_as_kubectl_reads_them() {
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("soon").is_err());
    }

    #[test]
    fn a_kubeconfig_is_looked_for_where_kubectl_looks_for_it() {
        for (list, home, expected) in [
            (Some("/a:/b"), Some("/home/jane"), vec!["/a", "/b"]),
            (Some(":/b:"), Some("/home/jane"), vec!["/b"]),
            (Some(""), Some("/home/jane"), vec!["/home/jane/.kube/config"]),
            (None, Some("/home/jane"), vec!["/home/jane/.kube/config"]),
            (None, None, vec![]),
        ] {
            let lookup: Lookup = Arc::new(move |name| match name {
                "KUBECONFIG" => list.map(OsString::from),
                "HOME" => home.map(OsString::from),
                _ => None,
            });
            let expected: Vec<PathBuf> = expected.into_iter().map(PathBuf::from).collect();
            assert_eq!(places(&lookup), expected, "{list:?} {home:?}");
        }
    }

    #[test]
    fn files_that_are_not_there_are_passed_over_and_broken_ones_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let file = directory.path().join(name);
            fs::write(&file, text).unwrap();
            file
        };
        let missing = directory.path().join("missing");
        let one = file("one", "current-context: one");
        let two = file("two", "current-context: two\ncontexts: [{name: two, context: {cluster: c}}]");
        let broken = file("broken", "contexts: {");
        let both = merged(&[missing.clone(), one, two.clone()]).unwrap();
        assert_eq!((both.current_context.as_deref(), both.contexts.len()), (Some("one"), 1));
        for none in [vec![], vec![missing.clone(), missing]] {
            assert!(is_missing(&merged(&none).unwrap_err()), "the account of the Pod may be taken");
        }
        assert!(!is_missing(&merged(&[broken, two]).unwrap_err()), "nothing takes the place of a broken one");
    }

    fn config() -> Config {
        Config::new("https://one.example".parse().unwrap())
    }

    #[test]
    fn flags_override_what_the_kubeconfig_says() {
        let mut config = config();
        let arguments = ConnectArgs {
            server: Some("https://other.example:8443".to_owned()),
            request_timeout: Duration::from_secs(7),
            as_user: Some("jane".to_owned()),
            as_group: vec!["devs".to_owned(), "ops".to_owned()],
            ..ConnectArgs::default()
        };
        arguments.override_in(&mut config).unwrap();
        assert_eq!(config.cluster_url.to_string(), "https://other.example:8443/");
        assert_eq!(config.auth_info.impersonate.as_deref(), Some("jane"));
        assert_eq!(config.auth_info.impersonate_groups, Some(vec!["devs".to_owned(), "ops".to_owned()]));
    }

    #[test]
    fn a_group_without_a_user_is_a_usage_error() {
        let arguments = ConnectArgs { as_group: vec!["devs".to_owned()], ..ConnectArgs::default() };
        assert!(matches!(arguments.override_in(&mut config()), Err(Error::Usage(_))));
    }
}
