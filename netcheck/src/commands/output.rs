//! Where a command writes. The file is opened before anything else is done, so that a wrong path costs no time and needs no privilege
//! that was given up meanwhile.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use miette::{MietteDiagnostic, MietteHandlerOpts, miette};
use netcheck::report::text;
use policies::isolation::IsolationError;

use super::Failure;

/// A file, or the standard output.
#[derive(Debug)]
pub(crate) enum Output {
    /// A file, with its name for messages.
    File(File, PathBuf),
    /// The standard output.
    Standard,
}

impl Output {
    /// Creates the file, if one is named.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::Standard) };
        let file = File::create(path).map_err(|error| Failure::Usage(miette!("cannot write {}: {error}", path.display())))?;
        Ok(Self::File(file, path.to_owned()))
    }

    /// Writes all of it. A reader of the standard output that has seen enough is not an error.
    pub(crate) fn write(self, content: &[u8]) -> Result<(), Failure> {
        let (result, name) = match self {
            Self::File(mut file, path) => (file.write_all(content), path.display().to_string()),
            Self::Standard => {
                let mut standard = io::stdout().lock();
                (standard.write_all(content).and_then(|()| standard.flush()), "standard output".to_owned())
            }
        };
        match result {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Usage(miette!("cannot write {name}: {error}"))),
            _ => Ok(()),
        }
    }
}

/// Leaves it to the terminal to break lines: paths, commands and lines of policies are to be copied.
pub(crate) fn keep_lines_whole() {
    // It fails when it was done before.
    let _ = miette::set_hook(Box::new(|_| Box::new(MietteHandlerOpts::new().wrap_lines(false).build())));
}

/// Says something to whoever is at the terminal, with what is hidden in it made visible. Nobody has to be there.
pub(crate) fn say(message: &str) {
    let _ = writeln!(io::stderr(), "{}", text::plain_lines(message));
}

/// Says why something failed. What files, engines and containers put into it stays on its line.
pub(crate) fn complain(report: &miette::Report) {
    let help = report.help().map(|help| text::plain(&help.to_string()));
    complain_of(MietteDiagnostic { help, ..MietteDiagnostic::new(text::plain(&report.to_string())) });
}

/// Says why a policy is none, and shows the lines around the place.
pub(crate) fn complain_of_policy(error: &IsolationError) {
    complain_of(MietteDiagnostic::new(text::plain_lines(&error.to_string())));
}

fn complain_of(visible: MietteDiagnostic) {
    let _ = writeln!(io::stderr(), "{:?}", miette::Report::new(visible));
}
