//! Goes through a tree with one thread, as an unchanged backup does, and tells what an entry costs.
//!
//! `cargo run --release -p repo-core --example walk -- DIRECTORY [--read] [--rules COUNT]`

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::{error::Error, sync::Arc, time::Instant};

use repo_core::source::{
    Directory, FileType, Part, Source,
    local::{LocalOptions, LocalSource, Target},
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let target = arguments.first().ok_or("which directory?")?;
    let to_read = arguments.iter().any(|argument| argument == "--read");
    let rules = arguments.iter().position(|argument| argument == "--rules").map(|at| arguments[at + 1].parse());

    let mut options = LocalOptions::new(std::env::current_dir()?);
    for number in 0..rules.transpose()?.unwrap_or(0) {
        let pattern = match number % 4 {
            0 => format!("no-such-name-{number}"),
            1 => format!("*.no-such-extension-{number}"),
            2 => format!("/no/such/path/{number}"),
            _ => format!("no/**/such-{number}/*"),
        };
        options.exclude.pattern(pattern.as_bytes())?;
    }
    let source = LocalSource::new(&[Target::named(target)], options)?;

    let started = Instant::now();
    let mut waiting: Vec<Arc<dyn Directory>> = vec![source.root()?];
    let mut buffer = Vec::with_capacity(1 << 20);
    let (mut entries, mut directories, mut files, mut bytes, mut failures) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    while let Some(directory) = waiting.pop() {
        directories += 1;
        directory.own_xattrs()?;
        for name in directory.names()? {
            entries += 1;
            match directory.entry(&name) {
                Ok(Some(stat)) if stat.file_type == FileType::Directory => match directory.directory(&name) {
                    Ok(child) => waiting.push(child),
                    Err(_) => failures += 1,
                },
                Ok(Some(stat)) if stat.file_type == FileType::File && to_read => {
                    files += 1;
                    let mut file = directory.file(&name, &stat)?;
                    loop {
                        buffer.clear();
                        match file.read(1 << 20, &mut buffer)? {
                            Part::Data(count) => bytes += count as u64,
                            Part::Hole(count) => bytes += count,
                            Part::End => break,
                        }
                    }
                    file.finish()?;
                }
                Ok(_) => {}
                Err(_) => failures += 1,
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{entries} entries, {directories} directories, {files} files read, {bytes} bytes, {failures} failures");
    println!("{seconds:.3} s, {} ns for each entry", started.elapsed().as_nanos() / u128::from(entries.max(1)));
    Ok(())
}
