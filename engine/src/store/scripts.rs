//! The scripts: one Lua file a verb, behind one prelude (in three parts). Guards that what runs is what lies in `scripts/`.

/// A verb of the store.
pub(crate) struct Script {
    #[cfg_attr(not(test), expect(dead_code, reason = "tests name the script that breaks a rule"))]
    pub(crate) verb: &'static str,
    pub(crate) text: String,
    pub(crate) sha: String,
    #[cfg(test)]
    own_lines: usize,
}

const PRELUDE: &str = concat!(
    include_str!("scripts/prelude.lua"),
    include_str!("scripts/places.lua"),
    include_str!("scripts/resources.lua")
);
const DUE: &str = include_str!("scripts/due.lua");
const CLOSING: &str = include_str!("scripts/closing.lua");
const LEAD: &str = include_str!("scripts/lead.lua");
const TICKET: &str = include_str!("scripts/ticket.lua");
const GATES: &str = include_str!("scripts/gates.lua");
const ADMIT: &str = include_str!("scripts/admit.lua");
const AGAIN: &str = include_str!("scripts/claim_again.lua");
const REPEAT: &str = include_str!("scripts/repeat.lua");
const CANCELLING: &str = include_str!("scripts/cancelling.lua");
const DOUBT: &str = include_str!("scripts/doubt.lua");
const LETTERS: &str = include_str!("scripts/letters.lua");
const SLOT: &str = include_str!("scripts/schedule_slot.lua");
const DELIVERY: &str = include_str!("scripts/delivery.lua");

macro_rules! verbs {
    ($($name:ident: $($part:ident)*;)*) => {
        /// All scripts, made once.
        pub(crate) struct Scripts { $(pub(crate) $name: Script,)* }

        impl Scripts {
            pub(crate) fn new(with_flags: bool) -> Self {
                Self { $($name: Script::new(stringify!($name), with_flags, &[PRELUDE, $($part,)* include_str!(concat!("scripts/", stringify!($name), ".lua"))]),)* }
            }

            pub(crate) fn all(&self) -> Vec<&Script> { vec![$(&self.$name,)*] }
        }
    };
}

verbs! {
    enqueue: TICKET ADMIT;
    claim: GATES DUE AGAIN;
    settle: GATES;
    renew: ;
    promote: GATES DUE;
    rescue: GATES CLOSING;
    prune: ;
    cancel: LEAD CANCELLING;
    cascade: CANCELLING;
    clock_jumped: ;
    edit: LEAD TICKET;
    revive: REPEAT CLOSING;
    resolve: REPEAT DOUBT CLOSING;
    step_begin: DOUBT CLOSING;
    step_end: DOUBT;
    suspend: LETTERS;
    signal: LETTERS;
    spawn: TICKET ADMIT;
    undo_begin: ;
    progress: ;
    ticket_issue: ;
    registry_put: ;
    outbox_route: DELIVERY;
    delivery_claim: DELIVERY;
    delivery_settle: DELIVERY;
    delivery_replay: DELIVERY;
    delivery_forget: DELIVERY;
    heartbeat: ;
    schedule_put: SLOT;
    schedule_remove: SLOT;
    schedule_fire: TICKET ADMIT SLOT;
    schedule_skip: SLOT;
    schedule_stuck: SLOT;
    turn: ;
    gate_set: ;
    gate_remove: ;
}

/// Scripts that a full Redis lets write: they free memory, settle what runs (a bounded amount), or stop things. Without
/// them a store that is full could neither be emptied nor be stopped.
const WHEN_FULL: [&str; 21] = [
    "settle",
    "renew",
    "rescue",
    "prune",
    "turn",
    "cancel",
    "cascade",
    "clock_jumped",
    "resolve",
    "step_begin",
    "step_end",
    "undo_begin",
    "heartbeat",
    "gate_set",
    "gate_remove",
    "schedule_put",
    "schedule_remove",
    "delivery_claim",
    "delivery_settle",
    "delivery_forget",
    "suspend",
];

impl Script {
    fn new(verb: &'static str, with_flags: bool, parts: &[&str]) -> Self {
        let mut text = parts.join("\n");
        if with_flags && WHEN_FULL.contains(&verb) {
            // Redis reads this line if it is the first one.
            text.insert_str(0, "#!lua flags=allow-oom\n");
        }
        let sha = redis::Script::new(&text).get_hash().to_owned();
        #[cfg(test)]
        let own_lines = parts.last().map_or(0, |own| own.lines().count());
        Self {
            verb,
            text,
            sha,
            #[cfg(test)]
            own_lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventWord, Place};

    /// `KEYS[n]` and `ARGV[n]` with a number stand only in lines that give them names.
    #[test]
    fn positions_are_named_where_they_are_read() {
        for script in Scripts::new(true).all() {
            for line in script.text.lines().filter(|l| !l.trim_start().starts_with("--")) {
                let positional = line.contains("KEYS[") || line.contains("ARGV[");
                assert!(!positional || line.contains("= "), "{}: {line}", script.verb);
            }
        }
    }

    #[test]
    fn scripts_stay_short_and_never_scan() {
        for script in Scripts::new(true).all() {
            assert!(script.own_lines <= 180, "{} has {} lines", script.verb, script.own_lines);
            for word in ["'KEYS'", "'SCAN'", "SMEMBERS", "cjson", "while true"] {
                assert!(!script.text.contains(word), "{} contains {word}", script.verb);
            }
        }
    }

    #[test]
    fn places_and_events_have_the_numbers_of_the_prelude() {
        for place in Place::ALL {
            assert!(PRELUDE.contains(&format!("'{}'", place.as_str())), "{place}");
        }
        for code in 1..=19 {
            let word = EventWord::from_code(code).map_or("", EventWord::as_str);
            assert!(PRELUDE.contains(&format!("{word} = {code}")), "{word}");
        }
    }
}
