//! `plan`: what a `ClusterVncPassword` would do that is not applied yet. Changes nothing. What is read is in `gather` and
//! `cloud`, what comes of it is pure: `input`, `forecast`, `render`.

mod cloud;
mod forecast;
mod gather;
mod input;
mod render;

use std::{io::Read, path::PathBuf};

use clap::Args;

use super::{
    ConnectArgs, Console, Error,
    error::{DONE, FAILED},
    output::{Output, value_in},
    text::USUAL_WIDTH,
};
use input::Input;
use render::Report;
use vncpassword_alicloud::connect::CloudArgs;

/// Flags of `plan`.
#[allow(clippy::doc_markdown, reason = "the help of the command line shows backticks as they are")]
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Tags are asked of the cloud with your own credentials, found as the official
SDKs find them: environment, ~/.aliyun/config.json, credentials file, role.
Without any it is said that they are not known.

Examples:
  kubectl vncpassword plan -f fleet.yaml                     which instances, in how many waves
  kubectl vncpassword plan -f fleet.yaml --rate 60/min       and how long it takes at 60 calls a minute
  helm template fleet | kubectl vncpassword plan -f -        from a pipe
  kubectl vncpassword plan -f fleet.yaml -o json             the same for a program")]
pub struct PlanArgs {
    /// File with one ClusterVncPassword, as YAML or JSON; - for standard input
    #[arg(long, short = 'f', value_name = "FILE")]
    pub filename: PathBuf,

    /// Calls a minute that the cloud lets through, such as 60/min, to tell how long it takes
    #[arg(long, value_name = "N/min", value_parser = rate)]
    pub rate: Option<f64>,

    /// Form of the answer; wide: all instances, name: their VncPasswords
    #[arg(long, short, value_name = "FORM", default_value = "table")]
    pub output: Output,

    /// How the cloud is reached.
    #[command(flatten, next_help_heading = "Flags of the cloud")]
    pub cloud: CloudArgs,
}

/// Reads `60/min`, or `60`.
fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/min").unwrap_or(text).trim();
    let rate = number.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "must be calls a minute, such as 60/min".to_owned())
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// See [`Error`].
pub async fn plan(arguments: PlanArgs, connect: &ConnectArgs, console: &mut Console) -> Result<u8, Error> {
    let PlanArgs { filename, rate, output, cloud } = arguments;
    let name = if filename.as_os_str() == "-" { "standard input" } else { &*filename.to_string_lossy() };
    let input = read(&filename, console)
        .and_then(|text| input::read(&text).map_err(|error| error.to_string()))
        .map_err(|problem| Error::Failed(format!("{name}: {problem}")))?;
    let connection = connect.connect().await?;
    let report = report(&connection, &input, rate, cloud, console).await?;
    let text = match output {
        Output::Json | Output::Yaml => {
            let value = serde_json::to_value(&report)
                .map_err(|error| Error::Failed(format!("the answer cannot be written: {error}")))?;
            value_in(output, &value)?
        }
        Output::Name => render::names(&report.forecast),
        Output::Table | Output::Wide => {
            render::text(&report, output == Output::Wide, console.width, USUAL_WIDTH)
        }
    };
    console.say(&text)?;
    Ok(if report.verdict.refuses() { FAILED } else { DONE })
}

async fn report(
    connection: &super::Connection,
    input: &Input,
    rate: Option<f64>,
    arguments: CloudArgs,
    console: &Console,
) -> Result<Report, Error> {
    let (mut snapshot, verdict) = gather::snapshot(connection, input, rate, (console.now)()).await?;
    snapshot.cloud = cloud::ask(&snapshot, arguments, &*console.lookup).await?;
    Ok(Report { forecast: forecast::forecast(&snapshot), verdict, rate })
}

fn read(file: &std::path::Path, console: &mut Console) -> Result<String, String> {
    if file.as_os_str() != "-" {
        return std::fs::read_to_string(file).map_err(|error| error.to_string());
    }
    let mut text = String::new();
    console.input.read_to_string(&mut text).map(|_| text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_calls_a_minute() {
        assert_eq!(rate("60/min"), Ok(60.0));
        assert_eq!(rate("0.5"), Ok(0.5));
        for wrong in ["", "0", "-1/min", "60/s", "many", "inf"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
