//! `kubectl-vncpassword`: the plugin of kubectl. `kubectl vncpassword ...` finds it on PATH.

use std::process::ExitCode;

use vncpassword_plugin as cli;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut console = cli::Console::from_process(|name| std::env::var_os(name));
    ExitCode::from(cli::run(std::env::args_os(), &mut console).await)
}
