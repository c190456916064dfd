//! Finding the program of a command before it is needed.

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// Why there is no such program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoProgram {
    /// Named with a folder, and not there.
    Absent(PathBuf),
    /// Named without a folder.
    Unknown(PathBuf),
    NotExecutable(PathBuf),
}

/// Finds a program as a shell does.
pub(crate) fn find(program: &OsStr) -> Result<PathBuf, NoProgram> {
    let name = Path::new(program);
    if program.as_encoded_bytes().contains(&b'/') {
        if !name.is_file() {
            return Err(NoProgram::Absent(name.to_owned()));
        }
        if !is_program(name) {
            return Err(NoProgram::NotExecutable(name.to_owned()));
        }
        return Ok(name.to_owned());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
        .ok_or_else(|| NoProgram::Unknown(name.to_owned()))
}

fn is_program(file: &Path) -> bool {
    file.is_file() && access(file, AccessFlags::X_OK).is_ok()
}

impl fmt::Display for NoProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(name) => write!(f, "the command {} is not a file", name.display()),
            Self::Unknown(name) => {
                write!(f, "the command {} is in no folder of PATH", name.display())
            }
            Self::NotExecutable(name) => write!(
                f,
                "the command {} is not executable; chmod +x makes it so",
                name.display()
            ),
        }
    }
}

impl Error for NoProgram {}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(program: &str) -> String {
        find(program.as_ref()).unwrap_err().to_string()
    }

    #[test]
    fn a_command_is_found_before_it_is_needed() {
        assert!(find("sh".as_ref()).is_ok());
        assert_eq!(find("/bin/sh".as_ref()), Ok(PathBuf::from("/bin/sh")));
        assert!(error("no-such-command-here").contains("is in no folder of PATH"));
        assert!(error("./no-such-command-here").contains("is not a file"));
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert!(error(path).contains("is not executable"));
    }
}
