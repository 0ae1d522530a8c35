//! Runs a script over one session, each statement at most once (`SQL-13`, `SQL-15`).
//!
//! Invariant: a marker and the effect that it speaks of commit together. Where a database cannot do that, a `begun`
//! marker is committed first; found without its end, the statement is unknown and is not repeated.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{ExecuteOptions, OnError, OnStatement, ScriptReport, StatementError, StatementOutcome, Stopped};
use crate::TargetError;
use crate::script::{Class, Script, Statement};

/// How often a statement is tried when the database itself undid it (deadlock, serialization failure).
const TRIES: u32 = 4;

/// What a session may spend on one statement.
pub(super) struct Limits {
    pub(super) timeout: Option<Duration>,
    pub(super) max_rows: Option<u64>,
    pub(super) cancel: CancellationToken,
}

/// Why a step of a session did not succeed.
pub(super) enum Broke {
    /// The database answered with an error: nothing of the step was done.
    Sql(StatementError),
    /// The caller cancelled, and the step was undone.
    Cancelled,
    /// The session is over.
    Ended(TargetError),
}

impl From<TargetError> for Broke {
    fn from(error: TargetError) -> Self {
        Self::Ended(error)
    }
}

/// The proof kept in the target of one statement of a job.
#[derive(Debug, Clone)]
pub(super) struct Marker {
    pub(super) done: bool,
    pub(super) digest: String,
    pub(super) outcome: StatementOutcome,
}

/// One connection that keeps a script's settings, and writes markers in the same transactions.
#[async_trait]
pub(super) trait Session: Send {
    /// Makes our tables, refuses an older fence and raises ours. Nobody with an older one can commit afterwards.
    async fn claim(&mut self, fence: u64) -> Result<(), TargetError>;
    /// All markers of a job.
    async fn load(&mut self, job: &str) -> Result<Vec<Marker>, TargetError>;
    /// Opens a transaction from which one statement can be undone.
    async fn begin(&mut self) -> Result<(), TargetError>;
    /// Opens a transaction by the script's own words; `None` for the engine's plain one.
    async fn begin_as(&mut self, words: Option<&str>) -> Result<(), Broke>;
    /// Runs one statement of the script.
    async fn run(&mut self, text: &str, limits: &Limits) -> Result<u64, Broke>;
    /// Undoes the statement that was run since `begin`, and keeps a transaction open.
    async fn undo(&mut self) -> Result<(), TargetError>;
    /// Checks the fence and writes markers, in the open transaction.
    async fn record(&mut self, job: &str, fence: u64, markers: &[Marker]) -> Result<(), Broke>;
    /// Commits.
    async fn commit(&mut self) -> Result<(), Broke>;
    /// Undoes all since the transaction was opened.
    async fn rollback(&mut self) -> Result<(), TargetError>;
    /// Begins anew after the connection ended: what was not committed is undone by then.
    async fn reopen(&mut self, job: &str, fence: u64) -> Result<(), TargetError>;
    /// Whether the database undid the statement itself, and asks to try again.
    fn may_retry(&self, error: &StatementError) -> bool;
    /// Whether the statement asks to be run outside of a transaction.
    fn needs_alone(&self, statement: &Statement, error: &StatementError) -> bool;
}

/// Runs what is not yet recorded, and returns all outcomes.
pub(super) async fn execute(
    session: &mut dyn Session,
    script: &Script,
    options: &ExecuteOptions,
    observer: &OnStatement,
    cancel: CancellationToken,
) -> Result<ScriptReport, TargetError> {
    session.claim(options.fence).await?;
    let limits = Limits { timeout: options.statement_timeout, max_rows: options.max_rows, cancel };
    let total = u32::try_from(script.len()).unwrap_or(u32::MAX);
    let report = ScriptReport { statements: Vec::new(), total, found: 0, stopped: None };
    let mut run = Run { session, statements: script.statements(), options, observer, limits, report, lost: false };
    let found = run.load().await?;
    run.resume_session(&found).await?;
    run.units(&found).await?;
    Ok(run.report)
}

/// Statements that commit together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unit {
    range: Range<usize>,
    kind: UnitKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnitKind {
    Single,
    Alone,
    Block,
    Whole,
}

/// Cuts a script into units: a `BEGIN` takes all up to its `COMMIT` or `ROLLBACK`.
fn units(statements: &[Statement], on_error: OnError) -> Vec<Unit> {
    if on_error == OnError::Transaction && !statements.is_empty() {
        return vec![Unit { range: 0..statements.len(), kind: UnitKind::Whole }];
    }
    let mut units = Vec::new();
    let mut at = 0;
    while at < statements.len() {
        let (end, kind) = match statements[at].class {
            Class::Begin { .. } => {
                let close = statements[at..].iter().position(|s| matches!(s.class, Class::Commit | Class::Rollback));
                (close.map_or(statements.len(), |offset| at + offset + 1), UnitKind::Block)
            }
            Class::Alone => (at + 1, UnitKind::Alone),
            _ => (at + 1, UnitKind::Single),
        };
        units.push(Unit { range: at..end, kind });
        at = end;
    }
    units
}

struct Run<'r> {
    session: &'r mut dyn Session,
    statements: &'r [Statement],
    options: &'r ExecuteOptions,
    observer: &'r OnStatement,
    limits: Limits,
    report: ScriptReport,
    /// Temporary objects went with a session that was cut off.
    lost: bool,
}

type Found = BTreeMap<usize, Marker>;

impl Run<'_> {
    /// The markers by position; a marker of another text is an error.
    async fn load(&mut self) -> Result<Found, TargetError> {
        let mut found = Found::new();
        for marker in self.session.load(&self.options.job).await? {
            let index = marker.outcome.index;
            let at = (index as usize).wrapping_sub(1);
            if self.statements.get(at).is_none_or(|statement| digest(statement) != marker.digest) {
                return Err(TargetError::ScriptChanged { job: self.options.job.clone(), index });
            }
            found.insert(at, marker);
        }
        Ok(found)
    }

    /// Tells a new session the settings that recorded statements made; they change nothing else.
    async fn resume_session(&mut self, found: &Found) -> Result<(), TargetError> {
        for unit in units(self.statements, self.options.on_error) {
            let undone = self.statements[unit.range.end - 1].class == Class::Rollback;
            for at in unit.range {
                let ok = found.get(&at).is_some_and(|marker| marker.outcome.ok);
                if !ok || undone || !self.statements[at].session {
                    continue;
                }
                match self.session.run(&self.statements[at].text, &self.limits).await {
                    Ok(_) | Err(Broke::Sql(_) | Broke::Cancelled) => {}
                    Err(Broke::Ended(error)) => return Err(error),
                }
            }
        }
        Ok(())
    }

    async fn units(&mut self, found: &Found) -> Result<(), TargetError> {
        self.lost = self.had_temporary(found);
        for unit in units(self.statements, self.options.on_error) {
            if unit.range.clone().any(|at| found.contains_key(&at)) {
                self.take_found(&unit, found).await?;
            } else if self.limits.cancel.is_cancelled() {
                self.report.stopped = Some(Stopped::Cancelled);
            } else if self.lost {
                let error = StatementError::new(
                    "session_lost",
                    "a temporary object of an earlier statement went with the session that was cut off",
                );
                let outcome = self.outcome(unit.range.start, Instant::now(), Err(error));
                self.record_apart(vec![outcome], true).await?;
                self.report.stopped = Some(Stopped::Failed);
            } else {
                self.unit(&unit).await?;
            }
            let failed = self.report.statements.iter().any(|outcome| !outcome.ok);
            if failed && self.options.on_error != OnError::Continue && self.report.stopped.is_none() {
                self.report.stopped = (self.report.statements.len() < self.statements.len()).then_some(Stopped::Failed);
                break;
            }
            if self.report.stopped.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn had_temporary(&self, found: &Found) -> bool {
        found.iter().any(|(&at, marker)| marker.outcome.ok && self.statements[at].temporary)
    }

    /// The connection ended while statements ran that were to commit together. If no attempt follows, a script that ends
    /// its own session would keep all that comes after it from running: they failed, and the rest goes on (SQL-12, SQL-13).
    async fn cut_off(&mut self, unit: Range<usize>, error: TargetError) -> Result<(), TargetError> {
        let may_go_on = self.options.last_attempt && matches!(error, TargetError::Unreachable { .. });
        if !may_go_on || self.session.reopen(&self.options.job, self.options.fence).await.is_err() {
            return Err(error);
        }
        let found = self.load().await?;
        self.resume_session(&found).await?;
        self.lost = self.had_temporary(&found);
        let text = "the connection ended while it ran, in the last attempt too; nothing of it was kept";
        let failed = |at| self.outcome(at, Instant::now(), Err(StatementError::new("session_ended", text)));
        let outcomes = unit.map(failed).collect();
        self.record_apart(outcomes, true).await
    }

    async fn unit(&mut self, unit: &Unit) -> Result<(), TargetError> {
        match unit.kind {
            UnitKind::Single => self.single(unit.range.start).await,
            UnitKind::Alone => self.alone(unit.range.start).await,
            UnitKind::Block | UnitKind::Whole => self.together(unit).await,
        }
    }

    /// Takes over what an earlier run recorded. A statement that began and never ended is unknown.
    async fn take_found(&mut self, unit: &Unit, found: &Found) -> Result<(), TargetError> {
        for at in unit.range.clone() {
            let Some(marker) = found.get(&at) else { continue };
            self.report.found += 1;
            if marker.done {
                (self.observer)(&marker.outcome);
                self.report.statements.push(marker.outcome.clone());
            } else {
                let outcome = StatementOutcome { ok: false, unknown: true, ..marker.outcome.clone() };
                self.record_apart(vec![outcome], true).await?;
            }
        }
        Ok(())
    }

    /// One statement in a transaction of its own.
    async fn single(&mut self, at: usize) -> Result<(), TargetError> {
        if let Some(error) = refused_alone(&self.statements[at]) {
            let outcome = self.outcome(at, Instant::now(), Err(error));
            return self.record_apart(vec![outcome], true).await;
        }
        for attempt in 1.. {
            let started = Instant::now();
            self.session.begin().await?;
            self.fault(FaultAt::Begun, at)?;
            let result = match self.session.run(&self.statements[at].text, &self.limits).await {
                Ok(rows) => Ok(rows),
                Err(Broke::Ended(error)) => return self.cut_off(at..at + 1, error).await,
                Err(Broke::Cancelled) => return self.cancelled().await,
                Err(Broke::Sql(error)) if attempt < TRIES && self.session.may_retry(&error) => {
                    self.session.rollback().await?;
                    continue;
                }
                Err(Broke::Sql(error)) if self.session.needs_alone(&self.statements[at], &error) => {
                    self.session.rollback().await?;
                    return self.alone(at).await;
                }
                Err(Broke::Sql(error)) => {
                    self.session.undo().await?;
                    Err(error)
                }
            };
            self.fault(FaultAt::Ran, at)?;
            let outcome = self.outcome(at, started, result);
            match self.seal(vec![outcome], at).await {
                Ok(()) => return Ok(()),
                Err(Broke::Ended(error)) => return Err(error),
                Err(Broke::Cancelled) => return self.cancelled().await,
                Err(Broke::Sql(error)) => {
                    self.session.rollback().await?;
                    if attempt < TRIES && self.session.may_retry(&error) {
                        continue;
                    }
                    let outcome = self.outcome(at, started, Err(error));
                    return self.record_apart(vec![outcome], true).await;
                }
            }
        }
        Ok(())
    }

    /// One statement that cannot be in a transaction.
    async fn alone(&mut self, at: usize) -> Result<(), TargetError> {
        let started = Instant::now();
        let begun = self.outcome(at, started, Ok(0));
        self.record_apart(vec![StatementOutcome { ok: false, rows: None, ..begun }], false).await?;
        self.fault(FaultAt::MarkedBegun, at)?;
        let result = match self.session.run(&self.statements[at].text, &self.limits).await {
            Ok(rows) => Ok(rows),
            Err(Broke::Ended(error)) => return Err(error),
            Err(Broke::Cancelled) => {
                self.report.stopped = Some(Stopped::Cancelled);
                Err(StatementError::new("cancelled", "cancelled while it ran; it is not run again"))
            }
            Err(Broke::Sql(error)) => Err(error),
        };
        self.fault(FaultAt::RanAlone, at)?;
        let outcome = self.outcome(at, started, result);
        self.record_apart(vec![outcome], true).await
    }

    /// Statements that commit together: a block of the script, or the whole of it.
    async fn together(&mut self, unit: &Unit) -> Result<(), TargetError> {
        if unit.kind == UnitKind::Whole
            && let Some((at, error)) = self.cannot_be_whole()
        {
            let outcome = self.outcome(at, Instant::now(), Err(error));
            self.record_apart(vec![outcome], true).await?;
            self.report.stopped = Some(Stopped::Failed);
            return Ok(());
        }
        for attempt in 1.. {
            let mut block = Block { outcomes: Vec::new(), failed: false, retry: false };
            match self.members(unit, &mut block).await {
                Ok(()) => {}
                Err(Broke::Ended(error)) => return self.cut_off(unit.range.clone(), error).await,
                Err(Broke::Cancelled) => return self.cancelled().await,
                Err(Broke::Sql(error)) if attempt < TRIES && self.session.may_retry(&error) => continue,
                Err(Broke::Sql(error)) => return Err(ours(error, "open a transaction")),
            }
            if block.retry && attempt < TRIES {
                self.session.rollback().await?;
                continue;
            }
            let last = unit.range.end - 1;
            let close = self.statements[last].class;
            let commits = !block.failed && (unit.kind == UnitKind::Whole || close == Class::Commit);
            if !commits {
                self.session.rollback().await?;
                self.mark_undone(unit, &mut block);
                return self.record_apart(block.outcomes, true).await;
            }
            match self.seal(block.outcomes.clone(), last).await {
                Ok(()) => return Ok(()),
                Err(Broke::Ended(error)) => return Err(error),
                Err(Broke::Cancelled) => return self.cancelled().await,
                Err(Broke::Sql(error)) => {
                    self.session.rollback().await?;
                    if attempt < TRIES && self.session.may_retry(&error) {
                        continue;
                    }
                    if !(error.code == "25006" && self.is_read_only(unit)) {
                        let at = block.outcomes.len() - 1;
                        block.outcomes[at].ok = false;
                        block.outcomes[at].error = Some(error);
                        block.failed = true;
                        self.mark_undone(unit, &mut block);
                    }
                    return self.record_apart(block.outcomes, true).await;
                }
            }
        }
        Ok(())
    }

    /// Runs the members of a unit in one transaction, and leaves it open.
    async fn members(&mut self, unit: &Unit, block: &mut Block) -> Result<(), Broke> {
        let whole = unit.kind == UnitKind::Whole;
        for at in unit.range.clone() {
            let (statement, started) = (&self.statements[at], Instant::now());
            if self.limits.cancel.is_cancelled() {
                return Err(Broke::Cancelled);
            }
            let opens = at == unit.range.start;
            if opens && whole {
                self.session.begin_as(None).await?;
            }
            if block.failed && (whole || opens) {
                break;
            }
            let result = match statement.class {
                Class::Begin { .. } if opens => self.session.begin_as(Some(&statement.text)).await.map(|()| 0),
                Class::Begin { .. } => Err(Broke::Sql(StatementError::new(
                    "nested_transaction",
                    "a transaction is open already; close it with COMMIT or ROLLBACK first",
                ))),
                Class::Refused(why) => Err(Broke::Sql(StatementError::new("refused", why))),
                Class::Commit | Class::Rollback => Ok(0),
                Class::RollbackTo => self.session.run(&statement.text, &self.limits).await,
                _ if block.failed => {
                    Err(Broke::Sql(StatementError::new("skipped", "an earlier statement of this transaction failed")))
                }
                _ => self.session.run(&statement.text, &self.limits).await,
            };
            self.fault(FaultAt::Ran, at)?;
            let result = match result {
                Ok(rows) => {
                    block.failed &= statement.class != Class::RollbackTo;
                    Ok(rows)
                }
                Err(Broke::Sql(error)) => {
                    block.failed = true;
                    block.retry |= self.session.may_retry(&error);
                    Err(error)
                }
                Err(other) => return Err(other),
            };
            block.outcomes.push(self.outcome(at, started, result));
        }
        Ok(())
    }

    /// After a rollback nothing of the unit was done, whatever each statement said.
    fn mark_undone(&self, unit: &Unit, block: &mut Block) {
        let close = self.statements[unit.range.end - 1].class;
        if !block.failed && unit.kind == UnitKind::Block && close == Class::Rollback {
            return;
        }
        let (code, text) = match (block.failed, close) {
            (false, _) => ("no_commit", "the transaction has no COMMIT; it was rolled back"),
            (true, _) => ("rolled_back", "another statement of the transaction failed; all was rolled back"),
        };
        for outcome in block.outcomes.iter_mut().filter(|outcome| outcome.ok) {
            outcome.ok = false;
            outcome.error = Some(StatementError::new(code, text));
        }
    }

    fn is_read_only(&self, unit: &Unit) -> bool {
        let members = &self.statements[unit.range.clone()];
        let sets = |statement: &Statement| statement.text.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("set"));
        members.first().is_some_and(|first| first.class == Class::Begin { read_only: true })
            && !members.iter().any(sets)
    }

    /// The first statement that cannot be part of one transaction over all.
    fn cannot_be_whole(&self) -> Option<(usize, StatementError)> {
        self.statements.iter().enumerate().find_map(|(at, statement)| {
            let error = match statement.class {
                Class::Alone => {
                    StatementError::new("not_in_transaction", "it cannot run in the one transaction that was asked for")
                }
                Class::Begin { .. } | Class::Commit | Class::Rollback => StatementError::new(
                    "nested_transaction",
                    "the whole script is one transaction; leave out BEGIN, COMMIT and ROLLBACK",
                ),
                Class::Refused(why) => StatementError::new("refused", why),
                _ => return None,
            };
            Some((at, error))
        })
    }

    async fn cancelled(&mut self) -> Result<(), TargetError> {
        self.report.stopped = Some(Stopped::Cancelled);
        self.session.rollback().await
    }

    /// Writes markers into the open transaction and commits both.
    async fn seal(&mut self, outcomes: Vec<StatementOutcome>, at: usize) -> Result<(), Broke> {
        let markers = self.markers(&outcomes, true);
        self.session.record(&self.options.job, self.options.fence, &markers).await?;
        self.fault(FaultAt::Recorded, at)?;
        self.session.commit().await?;
        self.fault(FaultAt::Committed, at)?;
        self.publish(outcomes);
        Ok(())
    }

    /// Writes markers in a transaction of their own: of what failed, or could not be in one.
    async fn record_apart(&mut self, outcomes: Vec<StatementOutcome>, done: bool) -> Result<(), TargetError> {
        let markers = self.markers(&outcomes, done);
        self.session.begin().await?;
        let written = match self.session.record(&self.options.job, self.options.fence, &markers).await {
            Ok(()) => self.session.commit().await,
            Err(broke) => Err(broke),
        };
        match written {
            Ok(()) => {
                if done {
                    self.publish(outcomes);
                }
                Ok(())
            }
            Err(Broke::Ended(error)) => Err(error),
            Err(Broke::Cancelled) => Err(TargetError::Cancelled { doing: "record an outcome".to_owned() }),
            Err(Broke::Sql(error)) => Err(ours(error, "record an outcome")),
        }
    }

    fn publish(&mut self, outcomes: Vec<StatementOutcome>) {
        for outcome in outcomes {
            (self.observer)(&outcome);
            self.report.statements.push(outcome);
        }
    }

    fn markers(&self, outcomes: &[StatementOutcome], done: bool) -> Vec<Marker> {
        let marker = |outcome: &StatementOutcome| {
            let statement = &self.statements[outcome.index as usize - 1];
            Marker { done, digest: digest(statement), outcome: outcome.clone() }
        };
        outcomes.iter().map(marker).collect()
    }

    fn outcome(&self, at: usize, started: Instant, result: Result<u64, StatementError>) -> StatementOutcome {
        let statement = &self.statements[at];
        let (rows, error) = match result {
            Ok(rows) => (statement.counts.then_some(rows), None),
            Err(mut error) => {
                error.line = error.line.map(|line| statement.line + line.saturating_sub(1));
                (None, Some(error))
            }
        };
        StatementOutcome {
            index: u32::try_from(at + 1).unwrap_or(u32::MAX),
            line: statement.line,
            ok: error.is_none(),
            rows,
            error,
            ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            unknown: false,
            head: statement.head(),
        }
    }

    /// Breaks the run where a test asks for it.
    #[cfg(feature = "testing")]
    fn fault(&self, point: FaultAt, at: usize) -> Result<(), TargetError> {
        let index = u32::try_from(at + 1).unwrap_or(u32::MAX);
        match &self.options.faults {
            Some(faults) if faults(point, index) => Err(TargetError::Unreachable {
                target: "the database".to_owned(),
                doing: format!("{point:?} statement {index}"),
                source: "a test broke the run here".into(),
            }),
            _ => Ok(()),
        }
    }

    #[cfg(not(feature = "testing"))]
    fn fault(&self, _: FaultAt, _: usize) -> Result<(), TargetError> {
        Ok(())
    }
}

#[cfg(feature = "testing")]
use crate::testing::FaultPoint as FaultAt;

/// The moments at which tests break a run.
#[cfg(not(feature = "testing"))]
enum FaultAt {
    Begun,
    Ran,
    Recorded,
    Committed,
    MarkedBegun,
    RanAlone,
}

struct Block {
    outcomes: Vec<StatementOutcome>,
    failed: bool,
    retry: bool,
}

/// Why a statement outside of a block is not run at all.
fn refused_alone(statement: &Statement) -> Option<StatementError> {
    match statement.class {
        Class::Refused(why) => Some(StatementError::new("refused", why)),
        Class::Commit | Class::Rollback | Class::Savepoint | Class::RollbackTo | Class::Release => {
            Some(StatementError::new("no_transaction", "no transaction is open here; write BEGIN first"))
        }
        _ => None,
    }
}

/// The database refused a step of ours.
fn ours(error: StatementError, doing: &str) -> TargetError {
    TargetError::Sql {
        target: "the database".to_owned(),
        doing: doing.to_owned(),
        sqlstate: error.code,
        text: error.text,
    }
}

fn digest(statement: &Statement) -> String {
    hex::encode(&Sha256::digest(statement.text.as_bytes())[..16])
}
