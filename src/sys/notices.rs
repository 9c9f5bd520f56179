//! Remarks for the user that are no errors.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

/// Where one-line remarks for the user go: not errors, but what he should know.
#[derive(Clone)]
pub struct Notices(Arc<dyn Fn(&str) + Send + Sync>);

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notices")
    }
}

impl Notices {
    /// Remarks are given to `sink`, from any thread.
    pub fn new(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Remarks are lines on standard error.
    pub fn stderr() -> Self {
        Self::new(|line| {
            // Whoever listened may have gone (`2>&1 | head`): eprintln would panic.
            let _ = writeln!(std::io::stderr(), "minivmm: {line}");
        })
    }

    /// Remarks that begin with what they are about.
    pub fn about(&self, what: &str) -> Self {
        let (all, prefix) = (self.clone(), format!("{what}: "));
        Self::new(move |line| all.say(&format!("{prefix}{line}")))
    }

    /// Says one line.
    pub fn say(&self, line: &str) {
        (self.0)(line);
    }
}
