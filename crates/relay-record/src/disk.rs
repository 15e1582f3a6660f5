//! The few things asked of a disk: by the operating system, or by a test that makes it fail.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    os::unix::fs::FileExt as _,
    path::Path,
};

use rustix::fs::FlockOperation;

/// Creates files, and knows how full the disk is.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Creates `dir` and what leads to it, if they are not there, and makes its name durable.
    ///
    /// # Errors
    /// As the system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Creates a file that doesn't exist yet and locks it, so that no repair touches it while it is written.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` if there is one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Deletes a file.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the entries of `dir` durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that this process may still write to the disk of `dir`.
    ///
    /// # Errors
    /// As the system says.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// A file being written.
pub trait DiskFile: fmt::Debug + Send {
    /// Writes all of `slices`, one behind another, from byte `at` on.
    ///
    /// # Errors
    /// As the system says; then any part of it may have been written.
    fn write_at(&mut self, at: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// Cuts the file off at `len` bytes.
    ///
    /// # Errors
    /// As the system says.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Makes content and length durable.
    ///
    /// # Errors
    /// As the system says. After that nothing is known of what was written since the last success.
    fn sync(&mut self) -> io::Result<()>;
}

/// The operating system's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(dir)?;
        dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), |parent| self.sync_dir(parent))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).read(true).create_new(true).open(path)?;
        // Some network file systems have no locks; the file is ours nonetheless.
        let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        Ok(Box::new(file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// The most slices one system call takes (IOV_MAX on Linux and the BSDs).
const SLICES_MAX: usize = 1_024;

impl DiskFile for File {
    fn write_at(&mut self, mut at: u64, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let batch = slices.get(..SLICES_MAX).unwrap_or(slices);
            let written = match rustix::io::pwritev(&*self, batch, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            at += written as u64;
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Reads up to `len` bytes from byte `at` of a file; fewer at its end.
pub(crate) fn read_at(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
