//! A disk that fails as it is told to.

use std::{
    io::{self, IoSlice},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use relay_record::{Disk, DiskFile, SystemDisk};

/// How it fails; not at all by default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Bytes that fit yet; then ENOSPC, with what fits written.
    pub(crate) room: Option<u64>,
    /// Nothing can be created.
    pub(crate) read_only: bool,
    /// Every sync fails after so many.
    pub(crate) sync_after: Option<u32>,
}

/// The system's disk, with faults.
#[derive(Clone, Debug)]
pub(crate) struct FaultyDisk(Arc<Mutex<Faults>>);

impl FaultyDisk {
    pub(crate) fn new(faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(faults)))
    }

    pub(crate) fn mend(&self) {
        *self.faults() = Faults::default();
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.0.lock().expect("no holder panics")
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.create_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        if self.faults().read_only {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Box::new(FaultyFile { file: SystemDisk.create(path)?, disk: self.clone() }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        SystemDisk.free_bytes(dir)
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn DiskFile>,
    disk: FaultyDisk,
}

impl DiskFile for FaultyFile {
    fn write_at(&mut self, at: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let room = self.disk.faults().room;
        let fits = room.map_or(all.len(), |room| usize::try_from(room).expect("a small disk").min(all.len()));
        self.file.write_at(at, &mut [IoSlice::new(&all[..fits])])?;
        if let Some(room) = &mut self.disk.faults().room {
            *room -= fits as u64;
        }
        if fits < all.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        match &mut self.disk.faults().sync_after {
            Some(0) => return Err(io::Error::from_raw_os_error(5)),
            Some(left) => *left -= 1,
            None => {}
        }
        self.file.sync()
    }
}
