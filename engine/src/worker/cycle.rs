//! Claims in, settlements out, in one round trip. Guards that a lost reply loses neither: both are sent again under the same names (E10).

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::Value;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    ctx::{Ctx, Shared},
    leases::Why,
    room::Room,
};
use crate::{
    model::UnixMs,
    store::{Change, Claim, Claimed, Settled, Settlement, Store, read_claim, read_settled},
};

/// Jobs in one claim, settlements in one call.
const BATCH: usize = 500;
/// Before a round that came to nothing is gone again.
const PAUSE: Duration = Duration::from_millis(300);

pub(crate) struct Cycle {
    store: Store,
    shared: Shared,
    claimed: mpsc::UnboundedSender<Ctx>,
    settle: mpsc::UnboundedReceiver<Settlement>,
    stop_claiming: CancellationToken,
    room: Arc<Room>,
    endings: VecDeque<Settlement>,
    request: u64,
    /// How many claims each shard got: each begins with the next queue.
    turns: Vec<usize>,
    /// Look for work now.
    look: bool,
    look_at: Instant,
}

impl Cycle {
    pub(crate) fn new(
        store: Store,
        shared: Shared,
        (claimed, settle): (mpsc::UnboundedSender<Ctx>, mpsc::UnboundedReceiver<Settlement>),
        stop_claiming: CancellationToken,
        room: Arc<Room>,
    ) -> Self {
        let turns = vec![0; usize::from(store.shards())];
        Self {
            store,
            shared,
            claimed,
            settle,
            stop_claiming,
            room,
            endings: VecDeque::new(),
            request: 0,
            turns,
            look: true,
            look_at: Instant::now(),
        }
    }

    /// Goes round until told to stop; then sends what is left to settle.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let changes = self.store.changes(false);
        let mut hints = changes.listen();
        while !stop.is_cancelled() {
            self.take_endings();
            if self.endings.is_empty() && !(self.look && self.free() > 0) {
                self.wait(&mut hints, &stop).await;
                continue;
            }
            if !self.go_round().await {
                let _ = tokio::time::timeout(PAUSE, stop.cancelled()).await;
            }
        }
        self.take_endings();
        let deadline = Instant::now() + Duration::from_secs(10);
        self.look = false;
        while !self.endings.is_empty() && Instant::now() < deadline {
            if !self.go_round().await {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Whether jobs may be claimed at all.
    fn may_claim(&self) -> bool {
        !self.stop_claiming.is_cancelled() && self.room.is_left()
    }

    fn free(&self) -> usize {
        if !self.may_claim() { 0 } else { self.shared.options.slots.saturating_sub(self.shared.leases.len()) }
    }

    fn take_endings(&mut self) {
        while let Ok(ending) = self.settle.try_recv() {
            self.endings.push_back(ending);
        }
    }

    async fn wait(&mut self, hints: &mut broadcast::Receiver<Change>, stop: &CancellationToken) {
        let until = tokio::time::Instant::from_std(self.look_at);
        let may_look = self.free() > 0;
        tokio::select! {
            () = stop.cancelled() => {}
            ending = self.settle.recv() => self.endings.extend(ending),
            hint = hints.recv() => self.hear(hint),
            () = tokio::time::sleep_until(until), if may_look => self.look = true,
            () = tokio::time::sleep(PAUSE), if !self.room.is_left() => self.look = true,
        }
    }

    fn hear(&mut self, hint: Result<Change, broadcast::error::RecvError>) {
        match hint {
            Ok(Change::Cancel(id)) => self.shared.leases.cancel(&id, Why::Cancel),
            Ok(Change::Ready(queue)) => self.look |= self.shared.options.queues.contains(&queue) || queue == "*",
            Ok(Change::Scheduled(at)) => self.look_no_later(at),
            Ok(Change::Reconnected) | Err(_) => {
                self.look = true;
                self.shared.ask.notify_one();
            }
            Ok(Change::Deliveries | Change::Jobs(_)) => {}
        }
    }

    /// The store's clock and ours differ by little on one machine and by some on many: the time is only a hint to look.
    fn look_no_later(&mut self, due: UnixMs) {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        let then = Instant::now() + Duration::from_millis((due - now).max(0).unsigned_abs());
        self.look_at = self.look_at.min(then);
    }

    /// One round trip per shard; `false` when the store could not be reached or understood (everything is kept and sent again).
    async fn go_round(&mut self) -> bool {
        self.look_at = Instant::now() + Duration::from_millis(self.shared.options.poll_ms);
        let (looked, mut full) = (self.free() > 0, false);
        for shard in 0..self.store.shards() {
            let Some(more) = self.visit(shard).await else { return false };
            full |= more;
        }
        if looked {
            self.look = full;
        }
        true
    }

    async fn visit(&mut self, shard: u16) -> Option<bool> {
        let mut mine: Vec<Settlement> =
            self.endings.iter().filter(|e| e.id.shard() == shard).take(BATCH).cloned().collect();
        // Free after these endings, so that a full worker goes on without an extra round.
        let want = if !self.may_claim() || (!self.look && mine.is_empty()) {
            0
        } else {
            (self.free() + mine.len()).min(BATCH)
        };
        if mine.is_empty() && want == 0 {
            return Some(false);
        }
        let claim = self.next_claim(shard, want);
        let mut pipe = redis::pipe();
        if !mine.is_empty() {
            pipe.add_command(self.store.settle_cmd(shard, &mine));
        }
        let no_later = self.shared.watch.no_later();
        if want > 0 {
            pipe.add_command(self.store.claim_cmd(shard, &claim, no_later));
        }
        let asked_at = Instant::now();
        let mut replies: Vec<Value> = match self.store.pipe("cycle", &pipe).await {
            Ok(replies) => replies,
            Err(error) => {
                self.room.note_refusal(&error);
                tracing::warn!(code = error.code(), %error, "claims and settlements wait for the store");
                return None;
            }
        };
        let claimed = if want > 0 { replies.pop() } else { None };
        let is_heard = replies.pop().is_none_or(|words| self.settled(&mut mine, words));
        let claimed = match claimed {
            Some(Value::Array(reply)) => read_claim(reply),
            _ => Claimed::default(),
        };
        let is_late = claimed.now > no_later;
        let jobs = self.begin(claimed, asked_at);
        if is_late {
            self.look_at_clock().await?;
        }
        is_heard.then_some(is_late || (want > 0 && jobs >= want))
    }

    fn next_claim(&mut self, shard: u16, want: usize) -> Claim {
        self.request += 1;
        let (options, turn) = (&self.shared.options, &mut self.turns[usize::from(shard)]);
        let claim = Claim {
            worker: options.name.clone(),
            request: self.request,
            want,
            lease_ms: options.lease_ms,
            queues: in_turn(&options.queues, *turn),
            kinds: self.shared.runner.kinds(),
        };
        *turn += usize::from(want > 0);
        claim
    }

    /// The store gave nothing, since it may be that its clock jumped.
    async fn look_at_clock(&self) -> Option<()> {
        let looked = self.shared.watch.look(&self.store).await;
        looked
            .inspect_err(|error| tracing::warn!(code = error.code(), %error, "the store's clock was not looked at"))
            .ok()
    }

    /// `false` when the answer cannot be read: the settlements are sent again, after a pause.
    fn settled(&mut self, sent: &mut Vec<Settlement>, words: Value) -> bool {
        let words: Result<Vec<String>, _> = redis::from_redis_value(words);
        let answers = match words.map(|words| read_settled(&words, sent.len())) {
            Ok(Ok(answers)) => answers,
            wrong => {
                tracing::error!(?wrong, "the answer to settlements cannot be read; they are sent again");
                return false;
            }
        };
        for (ending, answer) in sent.drain(..).zip(answers) {
            if answer != Settled::Ok {
                tracing::warn!(job = %ending.id, fence = ending.fence, ?answer, "not settled: another holds the job");
            }
            self.shared.leases.release(&ending.id);
            if let Some(at) = self.endings.iter().position(|e| e.id == ending.id && e.fence == ending.fence) {
                self.endings.remove(at);
            }
        }
        true
    }

    fn begin(&mut self, claimed: Claimed, asked_at: Instant) -> usize {
        if let Some(due) = claimed.next_due {
            let wait = Duration::from_millis((due - claimed.now).max(0).unsigned_abs());
            self.look_at = self.look_at.min(Instant::now() + wait);
        }
        if claimed.unreadable > 0 {
            tracing::error!(jobs = claimed.unreadable, "records of another version were claimed; their leases run out");
        }
        let many = claimed.jobs.len();
        let until = asked_at + Duration::from_millis(self.shared.options.lease_ms);
        for record in claimed.jobs {
            // The same id still runs here under an older fence: let this claim run out, the older attempt is stopped.
            let Some(lease) = self.shared.leases.hold(&record.id, record.fence, until) else { continue };
            let ctx = Ctx::new(record, lease, self.shared.clone(), (claimed.now, asked_at));
            let _ = self.claimed.send(ctx);
        }
        many
    }
}

/// The queues from the `nth` on, round and round: one that is never empty does not starve the others.
fn in_turn(queues: &[String], nth: usize) -> Vec<String> {
    let mut queues = queues.to_vec();
    let first = nth % queues.len().max(1);
    queues.rotate_left(first);
    queues
}
