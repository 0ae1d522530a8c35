//! A schedule is paused and let go on: nothing else that was said of it changes.

use super::{connect::Store, error::StoreError, schedules::SchedulePut};

impl Store {
    /// Pauses a schedule, or lets it fire again from now on; `None` when there is none. Who wrote it, its job and what signs
    /// the job's webhooks stay. `expected` as in [`Store::put_schedule`].
    ///
    /// # Errors
    /// As [`Store::schedule`].
    pub async fn pause_schedule(
        &self,
        tenant: &str,
        name: &str,
        paused: bool,
        expected: Option<u32>,
    ) -> Result<Option<SchedulePut>, StoreError> {
        loop {
            let Some(held) = self.schedule(tenant, name).await? else { return Ok(None) };
            let mut spec = held.spec;
            spec.rules.paused = paused;
            // An expression that cannot be read any more is due at once, which tells of it.
            let table = spec.rules.timetable().ok();
            let next = |at| table.as_ref().map_or(Some(at), |table| table.next_after(at));
            match self.write_schedule(&spec, next, Some(expected.unwrap_or(held.revision))).await? {
                // Somebody else wrote it meanwhile: the pause is of what that is now.
                SchedulePut::Conflict(_) if expected.is_none() => {}
                written => return Ok(Some(written)),
            }
        }
    }
}
