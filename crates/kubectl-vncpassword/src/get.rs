//! `get`: the password of one instance, to the clipboard, and to standard output only where that is asked for. It goes to no
//! argument, message or log, and what is held of it here is zeroised.

mod clipboard;
mod warning;

use std::{collections::BTreeMap, ops::Deref};

use clap::Args;
use kube::core::Request;
use serde::Deserialize;
use zeroize::Zeroizing;

use self::warning::{Context, Which};
use super::{ConnectArgs, Connection, Console, Doing, Error, error::DONE, read, summary::ObjectSummary};

/// What stands for a password that is not shown.
const MASK: &str = "******";

/// Flags of `get`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Without --show the password goes to the clipboard, by wl-copy, xclip, xsel, pbcopy or clip.exe, whichever is there with its screen; \
where none is, nothing but a masked line is written. With --show it is written to standard output, in a pipe without a line break. \
Remarks go to standard error: how old the password is, and whether another one may be in effect already.

Examples:
  kubectl vncpassword get db-1
  kubectl vncpassword get db-1 --show
  kubectl vncpassword get db-1 --next        the one on its way: where the other does not work
  kubectl vncpassword get db-1 --previous    the one before")]
pub struct GetArgs {
    /// The VncPassword
    #[arg(value_name = "NAME")]
    pub name: String,

    /// The password on its way, in the key with .next
    #[arg(long, conflicts_with = "previous")]
    pub next: bool,

    /// The password before, in the key with .previous
    #[arg(long)]
    pub previous: bool,

    /// Write it to standard output
    #[arg(long)]
    pub show: bool,
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// See [`Error`].
pub async fn get(arguments: GetArgs, connect: &ConnectArgs, console: &mut Console) -> Result<u8, Error> {
    let which = match (arguments.next, arguments.previous) {
        (true, _) => Which::Next,
        (_, true) => Which::Previous,
        _ => Which::Current,
    };
    let name = match arguments.name.parse() {
        Ok(read::Named::Object(name)) => name,
        Ok(read::Named::Fleet(_)) => {
            return Err(Error::Usage("a fleet has no password: name one of its VncPasswords".to_owned()));
        }
        Err(error) => return Err(Error::Usage(error)),
    };
    let connection = connect.connect().await?;
    let object = match read::by_name(&connection, vec![name]).await.pop() {
        Some(object) => object?,
        None => return Ok(DONE),
    };
    let mut opened = open(&object, &connection).await?;
    let key = &object.spec.secret_ref.key;
    let context = Context { next: opened.has(&Which::Next.key(key)), now: (console.now)() };
    let Some(password) = opened.take(&which.key(key)) else {
        return Err(Error::Failed(warning::missing(&object, which)));
    };
    for line in warning::warnings(&object, which, &context) {
        console.warn(&line);
    }
    deliver(&password, arguments.show, console).await?;
    Ok(DONE)
}

async fn deliver(password: &Password, show: bool, console: &mut Console) -> Result<(), Error> {
    if show {
        console.say(password)?;
        // In a pipe it would be taken for a part of the password.
        return if console.width.is_some() { console.say("\n") } else { Ok(()) };
    }
    let tool = clipboard::tool(|name| (console.lookup)(name), |name| console.program(name));
    let warning = match tool {
        None => "not shown: no tool for a clipboard is there; --show writes it".to_owned(),
        Some(tool) => match tool.copy(password).await {
            Ok(()) => format!("copied to the clipboard by {}", tool.name),
            Err(error) => format!("not shown: {} could not copy it ({error}); --show writes it", tool.name),
        },
    };
    console.say(&format!("{MASK}  {warning}\n"))
}

// ------------------------------------------------------------------------------------------------------------- Secret

/// A password. Zeroised, and nothing shows it by mistake.
pub struct Password(Zeroizing<String>);

impl Deref for Password {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The Secret's data as they stand there, in base64.
#[derive(Deserialize)]
struct Opened {
    #[serde(default)]
    data: BTreeMap<String, Zeroizing<String>>,
}

impl Opened {
    fn has(&self, key: &str) -> bool {
        self.data.contains_key(key)
    }

    /// What is no text is no password either.
    fn take(&mut self, key: &str) -> Option<Password> {
        let encoded = self.data.remove(key)?;
        // As a JSON string it is read by the same code that reads every Secret.
        let quoted = Zeroizing::new(format!("\"{}\"", encoded.as_str()));
        let bytes: k8s_openapi::ByteString = serde_json::from_str(&quoted).ok()?;
        String::from_utf8(bytes.0).ok().map(|text| Password(Zeroizing::new(text)))
    }
}

async fn open(object: &ObjectSummary, connection: &Connection) -> Result<Opened, Error> {
    let name = &object.spec.secret_ref.name;
    let path = format!("/api/v1/namespaces/{}/secrets", connection.namespace);
    let doing = || Doing::core("get", "secrets").within(&connection.namespace).to(name);
    let request = Request::new(path)
        .get(name, &kube::api::GetParams::default())
        .map_err(|error| Error::of(doing(), kube::Error::BuildRequest(error)))?;
    let reply = connection.client.request_text(request).await.map(Zeroizing::new);
    let reply = reply.map_err(|error| match Error::of(doing(), error) {
        Error::NotFound(_) => Error::Failed(warning::no_secret(object)),
        error => error,
    })?;
    // serde's own message may repeat what it could not read.
    serde_json::from_str(&reply)
        .map_err(|_| Error::Server { doing: doing(), said: "the reply is no Secret".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_what_is_no_text_is_none() {
        let mut opened: Opened =
            serde_json::from_str(r#"{"kind": "Secret", "data": {"password": "YUIzNDVm", "binary": "/w=="}}"#)
                .unwrap();
        assert!(opened.has("password") && !opened.has("password.next"));
        assert_eq!(opened.take("password").as_deref(), Some("aB345f"));
        assert!(opened.take("binary").is_none());
        assert!(opened.take("password").is_none());
    }
}
