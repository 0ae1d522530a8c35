//! The verbs of a running job, bare, as its context sends them: for the model test, which says what they answer.

use crate::{
    model::{JobId, NewJob},
    store::{Opening, Said, Spawned, Store, StoreError, Suspended, Until, Wanted},
};

/// What a job waits for.
#[derive(Debug, Clone)]
pub enum Awaiting<'a> {
    /// A time.
    Time,
    /// A signal of this name.
    Signal(&'a str),
    /// These children: all of them or any; whether one that fails ends the wait.
    Children {
        /// Which.
        ids: &'a [JobId],
        /// All of them, or any.
        all: bool,
        /// One that does not succeed ends the wait.
        fail: bool,
    },
}

/// Writes down what a job is about to wait for, at most for `ms` from now (0: for ever); the answer in words.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn suspend(
    store: &Store,
    (id, fence): (&JobId, u64),
    (step, how): (&str, Opening),
    (awaiting, ms): (Awaiting<'_>, u64),
) -> Result<String, StoreError> {
    let wanted = match awaiting {
        Awaiting::Time => Wanted::Time,
        Awaiting::Signal(name) => Wanted::Signal(name),
        Awaiting::Children { ids, all, fail } => Wanted::Children { ids, all, fail },
    };
    let until = if ms == 0 { Until::Never } else { Until::After(std::time::Duration::from_millis(ms)) };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(match store.suspend((id, fence), step, how, (wanted, until), "{}").await? {
        Suspended::Waits { until } => format!("waits {until}"),
        Suspended::Done(result) => format!("done {}", text(&result)),
        Suspended::Stale => "stale".to_owned(),
        Suspended::Cancelled => "cancelled".to_owned(),
        Suspended::NotChild(child) => format!("not_child {child}"),
        Suspended::Look { .. } => "look".to_owned(),
    })
}

/// Takes a child in; the answer in words.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn spawn(
    store: &Store,
    (id, fence): (&JobId, u64),
    (step, how): (&str, Opening),
    child: &NewJob,
) -> Result<String, StoreError> {
    Ok(match store.spawn((id, fence), step, how, child).await? {
        Spawned::Child(child) => format!("spawned {child}"),
        Spawned::Stale => "stale".to_owned(),
        Spawned::Cancelled => "cancelled".to_owned(),
        Spawned::TooMany => "too_many".to_owned(),
        Spawned::Refused(why) => format!("refused {why}"),
    })
}

/// Says how far a running job is, and a line for its log, by a request of this name; `false` when the fence is another's.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn progress(
    store: &Store,
    (id, fence): (&JobId, u64),
    (percent, line): (u8, &str),
    request: &str,
) -> Result<bool, StoreError> {
    let said = Said { progress: Some((percent, String::new())), lines: vec![line.to_owned()] };
    store.progress_as(request, (id, fence), &said).await
}

/// From here on the job undoes what it did; `false` when the fence is another's.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn undo_begin(store: &Store, id: &JobId, fence: u64, failure: &[u8]) -> Result<bool, StoreError> {
    store.undo_begin(id, fence, failure).await
}
