//! The file of a picture.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::{Builder, NamedTempFile};

/// It is there at once and whole, when it is saved, and never if it is not.
pub(super) struct Picture {
    path: PathBuf,
    file: NamedTempFile,
}

impl Picture {
    /// Looks whether it can be written, before anything is measured for it.
    pub(super) fn at(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let is_svg = path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("svg"));
        if !is_svg {
            bail!("--plot {name}: the picture is an SVG; name a file that ends with .svg");
        }
        if path.is_dir() {
            bail!("--plot {name}: it is a directory; name a file that ends with .svg");
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let file = Builder::new()
            .prefix(".lock-store-bench-")
            .suffix(".svg")
            // As far as the umask lets them, like any new file.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .with_context(|| format!("--plot {name} cannot be written"))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    pub(super) fn save(mut self, svg: &str) -> anyhow::Result<()> {
        let cannot = || format!("--plot {} cannot be written", self.path.display());
        self.file.write_all(svg.as_bytes()).with_context(cannot)?;
        self.file
            .persist(&self.path)
            .map_err(|error| error.error)
            .with_context(cannot)?;
        Ok(())
    }
}
