//! An image with Kafka clients, made of what this machine has, so that nothing has to be pulled:
//! kcat with its libraries, and Kafka's Java tools with a Java reduced to what they need.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::cache::{built, client_sources};
use crate::client::Java;
use crate::tool::Tool;

/// Where the Java tools are in the image.
pub(super) const JAVA: &str = "/java/bin/java";
pub(super) const JARS: &str = "/jars";
pub(super) const LOGGING: &str = "/log4j2.properties";

const NAME: &str = "localhost/klamm-e2e-clients";
/// `sleep` keeps the pod alive.
const PROGRAMS: [&str; 2] = ["kcat", "sleep"];
const JAVA_MODULES: &str = "java.base,java.desktop,java.logging,java.management,java.naming,\
                            java.security.jgss,java.security.sasl,java.sql,jdk.unsupported";
const BUILD_LIMIT: Duration = Duration::from_secs(180);

/// An image in an archive.
pub(super) struct ClientImage {
    pub(super) archive: PathBuf,
    pub(super) name: String,
}

impl ClientImage {
    /// Makes the image, unless it was made before of the same files.
    ///
    /// # Errors
    /// When a program is not on this machine.
    pub(super) fn ensure() -> Result<Self> {
        let programs = PROGRAMS.map(find_program);
        let programs = programs.into_iter().collect::<Result<Vec<_>>>()?;
        let java = Java::new("")?;
        let jars: Vec<_> = java.classpath().split(':').map(PathBuf::from).collect();
        let logging = client_sources("java").join("log4j2.properties");
        let inputs = [&programs[..], &jars, std::slice::from_ref(&logging)].concat();
        let directory = built("client-image", &inputs, |directory| {
            let root = directory.join("root");
            fs::create_dir_all(root.join(&JARS[1..]))?;
            for jar in &jars {
                let name = jar.file_name().context("a jar has a name")?;
                copy(jar, &root.join(&JARS[1..]).join(name))?;
            }
            copy(&logging, &root.join(&LOGGING[1..]))?;
            let mut programs = programs.clone();
            for program in &programs {
                copy(program, &root.join(program.strip_prefix("/")?))?;
            }
            programs.extend(link_java(&root)?);
            for library in libraries(&programs)? {
                if !library.starts_with(&root) {
                    copy(&library, &root.join(library.strip_prefix("/")?))?;
                }
            }
            archive(directory, &root)
        })?;
        Ok(Self {
            name: fs::read_to_string(directory.join("name"))?,
            archive: directory.join("image.tar"),
        })
    }
}

fn find_program(name: &str) -> Result<PathBuf> {
    let program = Path::new("/usr/bin").join(name);
    ensure!(
        program.is_file(),
        "{} is not there: install {name}",
        program.display()
    );
    Ok(program)
}

fn copy(file: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target.parent().context("files lie in directories")?)?;
    fs::copy(file, target).with_context(|| format!("can't copy {}", file.display()))?;
    Ok(())
}

/// Puts Java into the root file system; returns its programs and libraries.
fn link_java(root: &Path) -> Result<Vec<PathBuf>> {
    let java = root.join("java");
    Tool::new("jlink")
        .args(["--add-modules", JAVA_MODULES, "--strip-debug"])
        .args(["--no-header-files", "--no-man-pages", "--output"])
        .args([&java])
        .time_limit(BUILD_LIMIT)
        .run()?;
    let mut files = vec![java.join("bin/java")];
    for directory in ["lib", "lib/server"] {
        for entry in fs::read_dir(java.join(directory))? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "so") {
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// The shared libraries that programs need, the dynamic linker among them, as `ldd` prints them:
/// `libz.so.1 => /lib/libz.so.1 (0x7f...)`, or the path alone. With several programs it heads the
/// lines of each by `PROGRAM:`.
fn libraries(programs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let output = Tool::new("ldd").args(programs).run()?;
    let lines = output.stdout.lines().filter(|line| !line.ends_with(':'));
    let words = lines.flat_map(str::split_whitespace);
    let mut libraries: Vec<_> = words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect();
    libraries.sort();
    libraries.dedup();
    Ok(libraries)
}

/// Docker and Podman alike make an image of a root file system.
fn archive(directory: &Path, root: &Path) -> Result<()> {
    let tag = directory.file_name().context("the cache has a name")?;
    let name = format!("{NAME}:{}", tag.to_string_lossy());
    let layer = directory.join("layer.tar");
    let tool = |program: &str| Tool::new(program).time_limit(BUILD_LIMIT);
    tool("tar")
        .args(["--create", "--file"])
        .args([&layer])
        .args(["--directory"])
        .args([root])
        .args(["."])
        .run()?;
    let podman = std::env::var("KIND_EXPERIMENTAL_PROVIDER").is_ok_and(|name| name == "podman");
    let engine = || tool(if podman { "podman" } else { "docker" });
    engine()
        .args(["import"])
        .args([&layer])
        .args([&name])
        .run()?;
    engine()
        .args(["save", "--output"])
        .args([directory.join("image.tar")])
        .args([&name])
        .run()?;
    engine().args(["rmi", &name]).run()?;
    fs::remove_dir_all(root)?;
    fs::remove_file(layer)?;
    fs::write(directory.join("name"), name)?;
    Ok(())
}
