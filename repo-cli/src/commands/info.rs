//! `coffer info`: what a repository is, without reading what is in it.

use clap::Args;
use serde_json::json;

use crate::{
    commands::{doctor, version::PROGRAM},
    context::Context,
    report::{Ending, Result},
    size, time,
};

/// Show what a repository is, and what was found out about its store
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {}

impl InfoArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let Self {} = self;
        let repository = context.open()?;
        let (config, location) = (repository.config(), repository.store().location());
        let report = repository.store_report()?;
        let output = &context.output;
        let chunker = config.parameters.chunker;
        if output.json() {
            output.document(&json!({
                "id": repository.id().to_string(),
                "location": location,
                "created": time::rfc3339(config.created),
                "chunk_bytes_min": chunker.min_bytes,
                "chunk_bytes_average": chunker.average_bytes,
                "chunk_bytes_max": chunker.max_bytes,
                "frame_bytes": config.parameters.data_frame_bytes,
                "pack_bytes": config.parameters.pack_bytes,
                "key": repository.key().to_string(),
                "store": report.as_ref().map(doctor::document),
            }))?;
            return Ok(Ending::Done);
        }
        output.line(&format!("repository {} at {location}", repository.id()))?;
        output.line(&format!("made on {}", time::local(config.created)))?;
        let sizes =
            [chunker.min_bytes, chunker.average_bytes, chunker.max_bytes].map(|bytes| size::bytes(bytes.into()));
        output.line(&format!(
            "chunks of {} to {}, {} on average, in frames of {} and packs of {}",
            sizes[0],
            sizes[2],
            sizes[1],
            size::bytes(config.parameters.data_frame_bytes.into()),
            size::bytes(config.parameters.pack_bytes.into())
        ))?;
        output.line(&format!("opened with key {}", repository.key().short()))?;
        output.line("")?;
        let Some(report) = report else {
            return output.line("the store was never tested; \"coffer doctor\" does it").map(|()| Ending::Done);
        };
        output.line(&format!("the store, as {} found it on {}:", report.program, time::local(report.made)))?;
        doctor::show(output, &report)?;
        if report.program != PROGRAM {
            output.say("that was another version of coffer; \"coffer doctor\" tests anew");
        }
        Ok(Ending::Done)
    }
}
