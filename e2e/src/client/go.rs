//! franz-go, in a program built from `e2e/clients/go`.

use anyhow::Result;

use super::Program;
use crate::cache::{built, client_sources};
use crate::tool::Tool;

const SOURCES: [&str; 6] = [
    "go.mod",
    "go.sum",
    "main.go",
    "admin.go",
    "messages.go",
    "load.go",
];
/// Modules and, for an old Go, a tool chain may have to be fetched.
const BUILD_LIMIT: std::time::Duration = std::time::Duration::from_secs(600);

/// franz-go against one cluster.
///
/// # Errors
/// When the program can't be built.
pub fn franz_go(bootstrap: &str) -> Result<Program> {
    let sources = client_sources("go");
    let inputs = SOURCES.map(|name| sources.join(name));
    let directory = built("franz-go", &inputs, |directory| {
        Tool::new(go())
            .directory(&sources)
            .args(["build", "-trimpath", "-o"])
            .args([directory.join("franz")])
            .args(["."])
            .time_limit(BUILD_LIMIT)
            .run()?;
        Ok(())
    })?;
    Ok(Program {
        name: "franz-go",
        command: vec![directory.join("franz")],
        bootstrap: bootstrap.to_owned(),
    })
}

/// On `PATH`, or where Go's own instructions put it.
fn go() -> &'static str {
    let installed = "/usr/local/go/bin/go";
    let on_path = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("go").is_file()));
    if on_path { "go" } else { installed }
}
