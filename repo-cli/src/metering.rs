//! What a run asks of stores: counted, priced, and ended where it is more than was allowed.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use repo_core::store::{
    Store,
    budget::{Budget, BudgetStore, Prices},
    count::Counts,
};
use serde_json::{Value, json};

use crate::{
    cli::Global,
    environment::Environment,
    output::{Output, locked},
    prices,
    report::{Failure, Result},
    size,
};

/// Billionths in a unit of a currency.
const NANO: f64 = 1e9;

/// A store whose requests are counted.
pub(crate) type Metered = Arc<BudgetStore<Box<dyn Store>>>;

/// The meters of all stores of a run.
#[derive(Default)]
pub(crate) struct Meters {
    requests_max: Option<u64>,
    cost_max: Option<f64>,
    watched: Mutex<Vec<Meter>>,
}

/// One of them.
struct Meter {
    store: Metered,
    location: String,
    currency: Option<String>,
    /// Whether it is worth a word where nobody asked.
    is_remote: bool,
}

impl Meters {
    pub(crate) fn resolve(global: &Global) -> Result<Self> {
        let cost_max = global.max_cost.map(|cost| {
            let is_valid = (0.0..=1e9).contains(&cost);
            is_valid.then_some(cost).ok_or_else(|| Failure::usage("--max-cost is not between 0 and a billion"))
        });
        Ok(Self { requests_max: global.max_requests, cost_max: cost_max.transpose()?, watched: Mutex::default() })
    }

    /// Counts what goes to a store from now on.
    ///
    /// # Errors
    /// When the costs are limited, and nobody knows what the store charges.
    pub(crate) fn watch(&self, store: Box<dyn Store>, is_remote: bool, environment: &Environment) -> Result<Metered> {
        let location = store.location();
        let charged = if is_remote { prices::of(&location, environment)? } else { None };
        if self.cost_max.is_some() && is_remote && charged.is_none() {
            return Err(Failure::usage(format!("--max-cost: nobody knows what {location} charges"))
                .hint("\"coffer prices\" prints a table to which it can be added"));
        }
        let (currency, prices) = charged.map(|(entry, prices)| (entry.currency, prices)).unzip();
        let prices = prices.unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was held against bounds")]
        let cost_max = self.cost_max.filter(|_| prices != Prices::default()).map(|cost| (cost * NANO) as u64);
        let budget = Budget { requests_max: self.requests_max, cost_max, prices };
        let store = Arc::new(BudgetStore::new(store, budget));
        locked(&self.watched).push(Meter { store: Arc::clone(&store), location, currency, is_remote });
        Ok(store)
    }

    /// Tells what was asked of stores: of those far away, and with `-v` of all.
    pub(crate) fn report(&self, output: &Output) {
        let meters = locked(&self.watched);
        let worth_it = |meter: &&Meter| meter.is_remote || output.verbosity() > 0;
        for meter in meters.iter().filter(worth_it) {
            let counts = meter.store.counts();
            if counts.requests() == 0 {
                continue;
            }
            if output.json() {
                output.json_error(&meter.document(&counts));
            } else {
                output.note(&meter.in_words(&counts));
            }
        }
    }
}

/// What a run would ask of the store, as an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Estimate(pub(crate) Counts);

impl Meters {
    /// Tells what the real thing would take of the repository, which was the first to be opened.
    pub(crate) fn foretell(&self, output: &Output, Estimate(counts): Estimate) {
        let meters = locked(&self.watched);
        let Some(meter) = meters.first() else { return };
        if output.json() {
            let mut document = meter.document(&counts);
            if let Some(object) = document.as_object_mut() {
                object.insert("message_type".into(), json!("estimate"));
            }
            output.json_error(&document);
        } else {
            output.note(&format!("it would take about {}", meter.in_words(&counts)));
        }
    }
}

impl Meter {
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    fn cost(&self, counts: &Counts) -> Option<f64> {
        self.currency.as_ref().map(|_| self.store.cost_of(counts) as f64 / NANO)
    }

    fn in_words(&self, counts: &Counts) -> String {
        let Counts { puts, gets, lists, stats, deletes, written_bytes, read_bytes, .. } = *counts;
        let requests = [
            (puts, "write", "writes"),
            (gets, "read", "reads"),
            (lists, "listing", "listings"),
            (stats, "look", "looks"),
            (deletes, "delete", "deletes"),
        ];
        let requests = requests.iter().filter(|(count, ..)| *count > 0);
        let requests: Vec<_> = requests.map(|(count, one, many)| size::things(*count, one, many)).collect();
        let mut text = format!(
            "{} at {}: {}; {} sent, {} fetched",
            size::things(counts.requests(), "request", "requests"),
            self.location,
            requests.join(", "),
            size::bytes(written_bytes),
            size::bytes(read_bytes)
        );
        if let (Some(cost), Some(currency)) = (self.cost(counts), &self.currency) {
            let _ = write!(text, "; about {} {currency}", money(cost)); // a text takes everything
        }
        text
    }

    fn document(&self, counts: &Counts) -> Value {
        json!({
            "message_type": "requests",
            "location": self.location,
            "requests": counts.requests(),
            "puts": counts.puts,
            "gets": counts.gets,
            "lists": counts.lists,
            "stats": counts.stats,
            "deletes": counts.deletes,
            "bytes_sent": counts.written_bytes,
            "bytes_fetched": counts.read_bytes,
            "cost": self.cost(counts),
            "currency": self.currency,
        })
    }
}

/// An amount with two digits that tell something.
fn money(amount: f64) -> String {
    let digits = (2..9).find(|digits| amount >= 10_f64.powi(1 - digits)).filter(|_| amount > 0.0).unwrap_or(2);
    format!("{amount:.0$}", usize::try_from(digits).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_two_digits_that_tell_something() {
        for (amount, text) in
            [(0.0, "0.00"), (12.345, "12.35"), (1.0, "1.00"), (0.12, "0.12"), (0.05, "0.050"), (0.000_123, "0.00012")]
        {
            assert_eq!(money(amount), text);
        }
    }
}
