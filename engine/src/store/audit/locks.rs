//! Locks and limits: who holds a resource says so, what runs holds all it needs, and running jobs are counted by key.

use std::collections::BTreeMap;

use super::again::Look;
use crate::{
    model::{JobRecord, Place},
    store::{Store, StoreError},
};

impl Store {
    pub(super) async fn audit_locks(
        &self,
        shard: u16,
        records: &BTreeMap<String, JobRecord>,
        look: &mut Look,
    ) -> Result<(), StoreError> {
        let mut locks: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for resource in self.rests(shard, "lock:").await? {
            let holders = self.read(shard, "HGETALL", &format!("lock:{resource}"), &[]).await?;
            locks.insert(resource, holders);
        }
        for (resource, holders) in &locks {
            if holders.len() > 1 && holders.values().any(|mode| mode != "s") {
                look.say(resource, format!("{:?} hold it, and not all of them share it", holders.keys()));
            }
            for id in holders.keys() {
                let holds = records.get(id).is_some_and(|r| {
                    r.holds_resource && !r.place.is_final() && r.resources.iter().any(|x| x.name == *resource)
                });
                if !holds {
                    look.say_about(resource, id, format!("its lock names {id}, whose record does not hold it"));
                }
            }
        }
        let holds = |r: &JobRecord, name: &str| locks.get(name).is_some_and(|l| l.contains_key(r.id.as_str()));
        for r in records.values() {
            let held = r.resources.iter().filter(|x| holds(r, &x.name)).count();
            let works = matches!(r.place, Place::Ready | Place::Running);
            if (r.holds_resource && held == 0) || (works && held < r.resources.len()) {
                look.say(r.id.as_str(), format!("it is {} and holds {held} of {:?}", r.place, r.resources));
            }
        }
        look.note_running(shard, self.read(shard, "HGETALL", "running", &[]).await?);
        Ok(())
    }
}
