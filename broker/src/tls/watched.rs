//! Certificates that are replaced while the broker runs.
//!
//! Their files are read every [`RELOAD_INTERVAL`], as the symbolic links of a Kubernetes Secret move
//! without a trace on the files. A change counts once it was read twice in a row: certificate and key are
//! two files, and nobody replaces both at one moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::sleep;

use super::sources::{PemContents, PemSources};
use super::{Material, TlsError};

/// How often files are read.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

type Build<T> = dyn Fn(Material) -> Result<T, TlsError> + Send + Sync;

/// What is made of certificates, always of the newest that can be used.
pub struct Watched<T> {
    sources: PemSources,
    build: Box<Build<T>>,
    current: RwLock<Arc<T>>,
    first: PemContents,
    status: Arc<CertificateStatus>,
}

/// What is told of certificates in use.
#[derive(Debug)]
pub struct CertificateStatus {
    /// The listener, `rpc` for gRPC.
    pub listener: String,
    expiry_s: AtomicI64,
    is_rejected: AtomicBool,
    reloads: AtomicU64,
}

impl CertificateStatus {
    /// When the certificate in use, or another one of its chain, expires: seconds since 1970.
    #[must_use]
    pub fn expiry_s(&self) -> i64 {
        self.expiry_s.load(Ordering::Relaxed)
    }

    /// Whether there are newer ones that can't be used.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.is_rejected.load(Ordering::Relaxed)
    }

    /// How often newer ones were taken.
    #[must_use]
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Relaxed)
    }
}

impl<T> Watched<T> {
    /// Reads `sources` and builds what they are for.
    ///
    /// # Errors
    /// When they can't be read or used.
    pub(crate) fn load(
        listener: &str,
        sources: PemSources,
        build: impl Fn(Material) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let contents = sources.read()?;
        let material = Material::parse(&sources, &contents)?;
        let expiry_s = material.expiry_s;
        let built = build(material)?;
        Ok(Self {
            sources,
            build: Box::new(build),
            current: RwLock::new(Arc::new(built)),
            first: contents,
            status: Arc::new(CertificateStatus {
                listener: listener.to_owned(),
                expiry_s: AtomicI64::new(expiry_s),
                is_rejected: AtomicBool::new(false),
                reloads: AtomicU64::new(0),
            }),
        })
    }

    /// What the newest usable certificates made.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read())
    }

    #[must_use]
    pub const fn status(&self) -> &Arc<CertificateStatus> {
        &self.status
    }

    fn take(&self, contents: &PemContents) -> Result<i64, TlsError> {
        let material = Material::parse(&self.sources, contents)?;
        let expiry_s = material.expiry_s;
        let built = (self.build)(material)?;
        *self.current.write() = Arc::new(built);
        Ok(expiry_s)
    }
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Takes newer certificates, for ever.
    pub async fn watch(self: Arc<Self>) {
        let mut watch = Watch::new(&self);
        loop {
            sleep(RELOAD_INTERVAL).await;
            let sources = self.sources.clone();
            let read = tokio::task::spawn_blocking(move || Reading::new(&sources)).await;
            if let Ok(reading) = read {
                watch.see(&self, reading);
            }
        }
    }
}

/// What the files held, or why they can't be read.
#[derive(Clone, PartialEq, Eq)]
enum Reading {
    Contents(PemContents),
    Unreadable(String),
}

impl Reading {
    fn new(sources: &PemSources) -> Self {
        match sources.read() {
            Ok(contents) => Self::Contents(contents),
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }
}

/// What was seen of the files so far.
struct Watch {
    /// Judged last, whether it is in use or was rejected.
    judged: Reading,
    /// Read once, and differs from the former.
    candidate: Option<Reading>,
}

impl Watch {
    fn new<T>(watched: &Watched<T>) -> Self {
        Self {
            judged: Reading::Contents(watched.first.clone()),
            candidate: None,
        }
    }

    fn see<T>(&mut self, watched: &Watched<T>, reading: Reading) {
        if reading == self.judged {
            self.candidate = None;
            return;
        }
        if self.candidate.as_ref() != Some(&reading) {
            self.candidate = Some(reading);
            return;
        }
        self.candidate = None;
        let taken = match &reading {
            Reading::Contents(contents) => watched.take(contents).map_err(|e| e.to_string()),
            Reading::Unreadable(reason) => Err(reason.clone()),
        };
        self.judged = reading;
        let status = &watched.status;
        status.is_rejected.store(taken.is_err(), Ordering::Relaxed);
        match taken {
            Ok(expiry_s) => {
                status.expiry_s.store(expiry_s, Ordering::Relaxed);
                status.reloads.fetch_add(1, Ordering::Relaxed);
                tracing::info!(listener = %status.listener, expiry_s, "took new certificates");
            }
            Err(reason) => tracing::error!(
                listener = %status.listener, %reason,
                "new certificates can't be used; the former ones stay in use"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, write_secret};
    use super::*;

    fn watched(dir: &std::path::Path) -> Watched<i64> {
        let build = |material: Material| Ok(material.expiry_s);
        Watched::load("TEST", PemSources::in_dir(dir), build).unwrap()
    }

    fn look<T>(watch: &mut Watch, watched: &Watched<T>) {
        watch.see(watched, Reading::new(&watched.sources));
    }

    #[test]
    fn new_certificates_are_taken_once_they_were_read_twice() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("first");
        write_secret(dir.path(), &authority.issue_until("a", 2040), &[&authority]);
        let watched = watched(dir.path());
        let mut watch = Watch::new(&watched);
        let first = *watched.current();
        assert_eq!(watched.status().expiry_s(), first);
        let newer = authority.issue_until("a", 2041);
        write_secret(dir.path(), &newer, &[&authority]);
        look(&mut watch, &watched);
        assert_eq!(*watched.current(), first);
        look(&mut watch, &watched);
        assert!(*watched.current() > first);
        assert_eq!(watched.status().expiry_s(), *watched.current());
        assert_eq!(watched.status().reloads(), 1);
    }

    #[test]
    fn broken_certificates_leave_the_former_ones_in_use_and_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("first");
        let good = authority.issue_until("a", 2040);
        write_secret(dir.path(), &good, &[&authority]);
        let watched = watched(dir.path());
        let mut watch = Watch::new(&watched);
        let first = watched.current();
        let other_key = authority.issue_until("a", 2041).key;
        for (file, broken) in [
            ("tls.crt", Some("garbage".to_owned())),
            ("tls.key", Some(other_key)),
            ("ca.crt", Some(good.chain.replace("-----END", "----END"))),
            ("tls.key", None),
        ] {
            let path = dir.path().join(file);
            match broken {
                Some(text) => std::fs::write(path, text).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            }
            for _ in 0..3 {
                look(&mut watch, &watched);
            }
            assert!(watched.status().is_rejected(), "{file}");
            assert!(Arc::ptr_eq(&first, &watched.current()));
            write_secret(dir.path(), &good, &[&authority]);
            look(&mut watch, &watched);
            look(&mut watch, &watched);
            assert!(!watched.status().is_rejected(), "{file}");
            // The same again, taken anew.
            *watched.current.write() = Arc::clone(&first);
        }
    }
}
