//! One object: packed, written and read back, read. Guards that an object which is there is whole.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
};

use leasehold_engine::{JobView, model::JobRecord};
use leasehold_targets::TargetError;

use super::{Shelf, ShelfError, line::Line, name::ObjectName};

/// Compression level: above it, jobs get hardly smaller and much slower.
const LEVEL: i32 = 6;
/// Bytes that an object is unpacked to at the most; those that we write have at most a few times the 8 MiB of a batch.
const UNPACKED: u64 = 256 << 20;

/// An object that is to be written.
#[derive(Debug)]
pub(super) struct Object {
    name: ObjectName,
    bytes: Vec<u8>,
}

/// Packs jobs into objects: those of a day, tenant, kind and place together, the newest first.
pub(super) fn pack(jobs: &[JobView]) -> Result<Vec<Object>, ShelfError> {
    let mut groups: BTreeMap<(String, &str, &str, &str), Vec<&JobView>> = BTreeMap::new();
    for job in jobs {
        let r = &job.record;
        let day = super::name::day_of(r.finished_at);
        groups.entry((day, &r.tenant, &r.kind, r.place.as_str())).or_default().push(job);
    }
    let mut objects = Vec::with_capacity(groups.len());
    for mut group in groups.into_values() {
        group.sort_by_key(|job| order(&job.record));
        let Some(name) = ObjectName::of(group.iter().map(|job| &job.record)) else { continue };
        let bytes = compress(&group).map_err(|error| damaged(&name, &error))?;
        objects.push(Object { name, bytes });
    }
    Ok(objects)
}

/// The newest first; the same for each reader.
fn order(job: &JobRecord) -> (std::cmp::Reverse<i64>, leasehold_engine::JobId) {
    (std::cmp::Reverse(job.finished_at), job.id.clone())
}

fn compress(jobs: &[&JobView]) -> std::io::Result<Vec<u8>> {
    let mut packer = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
    packer.include_checksum(true)?;
    for job in jobs {
        serde_json::to_writer(&mut packer, &Line::of(job)?)?;
        packer.write_all(b"\n")?;
    }
    packer.finish()
}

fn damaged(name: &ObjectName, why: &dyn std::fmt::Display) -> ShelfError {
    ShelfError::Damaged { object: name.to_string(), why: why.to_string() }
}

impl Shelf {
    /// Writes an object and reads it back: from then on it is the only copy.
    pub(super) async fn write(&self, object: Object) -> Result<(), ShelfError> {
        let name = object.name.to_string();
        self.files.put_bytes(&name, &object.bytes).await?;
        match self.content(&name).await? == object.bytes {
            true => Ok(()),
            false => Err(damaged(&object.name, &"it does not read back as it was written")),
        }
    }

    /// The jobs of an object, the newest first.
    pub(super) async fn read(&self, name: &ObjectName) -> Result<Vec<JobView>, ShelfError> {
        let bytes = self.content(&name.to_string()).await?;
        let wrong = |why: &dyn std::fmt::Display| damaged(name, why);
        let read = tokio::task::spawn_blocking(move || unpack(&bytes)).await;
        let lines = read.map_err(|error| wrong(&error))?.map_err(|error| wrong(&error))?;
        lines.into_iter().map(|line| line.into_view().map_err(|error| wrong(&error))).collect()
    }

    async fn content(&self, name: &str) -> Result<Vec<u8>, ShelfError> {
        let failed = |path: &std::path::Path, error: std::io::Error| {
            ShelfError::Target(TargetError::Unreachable {
                target: path.display().to_string(),
                doing: "read an archived object".to_owned(),
                source: Box::new(error),
            })
        };
        if let Some(path) = self.files.local_path(name).await? {
            return tokio::fs::read(&path).await.map_err(|error| failed(&path, error));
        }
        tokio::fs::create_dir_all(&self.scratch).await.map_err(|error| failed(&self.scratch, error))?;
        let folder = tempfile::tempdir_in(&self.scratch).map_err(|error| failed(&self.scratch, error))?;
        let path = folder.path().join("object");
        self.files.get(name, &path).await?;
        tokio::fs::read(&path).await.map_err(|error| failed(&path, error))
    }
}

fn unpack(bytes: &[u8]) -> std::io::Result<Vec<Line>> {
    let unpacked = zstd::stream::read::Decoder::new(bytes)?;
    let mut lines = BufReader::new(unpacked.take(UNPACKED)).lines();
    let mut jobs = Vec::new();
    for line in &mut lines {
        jobs.push(serde_json::from_str(&line?)?);
    }
    if jobs.is_empty() {
        return Err(std::io::Error::other("it is empty"));
    }
    Ok(jobs)
}
