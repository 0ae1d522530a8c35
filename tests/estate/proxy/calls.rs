//! What the calls are: their names, how often each was made, and which of them is to be struck at.

use std::collections::HashMap;
use std::path::Path;

use super::super::resp;
use super::{Fault, Point, Watch};

#[derive(Default)]
pub struct State {
    pub watch: Watch,
    pub plan: Option<(Point, Fault)>,
    pub pid: u32,
    verbs: HashMap<Vec<u8>, String>,
    pub counts: HashMap<String, u32>,
    pub calls: Vec<Point>,
    pub struck: bool,
    pub passed: bool,
}

/// A command whose reply is still to come.
pub struct Sent {
    verb: String,
    script: Option<Vec<u8>>,
    pub strike: Option<Fault>,
    pub frozen: bool,
}

pub enum Verdict {
    Pass(Sent),
    Strike(Fault),
}

impl State {
    /// Names a command, counts it, and says whether it is the one to strike at.
    pub fn hear(&mut self, words: &[&[u8]]) -> Verdict {
        let names = self.names(words);
        let verb = names[0].clone();
        let script = is_word(words, 0, "SCRIPT").then(|| words.get(2).map(|text| text.to_vec())).flatten();
        let hit = if self.concerns(&verb, words) { self.count(&names) } else { None };
        match hit {
            Some(fault) if !fault.is_after() && fault != Fault::Frozen => Verdict::Strike(fault),
            Some(Fault::Frozen) => Verdict::Pass(Sent { verb, script, strike: None, frozen: true }),
            strike => Verdict::Pass(Sent { verb, script, strike, frozen: false }),
        }
    }

    /// A reply may show that a call concerned the job, such as a claim that got it.
    pub fn hear_reply(&mut self, sent: &Sent, reply: &[u8]) -> Option<Fault> {
        if let Some(text) = &sent.script {
            self.verbs.insert(resp::bulk(reply).to_vec(), verb_of(text));
        }
        let Watch::Job(job) = &self.watch else { return None };
        let told = KNOWN_BY_REPLY.contains(&sent.verb.as_str()) && contains(reply, job.as_bytes());
        if told { self.count(&[format!("{}, which got it", sent.verb)]).filter(|fault| fault.is_after()) } else { None }
    }

    fn concerns(&self, verb: &str, words: &[&[u8]]) -> bool {
        match &self.watch {
            Watch::Nothing => false,
            Watch::Everything => !NOISE.contains(&verb),
            // A worker that starts when the job is ready gets it by its first claim.
            // Of the deliveries nothing but their ids is told when they are settled.
            Watch::Job(job) => {
                ["claim", "delivery_settle"].contains(&verb)
                    || is_word(words, 0, "EVALSHA") && words.iter().any(|word| contains(word, job.as_bytes()))
            }
        }
    }

    fn count(&mut self, names: &[String]) -> Option<Fault> {
        let mut hit = None;
        for name in names {
            let count = self.counts.entry(name.clone()).or_default();
            *count += 1;
            let point = Point { name: name.clone(), nth: *count };
            if let Some((planned, fault)) = &self.plan
                && *planned == point
            {
                hit = Some(*fault);
            }
            self.calls.push(point);
        }
        if hit.is_some() {
            self.plan = None;
        }
        hit
    }

    /// The verb; for a step with its name, for progress also what it says of statements.
    fn names(&self, words: &[&[u8]]) -> Vec<String> {
        let word = |at: usize| words.get(at).map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default();
        if !is_word(words, 0, "EVALSHA") {
            return vec![format!("{} {}", word(0).to_lowercase(), tail(&word(1)))];
        }
        let verb = words.get(1).and_then(|sha| self.verbs.get(*sha)).cloned().unwrap_or_else(|| "script".to_owned());
        match verb.as_str() {
            "step_begin" | "step_end" => vec![format!("{verb} {}", word(7))],
            "progress" => {
                // Its log lines say which statements have ended: `statement 3 (line 3): ok, …`.
                let lines = (11..words.len()).map(word).filter_map(|line| Some(line.split_once(" (")?.0.to_owned()));
                [verb.clone()].into_iter().chain(lines.map(|statement| format!("{statement} ended"))).collect()
            }
            _ => vec![verb],
        }
    }
}

/// Verbs whose reply says which jobs they concern.
const KNOWN_BY_REPLY: [&str; 3] = ["claim", "rescue", "delivery_claim"];
/// What loops send all the time, and the note of when a key was last used.
const NOISE: [&str; 11] = [
    "promote",
    "rescue",
    "prune",
    "renew",
    "heartbeat",
    "delivery_claim",
    "delivery_settle",
    "outbox_route",
    "xrange outbox",
    "zrange endpoints_due",
    "registry_put",
];

/// A key without its prefix and without ids.
fn tail(key: &str) -> String {
    let rest = key.split_once('}').map_or(key, |(_, rest)| rest);
    rest.split(':').filter(|part| !part.is_empty() && part.len() < 16).take(2).collect::<Vec<_>>().join(":")
}

fn is_word(words: &[&[u8]], at: usize, word: &str) -> bool {
    words.get(at).is_some_and(|given| given.eq_ignore_ascii_case(word.as_bytes()))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The verb of a script's text: the file that it ends with.
fn verb_of(text: &[u8]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/src/store/scripts");
    let mut found = (0, "script".to_owned());
    for file in std::fs::read_dir(folder).unwrap().flatten() {
        let own = std::fs::read(file.path()).unwrap();
        if text.ends_with(&own) && own.len() > found.0 {
            found = (own.len(), file.path().file_stem().unwrap().to_string_lossy().into_owned());
        }
    }
    found.1
}
