//! Tickets in the model: a code is spent once, ends, and is locked when it was guessed at too often.

use std::collections::BTreeMap;

use leasehold_engine::{model::TicketRefusal, store::Issued};

use crate::verbs::{J, TICKET_MS, TRIES, Ticket};

/// A ticket that was issued and not spent.
#[derive(Debug, Clone)]
struct Open {
    ticket: Ticket,
    tries: u32,
    ends: i64,
    /// Who presented what last, and in vain.
    last: Option<(J, u8, u8)>,
}

/// Those that are open, and from when on another may be issued for the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tickets {
    open: BTreeMap<u8, Open>,
    next: BTreeMap<u8, i64>,
}

impl Tickets {
    pub(crate) fn are_there(&self) -> bool {
        !self.open.is_empty()
    }

    pub(crate) fn issue(&mut self, ticket: Ticket, now: i64) -> Issued {
        if let Some(open) = self.open.get(&ticket.id) {
            return Issued::Ok { expires_at: open.ends };
        }
        if let Some(at) = self.next.get(&ticket.binding).filter(|at| **at > now) {
            return Issued::Wait { ms: (at - now) as u64 };
        }
        let ends = now + TICKET_MS.0;
        self.next.insert(ticket.binding, now + TICKET_MS.1);
        self.open.insert(ticket.id, Open { ticket, tries: TRIES, ends, last: None });
        Issued::Ok { expires_at: ends }
    }

    /// Why it is not taken, and how many tries are left. Asked for again, it costs no other try.
    pub(crate) fn refuse(&mut self, j: J, shown: Ticket, now: i64) -> Option<(TicketRefusal, u32)> {
        let Some(open) = self.open.get_mut(&shown.id) else { return Some((TicketRefusal::Missing, 0)) };
        if open.ends <= now {
            return Some((TicketRefusal::Expired, 0));
        }
        let this = (j, shown.code, shown.binding);
        let why = if open.ticket.binding == shown.binding { TicketRefusal::Wrong } else { TicketRefusal::Other };
        if open.last == Some(this) {
            return Some((why, open.tries));
        }
        if open.tries == 0 {
            return Some((TicketRefusal::Locked, 0));
        }
        if open.ticket == shown {
            return None;
        }
        (open.tries, open.last) = (open.tries - 1, Some(this));
        Some((why, open.tries))
    }

    pub(crate) fn spend(&mut self, ticket: Option<Ticket>) {
        if let Some(ticket) = ticket {
            self.open.remove(&ticket.id);
        }
    }
}
