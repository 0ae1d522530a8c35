//! `schedule preview`: the next runs of an expression, without any server, or of a schedule.

use chrono::{DateTime, Utc};
use clap::Args;
use leasehold_engine::model::Timetable;
use leasehold_jobs::policy::calendar::Calendar;
use serde_json::{Value, json};

use super::client::{Client, path, query};
use super::out::text;
use super::{Failure, Global, Out, config, time};

const PREVIEW_EXAMPLES: &str = "\
Examples:
  leasehold schedule preview '30 2 * * *' --zone America/New_York --from 2026-03-07T00:00:00-05:00 --count 3
  leasehold schedule preview '0 22 L * *' --zone Asia/Shanghai --json
  leasehold schedule preview --schedule nightly --tenant t-001

When the clocks change: a time that is jumped over fires right after the jump, and one that is shown twice fires the first
time; an expression with * in second, minute or hour goes on in real time.";

/// Show the next runs.
#[derive(Debug, Args)]
#[command(after_help = PREVIEW_EXAMPLES)]
pub(crate) struct Preview {
    /// Minute, hour, day of month, month, weekday; with six fields the first is the second. L, W and # are known
    #[arg(value_name = "EXPR", required_unless_present = "schedule", conflicts_with = "schedule")]
    expr: Option<String>,
    /// A schedule of the server instead
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// Whose, when several tenants have a schedule of this name
    #[arg(long, value_name = "ID", requires = "schedule")]
    tenant: Option<String>,
    /// Time zone (default: the business zone)
    #[arg(long, value_name = "ZONE", conflicts_with = "schedule")]
    zone: Option<String>,
    /// Runs after this instant: RFC 3339, 2026-11-22T02:00 in the zone, or +15m (default: now)
    #[arg(long, value_name = "INSTANT")]
    from: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
}

impl Preview {
    pub(super) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let slots = match &self.schedule {
            Some(name) => self.of_server(name, global).await?,
            None => self.of_expression(global)?,
        };
        out.show(&json!(slots), |_| slots.iter().map(|slot| weekday(slot)).collect::<Vec<_>>().join("\n"));
        Ok(())
    }

    async fn of_server(&self, name: &str, global: &Global) -> Result<Vec<String>, Failure> {
        let client = Client::new(global)?;
        let from = match &self.from {
            Some(text) => Some(time::write(read_from(text, &self.zone_of(name, &client).await?)?)),
            None => None,
        };
        let asked = [("tenant", self.tenant.clone()), ("count", Some(self.count.to_string())), ("from", from)];
        let answer = client.get(&(path(&["v1", "schedules", name, "preview"]) + &query(asked))).await?;
        let slots = answer.get("slots").and_then(Value::as_array).into_iter().flatten();
        Ok(slots.filter_map(|slot| slot.as_str().map(str::to_owned)).collect())
    }

    /// The zone of a schedule of the server.
    async fn zone_of(&self, name: &str, client: &Client) -> Result<Calendar, Failure> {
        let of = query([("tenant", self.tenant.clone())]);
        let zone = text(&client.get(&(path(&["v1", "schedules", name]) + &of)).await?, "zone");
        let known = zone.parse().map(Calendar::new);
        known.map_err(|_| Failure::failed("zone", format!("this program does not know the time zone `{zone}`")))
    }

    fn of_expression(&self, global: &Global) -> Result<Vec<String>, Failure> {
        let zone = match &self.zone {
            Some(zone) => zone.clone(),
            None => config::load(global)?.rules.calendar().name().to_owned(),
        };
        let expr = self.expr.as_deref().unwrap_or_default();
        let table = Timetable::parse(expr, &zone).map_err(|bad| Failure::Usage(bad.to_string()))?;
        let calendar = table.zone().parse().map(Calendar::new);
        let calendar = calendar.map_err(|_| Failure::Usage(format!("--zone: {zone}")))?;
        let from = match &self.from {
            Some(text) => read_from(text, &calendar)?,
            None => Utc::now(),
        };
        let slots = table.preview(from.timestamp_millis(), usize::from(self.count));
        slots.map_err(|far| Failure::Usage(format!("--from: {far}")))
    }
}

/// `--from`, whose wall clock is that of the zone.
fn read_from(text: &str, zone: &Calendar) -> Result<DateTime<Utc>, Failure> {
    time::read(text, Utc::now(), zone).map_err(|error| Failure::Usage(format!("--from: {error}")))
}

fn weekday(slot: &str) -> String {
    let day = DateTime::parse_from_rfc3339(slot).map_or_else(|_| "   ".to_owned(), |at| at.format("%a").to_string());
    format!("{day} {slot}")
}
