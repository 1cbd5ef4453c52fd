//! `coffer prices`: the table of what stores charge.

use clap::Args;

use crate::{
    context::Context,
    prices,
    report::{Ending, Result},
};

/// Print the table of what stores charge that is built in
///
/// To change it: write it to prices.json in coffer's configuration folder (mostly ~/.config/coffer), or to a file named by the variable `COFFER_PRICES`.
#[derive(Debug, Args)]
pub(crate) struct PricesArgs {}

impl PricesArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let Self {} = self;
        context.output.line(prices::TABLE.trim_end()).map(|()| Ending::Done)
    }
}
