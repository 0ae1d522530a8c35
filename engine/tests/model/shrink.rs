//! Finds the fewest and plainest lines that still differ: first without ever smaller runs of lines, then each line by itself.

use crate::{
    run::{Bench, Care},
    verbs::{Line, Verb, What},
};

/// Plays at most.
const PLAYS: usize = 1500;

struct Shrinking<'a> {
    bench: &'a mut Bench,
    lines: Vec<Line>,
    why: String,
    care: Care,
    plays: usize,
}

/// The fewest lines, and what differs with them.
pub(crate) async fn shrink(bench: &mut Bench, lines: Vec<Line>, why: String, care: Care) -> (Vec<Line>, String) {
    let mut it = Shrinking { bench, lines, why, care: Care { every: 1, ..care }, plays: 0 };
    // Compared after each verb, it may show earlier.
    it.try_these(it.lines.clone()).await;
    loop {
        let before = it.lines.clone();
        it.without_runs().await;
        it.plainer().await;
        if it.lines == before || it.plays >= PLAYS {
            return (it.lines, it.why);
        }
    }
}

impl Shrinking<'_> {
    /// Whether these still differ; then they are the ones to go on with.
    async fn try_these(&mut self, lines: Vec<Line>) -> bool {
        self.plays += 1;
        if self.plays > PLAYS {
            return false;
        }
        match differs(self.bench, &lines, self.care).await {
            Some((nth, why)) => {
                self.lines = lines[..nth].to_vec();
                self.why = why;
                true
            }
            None => false,
        }
    }

    async fn without_runs(&mut self) {
        let mut length = (self.lines.len() / 2).max(1);
        loop {
            let mut from = 0;
            while from < self.lines.len() {
                let mut fewer = self.lines.clone();
                fewer.drain(from..(from + length).min(fewer.len()));
                if !self.try_these(fewer).await {
                    from += length;
                }
            }
            if length == 1 {
                return;
            }
            length /= 2;
        }
    }

    async fn plainer(&mut self) {
        let mut nth = 0;
        while nth < self.lines.len() {
            for line in plainer_lines(&self.lines[nth]) {
                if nth < self.lines.len() {
                    let mut lines = self.lines.clone();
                    lines[nth] = line;
                    self.try_these(lines).await;
                }
            }
            nth += 1;
        }
    }
}

/// How many lines it takes until it differs, and how.
async fn differs(bench: &mut Bench, lines: &[Line], care: Care) -> Option<(usize, String)> {
    let mut play = bench.play(care).await;
    for (nth, line) in lines.iter().enumerate() {
        if let Err(why) = play.line(line).await {
            return Some((nth + 1, why));
        }
    }
    play.end().await.err().map(|why| (lines.len(), why))
}

fn plainer_lines(line: &Line) -> Vec<Line> {
    let mut all = Vec::new();
    if line.twice {
        all.push(Line { twice: false, ..line.clone() });
    }
    if let Verb::Enqueue { jobs, most } = &line.verb {
        for nth in 0..jobs.len() {
            if jobs.len() > 1 {
                let mut fewer = jobs.clone();
                fewer.remove(nth);
                all.push(Verb::Enqueue { jobs: fewer, most: *most }.into());
            }
            for what in plainer_jobs(&jobs[nth].1) {
                let mut plainer = jobs.clone();
                plainer[nth].1 = what;
                all.push(Verb::Enqueue { jobs: plainer, most: *most }.into());
            }
        }
    }
    if let Verb::Spawn { job, fence, child, what } = &line.verb {
        let plainer = |what| Verb::Spawn { job: *job, fence: *fence, child: *child, what }.into();
        all.extend(plainer_jobs(what).into_iter().map(plainer));
    }
    if let Verb::Settle { jobs, fence, outcome, plain } = &line.verb
        && jobs.len() > 1
    {
        let one = |j| Verb::Settle { jobs: vec![j], fence: *fence, outcome: *outcome, plain: *plain }.into();
        all.extend(jobs.iter().copied().map(one));
    }
    all
}

fn plainer_jobs(what: &What) -> Vec<What> {
    let mut all = vec![
        What { attempts: 3, priority: 2, ..What::default() },
        What { run_in: 0, ..what.clone() },
        What { key: false, ..what.clone() },
        What { destructive: false, ..what.clone() },
        What { idempotency: None, ..what.clone() },
        What { allowance: None, ..what.clone() },
        What { ticket: None, ..what.clone() },
        What { notify: false, ..what.clone() },
        What { queue: 0, ..what.clone() },
        What { tenant: 0, ..what.clone() },
        What { priority: 2, ..what.clone() },
    ];
    for nth in 0..what.resources.len() {
        let mut fewer = what.clone();
        fewer.resources.remove(nth);
        all.push(fewer);
    }
    all.retain(|plainer| plainer != what);
    all
}

impl From<Verb> for Line {
    fn from(verb: Verb) -> Self {
        Self { verb, twice: false }
    }
}
