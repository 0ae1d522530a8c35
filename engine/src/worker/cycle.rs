//! Claims in, settlements out, in one round trip. Guards that a lost reply loses neither: both are sent again under the same
//! names until they are answered (E10).

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::Value;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    asking::{Asked, Asking},
    ctx::{Ctx, Shared},
    leases::{Lease, Why},
    room::Room,
};
use crate::{
    model::{JobRecord, UnixMs},
    store::{Change, Claim, Claimed, Outcome, Settled, Settlement, Store, read_claim, read_settled},
};

/// Jobs in one claim, settlements in one call.
const BATCH: usize = 500;
/// Before a round that came to nothing is gone again; doubled by each, four times at most.
const PAUSE: Duration = Duration::from_millis(25);
/// For how long a worker that stops sends what is left; what cannot be told by then, rescue finds out.
const LAST: Duration = Duration::from_secs(5);

pub(crate) struct Cycle {
    store: Store,
    shared: Shared,
    claimed: mpsc::UnboundedSender<Ctx>,
    settle: mpsc::UnboundedReceiver<Settlement>,
    stop_claiming: CancellationToken,
    room: Arc<Room>,
    endings: VecDeque<Settlement>,
    asking: Asking,
    /// Rounds that came to nothing, in a row.
    failures: u32,
    /// How many claims each shard got: each begins with the next queue.
    turns: Vec<usize>,
    /// Look for work now.
    look: bool,
    look_at: Instant,
}

impl Cycle {
    /// `store` is asked over a connection of its own, which sends nothing twice by itself.
    pub(crate) fn new(
        (store, asking): (Store, Asking),
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
            asking,
            failures: 0,
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
            if self.endings.is_empty() && !self.asking.is_out() && !(self.look && self.free() > 0) {
                self.wait(&mut hints, &stop).await;
                continue;
            }
            // A round that is cut short is gone again: what was sent in it is kept until it is answered.
            if let Some(false) = stop.run_until_cancelled(self.go_round()).await {
                let _ = tokio::time::timeout(self.pause(), stop.cancelled()).await;
            }
        }
        self.look = false;
        self.asking.end_in(LAST);
        if tokio::time::timeout(LAST, self.send_the_rest()).await.is_err() {
            tracing::warn!(
                endings = self.endings.len(),
                "the store did not hear the last settlements: rescue ends these jobs"
            );
        }
    }

    /// Until all is told, and what the last claims brought is handed back.
    async fn send_the_rest(&mut self) {
        self.take_endings();
        while !self.endings.is_empty() || self.asking.is_out() {
            if !self.go_round().await {
                tokio::time::sleep(self.pause()).await;
            }
            self.take_endings();
        }
    }

    fn pause(&self) -> Duration {
        PAUSE * (1 << self.failures.min(4))
    }

    /// Whether what is claimed would run.
    fn is_closed(&self) -> bool {
        self.stop_claiming.is_cancelled() || self.claimed.is_closed()
    }

    /// Whether jobs may be claimed at all.
    fn may_claim(&self) -> bool {
        !self.is_closed() && self.room.is_left()
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
            let Some(more) = self.visit(shard).await else {
                self.failures += 1;
                return false;
            };
            full |= more;
        }
        self.failures = 0;
        if looked {
            self.look = full;
        }
        true
    }

    async fn visit(&mut self, shard: u16) -> Option<bool> {
        let mut mine: Vec<Settlement> =
            self.endings.iter().filter(|e| e.id.shard() == shard).take(BATCH).cloned().collect();
        let asked = self.ask(shard, mine.len());
        if mine.is_empty() && asked.is_none() {
            return Some(false);
        }
        let mut pipe = redis::pipe();
        if !mine.is_empty() {
            pipe.add_command(self.store.settle_cmd(shard, &mine));
        }
        let no_later = self.shared.watch.no_later();
        if let Some(asked) = asked {
            pipe.add_command(self.store.claim_cmd(shard, &self.claim(shard, asked), no_later));
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
        let claimed = if asked.is_some() { replies.pop() } else { None };
        let is_heard = replies.pop().is_none_or(|words| self.settled(&mut mine, words));
        let (jobs, is_late) = match claimed {
            Some(Value::Array(reply)) => {
                let claimed = read_claim(reply);
                let is_late = claimed.now > no_later;
                (self.answered(shard, claimed, asked_at), is_late)
            }
            Some(wrong) => {
                tracing::error!(?wrong, "the answer to a claim cannot be read; it is sent again");
                return None;
            }
            None => (0, false),
        };
        if is_late {
            self.look_at_clock().await?;
        }
        is_heard.then_some(is_late || asked.is_some_and(|asked| jobs >= asked.want))
    }

    /// The store gave nothing, since it may be that its clock jumped.
    async fn look_at_clock(&self) -> Option<()> {
        let looked = self.shared.watch.look(&self.store).await;
        looked
            .inspect_err(|error| tracing::warn!(code = error.code(), %error, "the store's clock was not looked at"))
            .ok()
    }

    /// The claim that goes along: the one that is not answered yet, or a new one.
    fn ask(&mut self, shard: u16, ended: usize) -> Option<Asked> {
        let under_way = self.asking.under_way(shard);
        if under_way.is_some() || (!self.look && ended == 0) {
            return under_way;
        }
        // Free after these endings, so that a full worker goes on without an extra round.
        let want = match self.may_claim() {
            true => (self.free() + ended).saturating_sub(self.asking.awaited()).min(BATCH),
            false => 0,
        };
        (want > 0).then(|| {
            self.turns[usize::from(shard)] += 1;
            self.asking.ask(shard, want)
        })
    }

    fn claim(&self, shard: u16, asked: Asked) -> Claim {
        let options = &self.shared.options;
        Claim {
            worker: self.asking.name.clone(),
            request: asked.request,
            want: asked.want,
            lease_ms: options.lease_ms,
            queues: in_turn(&options.queues, self.turns[usize::from(shard)].saturating_sub(1)),
            kinds: self.shared.runner.kinds(),
            by: self.asking.by(),
        }
    }

    fn answered(&mut self, shard: u16, claimed: Claimed, asked_at: Instant) -> usize {
        let now = claimed.now;
        let jobs = self.begin(claimed, asked_at);
        self.asking.answered(shard, now);
        jobs
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
            if self.is_closed() {
                self.hand_back(&record, &lease);
                continue;
            }
            let ctx = Ctx::new(record, lease.clone(), self.shared.clone(), (claimed.now, asked_at));
            if let Err(unsent) = self.claimed.send(ctx) {
                self.hand_back(unsent.0.record(), &lease);
            }
        }
        many
    }

    /// A job that came too late to be run here goes back as it came, uncounted.
    fn hand_back(&mut self, record: &JobRecord, lease: &Lease) {
        lease.settle();
        self.endings.push_back(Settlement {
            id: record.id.clone(),
            fence: record.fence,
            outcome: Outcome::Release,
            wait_ms: 0,
            result: Vec::new(),
            error: record.error.to_vec(),
            note: Vec::new(),
        });
    }
}

/// The queues from the `nth` on, round and round: one that is never empty does not starve the others.
fn in_turn(queues: &[String], nth: usize) -> Vec<String> {
    let mut queues = queues.to_vec();
    let first = nth % queues.len().max(1);
    queues.rotate_left(first);
    queues
}
